//! An HTTP proxy's part of a connection: CONNECT, and the proof of a password where it is asked for.
//!
//! ```text
//!   ── CONNECT vpn.example:1194 HTTP/1.0 ──▶
//!   ◀── 407, Proxy-Authenticate: … ────────   again on a new connection, with Proxy-Authorization
//!   ◀── 200 ───────────────────────────────   from here on it is the server's stream
//! ```
//!
//! Pure: text in, text out. Basic and Digest are spoken; NTLM is refused by name.
//! Source: RFC 9110 (CONNECT, 407), RFC 7617 (Basic), RFC 7616 (Digest).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ovpn_config::model::{HttpProxy, HttpProxyAuth};
use ovpn_control::Credentials;
use ovpn_crypto::http_digest::{DigestRequest, Hash, NONCE_COUNT};

use super::ProxyError;

/// The longest answer that is read, bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// The way to an open tunnel through one proxy.
#[derive(Debug)]
pub(crate) struct Dialogue<'a> {
    options: &'a HttpProxy,
    /// `HOST:PORT` of the server.
    target: String,
    proof: Proof,
    /// A proof was sent.
    proved: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    None,
    Basic,
    Digest(Challenge),
}

/// A proxy's Digest challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenge {
    hash: Hash,
    session: bool,
    algorithm: Option<String>,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    qop: bool,
}

/// What follows from the proxy's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The stream is the server's now.
    Open,
    /// Connect again and send the next request.
    Again,
}

impl<'a> Dialogue<'a> {
    /// Begins, for a server's name or address and port.
    pub(crate) fn new(options: &'a HttpProxy, host: &str, port: u16) -> Self {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let proof = if options.auth == HttpProxyAuth::Basic { Proof::Basic } else { Proof::None };
        Self { options, target, proof, proved: false }
    }

    /// Whether the next request needs username and password.
    pub(crate) fn wants_credentials(&self) -> bool {
        self.proof != Proof::None
    }

    /// The next request. `cnonce` is fresh randomness, hexadecimal.
    pub(crate) fn request(&mut self, credentials: Option<&Credentials>, cnonce: &str) -> String {
        let Self { options, target, .. } = &*self;
        let mut text = format!("CONNECT {target} HTTP/{}\r\n", options.version);
        let own_host = options.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !own_host {
            text.push_str(&format!("Host: {target}\r\n"));
        }
        if let Some(agent) = &options.agent {
            text.push_str(&format!("User-Agent: {agent}\r\n"));
        }
        for (name, value) in &options.headers {
            text.push_str(&if value.is_empty() {
                format!("{name}\r\n")
            } else {
                format!("{name}: {value}\r\n")
            });
        }
        if let Some(credentials) = credentials {
            let Credentials { username, password } = credentials;
            match &self.proof {
                Proof::None => {}
                Proof::Basic => {
                    let word = STANDARD.encode(format!("{username}:{password}"));
                    text.push_str(&format!("Proxy-Authorization: Basic {word}\r\n"));
                    self.proved = true;
                }
                Proof::Digest(challenge) => {
                    let line = challenge.answer(username, password, target, cnonce);
                    text.push_str(&format!("Proxy-Authorization: Digest {line}\r\n"));
                    self.proved = true;
                }
            }
        }
        text.push_str("\r\n");
        text
    }

