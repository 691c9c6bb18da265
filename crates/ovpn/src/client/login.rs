//! Username and password of a client: where they come from, and when they are forgotten.
//!
//! Order: the session token, what was entered before, the file or inline block, a person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ovpn_config::Config;
use ovpn_config::model::{AuthRetry, Credentials as Source, Material, StaticChallenge};
use ovpn_control::Credentials;

use crate::management::Handle;
use crate::outcome::Fatal;
use crate::signal::{Signal, Signals};
use crate::{materials, prompt};

/// A dynamic challenge that the server wants answered at the next login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Goes back to the server.
    pub(crate) state: String,
    /// The username, base64.
    pub(crate) username: String,
    /// The question.
    pub(crate) text: String,
    /// The answer may be shown while typed.
    pub(crate) echo: bool,
    /// An answer is required.
    pub(crate) required: bool,
}

/// What is known for the next login.
#[derive(Debug, Default)]
pub(crate) struct Login {
    entered: Option<Credentials>,
    token: Option<Credentials>,
    challenge: Option<Challenge>,
}

/// What a refused login means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was the token: try at once with the password.
    Token,
    /// `auth-retry none`: give up.
    GiveUp,
    /// Try again.
    Again,
}

impl Login {
    /// Username and password to send now; `None` where the configuration has no `auth-user-pass`. May block on a
    /// person.
    ///
    /// # Errors
    /// When a file cannot be read or nobody can be asked.
    pub(crate) fn next(&mut self, config: &Config) -> Result<Option<Credentials>, Fatal> {
        if let Some(challenge) = self.challenge.take() {
            return answer(&challenge).map(Some);
        }
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        let Some(source) = &config.auth.user_pass else { return Ok(None) };
        if let Some(entered) = &self.entered {
            return Ok(Some(entered.clone()));
        }
        let mut found = match source {
            Source::Ask => ask("Auth", None)?,
            Source::UsernameOnly => {
                Credentials { username: question("Enter Auth Username:", true)?, password: String::new() }
            }
            Source::From(material) => match two_lines("auth-user-pass", material)? {
                (Some(username), Some(password)) => Credentials { username, password },
                (username, _) => ask("Auth", username)?,
            },
        };
        if let Some(challenge) = &config.auth.static_challenge {
            add_static_answer(&mut found, challenge)?;
        } else if !config.auth.nocache {
            self.entered = Some(found.clone());
        }
        Ok(Some(found))
    }

    /// Whether the next login needs answers that only a person has.
    pub(crate) fn wants_a_person(&self, config: &Config) -> bool {
        if self.challenge.is_some() || self.token.is_some() || self.entered.is_some() {
            return false;
        }
        match &config.auth.user_pass {
            None => false,
            Some(Source::Ask | Source::UsernameOnly) => true,
            Some(Source::From(material)) => materials::read("auth-user-pass", material)
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).lines().nth(1).is_none()),
        }
    }

    /// A person answered elsewhere (the management interface).
    pub(crate) fn enter(&mut self, credentials: Credentials) {
        self.entered = Some(credentials);
    }

    /// The server gave a token: the password from now on.
    pub(crate) fn set_token(&mut self, username: Option<String>, token: String, last: Option<&Credentials>) {
        let username =
            username.or_else(|| last.map(|credentials| credentials.username.clone())).unwrap_or_default();
        self.token = Some(Credentials { username, password: token });
    }

    /// The server refused the login.
    pub(crate) fn refused(&mut self, retry: AuthRetry) -> Refused {
        if self.token.take().is_some() {
            return Refused::Token;
        }
        match retry {
            AuthRetry::None => Refused::GiveUp,
            AuthRetry::NoInteract => Refused::Again,
            AuthRetry::Interact => {
                self.entered = None;
                Refused::Again
            }
        }
    }

    /// The server wants a question answered.
    pub(crate) fn challenged(&mut self, challenge: Challenge) {
        self.challenge = Some(challenge);
    }

    /// A RESTART without its `P` flag: forget what was entered; the token stays.
    pub(crate) fn forget_entered(&mut self) {
        self.entered = None;
    }
}

