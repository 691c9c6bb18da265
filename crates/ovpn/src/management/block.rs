//! Questions that a program answers with several lines: a signature, a certificate.
//!
//! ```text
//!   daemon  ── >PK_SIGN:MTIzNA==,ECDSA ──▶ program
//!   program ── pk-sig, base64 lines, END ──▶ daemon
//! ```
//!
//! Answers bear no number: one question waits at a time, the others stand in line.

use tokio::sync::{Mutex as Line, oneshot};

use super::service::lock;
use super::{Answer, Handle};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// `pk-sig`, or `rsa-sig` as old programs say.
    Signature,
    /// `certificate`.
    Certificate,
}

/// A question, and in which words it is put to programs of which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// `data` in base64, and how it is to be signed.
    Sign { data: String, algorithm: String },
    /// The hint of `management-external-cert`.
    Certificate(String),
}

impl Question {
    /// The line for a program that speaks this version of the interface.
    pub(crate) fn line(&self, version: u32) -> String {
        match self {
            Self::Sign { data, .. } if version < 2 => format!(">RSA_SIGN:{data}"),
            Self::Sign { data, .. } if version == 2 => format!(">PK_SIGN:{data}"),
            Self::Sign { data, algorithm } => format!(">PK_SIGN:{data},{algorithm}"),
            Self::Certificate(hint) => format!(">NEED-CERTIFICATE:{hint}"),
        }
    }

    const fn block(&self) -> Block {
        match self {
            Self::Sign { .. } => Block::Signature,
            Self::Certificate(_) => Block::Certificate,
        }
    }
}

/// The question that waits, and where its answer goes.
#[derive(Default)]
pub(super) struct Waiting {
    turn: Line<()>,
    answer: std::sync::Mutex<Option<(Question, oneshot::Sender<Vec<String>>)>>,
}

impl Waiting {
    /// A program has sent a block.
    pub(super) fn entered(&self, name: &str, block: Block, lines: Vec<String>) -> Answer {
        let taken = lock(&self.answer).take_if(|(question, _)| question.block() == block);
        match taken {
            Some((_, answer)) => {
                let _ = answer.send(lines);
                Answer::Success(format!("{name} command succeeded"))
            }
            None => Answer::Error(format!("The {name} command is not currently available")),
        }
    }
}

/// Takes a question back that nobody waits for any more.
struct Asked<'a>(&'a Handle);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        *lock(&self.0.inner.waiting.answer) = None;
        lock(&self.0.inner.shared).pending = None;
    }
}

impl Handle {
    /// Asks, and waits for the lines of the answer for as long as it takes.
    pub(crate) async fn ask_block(&self, question: Question) -> Vec<String> {
        let waiting = &self.inner.waiting;
        let _turn = waiting.turn.lock().await;
        let (sender, answer) = oneshot::channel();
        *lock(&waiting.answer) = Some((question.clone(), sender));
        let _asked = Asked(self);
        self.put_question(question);
        // The sender stays where it is until a program answers.
        answer.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_asked_in_their_own_words() {
        let question = Question::Sign { data: "AAAA".to_owned(), algorithm: "ECDSA".to_owned() };
        let lines = [1, 2, 3, 5].map(|version| question.line(version));
        assert_eq!(lines, [">RSA_SIGN:AAAA", ">PK_SIGN:AAAA", ">PK_SIGN:AAAA,ECDSA", ">PK_SIGN:AAAA,ECDSA"]);
        assert_eq!(Question::Certificate("token".to_owned()).line(1), ">NEED-CERTIFICATE:token");
    }

    #[test]
    fn only_what_was_asked_is_taken() {
        let waiting = Waiting::default();
        let refused = |name: &str| Answer::Error(format!("The {name} command is not currently available"));
        assert_eq!(waiting.entered("pk-sig", Block::Signature, Vec::new()), refused("pk-sig"));
        let (sender, mut answer) = oneshot::channel();
        *lock(&waiting.answer) = Some((Question::Certificate(String::new()), sender));
        assert_eq!(waiting.entered("pk-sig", Block::Signature, Vec::new()), refused("pk-sig"));
        let done = Answer::Success("certificate command succeeded".to_owned());
        assert_eq!(waiting.entered("certificate", Block::Certificate, vec!["x".to_owned()]), done);
        assert_eq!(answer.try_recv(), Ok(vec!["x".to_owned()]));
        assert_eq!(waiting.entered("certificate", Block::Certificate, Vec::new()), refused("certificate"));
    }
}