    /// The proxy's answer: its head, up to the empty line.
    ///
    /// # Errors
    /// A sentence about what the proxy wants or refuses.
    pub(crate) fn response(&mut self, head: &[u8]) -> Result<Step, ProxyError> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n").flat_map(|line| line.split('\n'));
        let status_line = lines.next().unwrap_or_default();
        let mut words = status_line.split_whitespace();
        let status = words
            .next()
            .filter(|word| word.starts_with("HTTP/"))
            .and_then(|_| words.next())
            .and_then(|word| word.parse::<u16>().ok());
        match status {
            Some(200..=299) => Ok(Step::Open),
            Some(407) => {
                let offers: Vec<&str> = lines
                    .filter_map(|line| line.split_once(':'))
                    .filter(|(name, _)| name.trim().eq_ignore_ascii_case("proxy-authenticate"))
                    .map(|(_, value)| value.trim())
                    .collect();
                self.challenged(&offers)
            }
            Some(_) => {
                Err(ProxyError::Refused(format!("the HTTP proxy answered `{}`", printable(status_line))))
            }
            None => Err(ProxyError::Refused(format!(
                "what listens there is no HTTP proxy; it said `{}`",
                printable(status_line)
            ))),
        }
    }

    fn challenged(&mut self, offers: &[&str]) -> Result<Step, ProxyError> {
        let scheme = |offer: &str| offer.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let digest =
            offers.iter().filter(|offer| scheme(offer) == "digest").find_map(|o| Challenge::parse(o));
        let stale = offers.iter().any(|offer| {
            parameters(offer)
                .any(|(name, value)| name.eq_ignore_ascii_case("stale") && value.eq_ignore_ascii_case("true"))
        });
        if self.proved && !stale {
            return Err(ProxyError::Password("the HTTP proxy refuses username and password".to_owned()));
        }
        let auth = self.options.auth;
        if auth == HttpProxyAuth::None {
            return Err(ProxyError::Refused(
                "the HTTP proxy wants a password: give `http-proxy HOST PORT auto`, or a file in the place of `auto`"
                    .to_owned(),
            ));
        }
        if let (Some(challenge), false) = (digest, auth == HttpProxyAuth::Basic) {
            self.proof = Proof::Digest(challenge);
            return Ok(Step::Again);
        }
        let basic = offers.iter().any(|offer| scheme(offer) == "basic");
        if basic && auth == HttpProxyAuth::Auto {
            self.proof = Proof::Basic;
            return Ok(Step::Again);
        }
        let names: Vec<String> = offers.iter().map(|offer| printable(&scheme(offer))).collect();
        let wish = match auth {
            HttpProxyAuth::Digest => "`digest` is asked for in the configuration",
            HttpProxyAuth::AutoNoClearText => "`auto-nct` forbids a password in clear text",
            _ => "basic and digest authentication are supported",
        };
        Err(ProxyError::Refused(format!("the HTTP proxy offers only {}; {wish}", names.join(", "))))
    }
}