/// Username and password for the next login; a person is asked through the management interface where that is
/// configured. `Err`: a signal came meanwhile.
///
/// # Errors
/// As [`Login::next`].
pub(crate) async fn obtain(
    login: &mut Login,
    config: &Config,
    management: Option<&Handle>,
    signals: &mut Signals,
) -> Result<Result<Option<Credentials>, Signal>, Fatal> {
    if let Some(management) = management.filter(|management| management.asks_passwords())
        && login.wants_a_person(config)
    {
        let challenge = config.auth.static_challenge.as_ref().map_or_else(String::new, |challenge| {
            let flags = u8::from(challenge.echo) | u8::from(challenge.concat) << 1;
            format!(" SC:{flags},{}", challenge.text)
        });
        tokio::select! {
            credentials = management.ask("Auth", &challenge) => login.enter(credentials),
            signal = super::next_but_usr2(signals) => return Ok(Err(signal)),
        }
    }
    login.next(config).map(Ok)
}

fn question(text: &str, echo: bool) -> Result<String, Fatal> {
    prompt::ask(text, echo).map_err(Fatal)
}

/// Asks for what is missing.
///
/// # Errors
/// When nobody can be asked.
pub(super) fn ask(kind: &str, username: Option<String>) -> Result<Credentials, Fatal> {
    let username = match username {
        Some(username) => username,
        None => question(&format!("Enter {kind} Username:"), true)?,
    };
    Ok(Credentials { username, password: question(&format!("Enter {kind} Password:"), false)? })
}

/// Username and password of a file or block: its first two lines, as far as it has them.
///
/// # Errors
/// When it cannot be read.
pub(super) fn two_lines(
    option: &str,
    material: &Material,
) -> Result<(Option<String>, Option<String>), Fatal> {
    let bytes = materials::read(option, material)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(|line| line.trim_end_matches('\r').to_owned());
    Ok((lines.next().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()), lines.next()))
}

fn add_static_answer(credentials: &mut Credentials, challenge: &StaticChallenge) -> Result<(), Fatal> {
    let response = question(&format!("CHALLENGE: {}", challenge.text), challenge.echo)?;
    credentials.password = static_answer(&credentials.password, &response, challenge.concat);
    Ok(())
}

fn static_answer(password: &str, response: &str, concat: bool) -> String {
    if concat {
        format!("{password}{response}")
    } else {
        format!("SCRV1:{}:{}", STANDARD.encode(password), STANDARD.encode(response))
    }
}

fn answer(challenge: &Challenge) -> Result<Credentials, Fatal> {
    let response = if challenge.required {
        question(&format!("CHALLENGE: {}", challenge.text), challenge.echo)?
    } else {
        String::new()
    };
    let username = STANDARD
        .decode(&challenge.username)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Fatal("the server's challenge names no valid username".to_owned()))?;
    Ok(Credentials { username, password: format!("CRV1::{}::{response}", challenge.state) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_config::model::Material;

    fn config() -> Config {
        let mut config = Config::default();
        config.auth.user_pass = Some(Source::From(Material::Inline("alice\nsecret\n".to_owned())));
        config
    }

    #[test]
    fn a_token_replaces_the_password_until_it_is_refused() {
        let config = config();
        let mut login = Login::default();
        let first = login.next(&config).unwrap().unwrap();
        assert_eq!((first.username.as_str(), first.password.as_str()), ("alice", "secret"));
        login.set_token(None, "SESS_ID".to_owned(), Some(&first));
        let next = login.next(&config).unwrap().unwrap();
        assert_eq!((next.username.as_str(), next.password.as_str()), ("alice", "SESS_ID"));
        login.forget_entered();
        assert_eq!(login.next(&config).unwrap().unwrap().password, "SESS_ID");
        assert_eq!(login.refused(AuthRetry::None), Refused::Token);
        assert_eq!(login.next(&config).unwrap().unwrap().password, "secret");
        assert_eq!(login.refused(AuthRetry::None), Refused::GiveUp);
        assert_eq!(login.refused(AuthRetry::NoInteract), Refused::Again);
    }

    #[test]
    fn nothing_is_sent_without_auth_user_pass() {
        assert_eq!(Login::default().next(&Config::default()).unwrap(), None);
    }

    #[test]
    fn challenge_forms() {
        assert_eq!(static_answer("pw", "123", false), "SCRV1:cHc=:MTIz");
        assert_eq!(static_answer("pw", "123", true), "pw123");
        let challenge = Challenge {
            state: "S".to_owned(),
            username: "Ym9i".to_owned(),
            text: String::new(),
            echo: true,
            required: false,
        };
        let answered = answer(&challenge).unwrap();
        assert_eq!((answered.username.as_str(), answered.password.as_str()), ("bob", "CRV1::S::"));
    }
}
