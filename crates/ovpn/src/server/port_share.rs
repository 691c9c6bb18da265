//! `port-share HOST PORT [DIR]`: connections that are not OpenVPN are handed to another server.
//!
//! The first bytes of a connection decide: a hard reset's length and opcode. Nothing is read before that, so that the
//! other server sees every byte. Source: OpenVPN server behaviour, "Sockets".

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ovpn_config::model::PortShare;
use tokio::net::TcpStream;

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sniff {
    /// An OpenVPN client.
    Openvpn,
    /// Anything else.
    Foreign,
    /// Too few bytes to tell.
    NeedMore,
}

/// Judges the first bytes; two are enough in doubt.
pub(crate) fn sniff(bytes: &[u8]) -> Sniff {
    let openvpn = match bytes {
        [] | [_] => return Sniff::NeedMore,
        [high, low] => (14..=255).contains(&u16::from_be_bytes([*high, *low])),
        [high, low, first, ..] => {
            let length = u16::from_be_bytes([*high, *low]);
            match first {
                0x38 => (14..=255).contains(&length),
                0x50 => (336..1279).contains(&length),
                _ => false,
            }
        }
    };
    if openvpn { Sniff::Openvpn } else { Sniff::Foreign }
}

/// Waits for the first bytes without taking them, at most `limit`.
///
/// # Errors
/// What the system said; `TimedOut`.
pub(crate) async fn judge(stream: &TcpStream, limit: Duration) -> io::Result<Sniff> {
    let look = async {
        let mut bytes = [0; 3];
        loop {
            let count = stream.peek(&mut bytes).await?;
            match sniff(bytes.get(..count).unwrap_or_default()) {
                // The end of the stream, too, is for the other server.
                Sniff::NeedMore if count == 0 => return Ok(Sniff::Foreign),
                Sniff::NeedMore => tokio::time::sleep(Duration::from_millis(20)).await,
                verdict => return Ok(verdict),
            }
        }
    };
    tokio::time::timeout(limit, look).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Hands a connection to the other server and carries bytes both ways until either side ends.
///
/// # Errors
/// When the other server cannot be reached.
pub(crate) async fn hand_over(mut stream: TcpStream, from: SocketAddr, to: &PortShare) -> io::Result<()> {
    let mut other = TcpStream::connect((to.host.as_str(), to.port)).await?;
    let _note = match &to.directory {
        Some(directory) => Some(Note::write(directory, other.local_addr()?, from)?),
        None => None,
    };
    tokio::io::copy_bidirectional(&mut stream, &mut other).await.map(drop)
}

/// A file named after our address towards the other server; it holds the client's real address.
struct Note {
    path: PathBuf,
}

impl Note {
    fn write(directory: &str, ours: SocketAddr, client: SocketAddr) -> io::Result<Self> {
        let path = PathBuf::from(directory).join(format!("[{}]:{}", ours.ip(), ours.port()));
        let note = Self { path };
        std::fs::write(&note.path, format!("[{}]:{}\n", client.ip().to_canonical(), client.port()))?;
        Ok(note)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn first_bytes() {
        let path =
            format!("{}/../../../shared/protocol/vectors/control-channel.json", env!("CARGO_MANIFEST_DIR"));
        let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = all["port_share_sniff"].as_array().unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let text = case["bytes"].as_str().unwrap();
            let bytes: Vec<u8> = (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect();
            let expected = match case["openvpn"].as_bool() {
                Some(true) => Sniff::Openvpn,
                Some(false) => Sniff::Foreign,
                None => Sniff::NeedMore,
            };
            assert_eq!(sniff(&bytes), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn the_other_server_sees_every_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to =
            PortShare { host: "127.0.0.1".into(), port: web.local_addr().unwrap().port(), directory: None };
        let address = listener.local_addr().unwrap();
        let browser = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let (stream, from) = listener.accept().await.unwrap();
        assert_eq!(judge(&stream, Duration::from_secs(5)).await.unwrap(), Sniff::Foreign);
        let proxy = tokio::spawn(async move { hand_over(stream, from, &to).await });
        let (mut stream, _) = web.accept().await.unwrap();
        let mut request = [0; 18];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"GET / HTTP/1.0\r\n\r\n");
        stream.write_all(b"hello").await.unwrap();
        drop(stream);
        assert_eq!(browser.await.unwrap(), "hello");
        proxy.await.unwrap().unwrap();
    }
}