impl Challenge {
    /// `None` for a hash or a protection that is not known; another offer may do.
    fn parse(offer: &str) -> Option<Self> {
        let value = |wanted: &str| {
            parameters(offer).find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        let algorithm = value("algorithm");
        let (hash, session) = match algorithm.as_deref().unwrap_or("MD5").to_ascii_uppercase().as_str() {
            "MD5" => (Hash::Md5, false),
            "MD5-SESS" => (Hash::Md5, true),
            "SHA-256" => (Hash::Sha256, false),
            "SHA-256-SESS" => (Hash::Sha256, true),
            _ => return None,
        };
        let qop = match value("qop") {
            None => false,
            Some(list) if list.split(',').any(|word| word.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
        };
        Some(Self {
            hash,
            session,
            algorithm,
            realm: value("realm").unwrap_or_default(),
            nonce: value("nonce")?,
            opaque: value("opaque"),
            qop,
        })
    }

    fn answer(&self, username: &str, password: &str, uri: &str, cnonce: &str) -> String {
        let request = DigestRequest {
            hash: self.hash,
            session: self.session,
            realm: &self.realm,
            nonce: &self.nonce,
            cnonce: (self.qop || self.session).then_some(cnonce),
            method: "CONNECT",
            uri,
        };
        let response = request.response(username, password);
        let mut line = format!(
            "username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(username),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(uri)
        );
        if let Some(algorithm) = &self.algorithm {
            line.push_str(&format!(", algorithm={algorithm}"));
        }
        if let Some(opaque) = &self.opaque {
            line.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        if self.qop {
            line.push_str(&format!(", qop=auth, nc={NONCE_COUNT}, cnonce={}", quoted(cnonce)));
        }
        line
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// For messages: what the other side said, without control characters and not too long.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// The parameters of an offer: `Scheme name=value, name="quoted value"`.
fn parameters(offer: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = offer.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let mut value = String::new();
        if let Some(inside) = after.strip_prefix('"') {
            let mut chars = inside.char_indices();
            let mut end = inside.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                    other => value.push(other),
                }
            }
            rest = inside.get(end..).unwrap_or_default();
        } else {
            let end = after.find([',', ' ']).unwrap_or(after.len());
            value.push_str(after.get(..end).unwrap_or_default());
            rest = after.get(end..).unwrap_or_default();
        }
        Some((name.trim(), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(auth: HttpProxyAuth) -> HttpProxy {
        HttpProxy {
            host: "proxy".to_owned(),
            port: 8080,
            auth,
            credentials: None,
            version: "1.0".to_owned(),
            agent: None,
            headers: Vec::new(),
        }
    }

    fn alice() -> Credentials {
        Credentials { username: "alice".to_owned(), password: "open sesame".to_owned() }
    }

    #[test]
    fn a_plain_request_and_its_headers() {
        let mut options = options(HttpProxyAuth::None);
        options.version = "1.1".to_owned();
        options.agent = Some("curl".to_owned());
        options.headers = vec![("X-A".to_owned(), "b".to_owned()), ("X-C: d".to_owned(), String::new())];
        let mut dialogue = Dialogue::new(&options, "fd00::1", 443);
        assert!(!dialogue.wants_credentials());
        assert_eq!(
            dialogue.request(None, ""),
            "CONNECT [fd00::1]:443 HTTP/1.1\r\nHost: [fd00::1]:443\r\nUser-Agent: curl\r\nX-A: b\r\nX-C: d\r\n\r\n"
        );
        assert_eq!(dialogue.response(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(Step::Open));
        assert!(dialogue.response(b"HTTP/1.1 403 No\r\n\r\n").unwrap_err().to_string().contains("403 No"));
        assert!(dialogue.response(b"SSH-2.0-x\r\n").unwrap_err().to_string().contains("no HTTP proxy"));
    }

    #[test]
    fn basic_is_sent_at_once_and_a_refusal_is_the_end() {
        let options = options(HttpProxyAuth::Basic);
        let mut dialogue = Dialogue::new(&options, "vpn", 1194);
        assert!(dialogue.wants_credentials());
        let request = dialogue.request(Some(&alice()), "");
        assert!(request.contains("\r\nProxy-Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n"), "{request}");
        let answer = b"HTTP/1.0 407 x\r\nProxy-Authenticate: Basic realm=\"r\"\r\n\r\n";
        assert!(matches!(dialogue.response(answer), Err(ProxyError::Password(_))));
    }

    #[test]
    fn digest_is_preferred_and_answers_what_was_asked() {
        let options = options(HttpProxyAuth::Auto);
        let mut dialogue = Dialogue::new(&options, "vpn", 1194);
        assert!(!dialogue.request(None, "").contains("Authorization"));
        let answer = b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\n\
            proxy-authenticate: Digest realm=\"a, \\\"b\\\"\", qop=\"auth,auth-int\", nonce=\"n1\", opaque=o\r\n\r\n";
        assert_eq!(dialogue.response(answer), Ok(Step::Again));
        let request = dialogue.request(Some(&alice()), "c1");
        let expected = DigestRequest {
            hash: Hash::Md5,
            session: false,
            realm: "a, \"b\"",
            nonce: "n1",
            cnonce: Some("c1"),
            method: "CONNECT",
            uri: "vpn:1194",
        }
        .response("alice", "open sesame");
        for wanted in [
            "Proxy-Authorization: Digest username=\"alice\", realm=\"a, \\\"b\\\"\", nonce=\"n1\", uri=\"vpn:1194\"",
            &format!("response=\"{expected}\", opaque=\"o\", qop=auth, nc=00000001, cnonce=\"c1\"\r\n"),
        ] {
            assert!(request.contains(wanted), "{wanted}\n{request}");
        }
    }

    #[test]
    fn what_is_not_spoken_is_named() {
        let ntlm = b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        let with = |auth, answer: &[u8]| {
            let options = options(auth);
            Dialogue::new(&options, "vpn", 1194).response(answer).unwrap_err().to_string()
        };
        assert!(with(HttpProxyAuth::Auto, ntlm).contains("only ntlm, negotiate"));
        assert!(with(HttpProxyAuth::None, ntlm).contains("wants a password"));
        let basic = b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=x\r\n\r\n";
        assert!(with(HttpProxyAuth::AutoNoClearText, basic).contains("clear text"));
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(head in proptest::collection::vec(any::<u8>(), 0..300)) {
            let options = options(HttpProxyAuth::Auto);
            let mut text = b"HTTP/1.1 407 x\r\nProxy-Authenticate: Digest ".to_vec();
            text.extend(&head);
            let mut dialogue = Dialogue::new(&options, "vpn", 1194);
            let _ = dialogue.response(&text);
            let _ = dialogue.response(&head);
        }
    }
}
