//! The sockets: one on which `ovpn status` asks, one from which Prometheus reads.
//!
//! The status socket needs no words: whoever connects gets one snapshot as JSON, and the end. Only the owner may
//! connect. The metrics are served over HTTP to this machine only.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ovpn_config::Config;
use ovpn_config::model::{MetricsAddress, Role, StatusSocket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::board::board;
use super::metrics;
use crate::outcome::Fatal;
use crate::setup::Setup;

/// Where status sockets are if nobody says otherwise.
pub(super) const RUN_DIR: &str = "/run/ovpn";

/// Readers that are served at once; more wait.
const READERS: usize = 16;
/// A reader that takes longer is left alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest head of an HTTP request, bytes.
const MOST_HEAD: usize = 8192;

/// Serves until it is dropped; the sockets' files go with it.
pub(crate) struct Service {
    _tasks: JoinSet<()>,
    _files: Vec<Unlink>,
}

struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        // It may be gone, or its folder out of reach by now.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Introduces the tunnel to the board and opens the sockets.
///
/// # Errors
/// Where a socket that the configuration names cannot be opened.
pub(crate) fn start(setup: &Setup) -> Result<Service, Fatal> {
    let config = &setup.config;
    let name = name(config, setup.file.as_deref());
    let mode = match config.role {
        Role::Client => "client",
        Role::Server => "server",
        Role::Peer(_) => "p2p",
    };
    board().introduce(&name, mode, setup.started);
    let mut tasks = JoinSet::new();
    let mut files = Vec::new();
    let readers = Arc::new(Semaphore::new(READERS));
    let opened = match &config.process.status_socket {
        StatusSocket::Off => None,
        StatusSocket::Path(path) => Some(
            unix_socket(Path::new(path))
                .map_err(|error| Fatal(format!("--status-socket {path}: {error}")))?,
        ),
        StatusSocket::Default => match default_socket(&name) {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::info!(
                    "`ovpn status` cannot ask this tunnel: {RUN_DIR}/{name}.sock: {error}; --status-socket PATH puts it elsewhere"
                );
                None
            }
        },
    };
    if let Some((listener, path)) = opened {
        tracing::debug!("status socket: {}", path.display());
        files.push(Unlink(path));
        tasks.spawn(serve(Listening::Unix(listener), Arc::clone(&readers), tell));
    }
    match &config.process.metrics {
        None => {}
        Some(MetricsAddress::Tcp(address)) => {
            let fatal = |error: io::Error| Fatal(format!("--metrics {address}: {error}; take another port"));
            let listener = std::net::TcpListener::bind(address).map_err(fatal)?;
            listener.set_nonblocking(true).map_err(fatal)?;
            let listener = TcpListener::from_std(listener).map_err(fatal)?;
            tracing::info!("Metrics: http://{address}/metrics");
            tasks.spawn(serve(Listening::Tcp(listener), readers, answer));
        }
        Some(MetricsAddress::Unix(path)) => {
            let (listener, file) = unix_socket(Path::new(path))
                .map_err(|error| Fatal(format!("--metrics unix:{path}: {error}")))?;
            tracing::info!("Metrics: {}", file.display());
            files.push(Unlink(file));
            tasks.spawn(serve(Listening::Unix(listener), readers, answer));
        }
    }
    Ok(Service { _tasks: tasks, _files: files })
}

enum Listening {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Answers whoever connects, so many at a time, each within [`PATIENCE`].
async fn serve<F>(listener: Listening, readers: Arc<Semaphore>, answer: fn(Box<dyn Stream>) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let stream: io::Result<Box<dyn Stream>> = match &listener {
            Listening::Unix(unix) => unix.accept().await.map(|(stream, _)| Box::new(stream) as _),
            Listening::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| Box::new(stream) as _),
        };
        let Ok(stream) = stream else {
            // Too many open files, say: that passes.
            tokio::time::sleep(PATIENCE / 10).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&readers).acquire_owned().await else { return };
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, answer(stream)).await;
            drop(permit);
        });
    }
}

/// The configuration file's name without its ending; else the device's.
fn name(config: &Config, file: Option<&str>) -> String {
    let stem =
        file.and_then(|file| Path::new(file).file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    let name = stem.or_else(|| config.device.name.clone()).unwrap_or_else(|| "tunnel".to_owned());
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    name.chars().map(|c| if fine(c) { c } else { '_' }).collect()
}

/// `/run/ovpn/NAME.sock`, or with the process's number where another tunnel has that name.
fn default_socket(name: &str) -> io::Result<(UnixListener, PathBuf)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(RUN_DIR)?;
    sweep(Path::new(RUN_DIR));
    let path = Path::new(RUN_DIR).join(format!("{name}.sock"));
    match unix_socket(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            unix_socket(&Path::new(RUN_DIR).join(format!("{name}-{}.sock", std::process::id())))
        }
        other => other,
    }
}

/// Removes the sockets of tunnels that were killed. One has its place here only once somebody listens to it.
fn sweep(dir: &Path) {
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let dead = path.extension().is_some_and(|ending| ending == "sock")
            && is_socket(&path)
            && std::os::unix::net::UnixStream::connect(&path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if dead && std::fs::remove_file(&path).is_ok() {
            tracing::debug!("{} was left by a tunnel that is gone", path.display());
        }
    }
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket())
}

/// Listens at `path`, for the owner only. What a process that is gone left there is replaced.
fn unix_socket(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it; name another path"));
    }
    if path.symlink_metadata().is_ok() && !is_socket(path) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
    }
    let path = std::path::absolute(path)?;
    let file = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let fresh = path.with_file_name(format!(".{file}.{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    let placed = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&fresh, &path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    Ok((listener, path))
}

async fn tell(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut text = serde_json::to_vec(&board().snapshot()).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}

/// Answers one HTTP request.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        if count == 0 || head.len() + count > MOST_HEAD {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match (method, target.split('?').next().unwrap_or_default()) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", metrics::render(&board().snapshot())),
        ("GET" | "HEAD", _) => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let mut reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        metrics::CONTENT_TYPE,
        body.len()
    );
    if method != "HEAD" {
        reply.push_str(&body);
    }
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(request: &str) -> String {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let answer = tokio::spawn(answer(theirs));
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        ours.read_to_string(&mut reply).await.unwrap();
        answer.await.unwrap().unwrap();
        reply
    }

    #[tokio::test]
    async fn http_as_scrapers_speak_it() {
        let reply = asked("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("\novpn_handshakes_started_total "), "{body}");
        assert!(asked("HEAD /metrics HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\n"));
        assert!(asked("GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
        assert!(asked("POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test]
    async fn the_socket_is_the_owners_and_goes_with_the_service() {
        let dir = std::env::temp_dir().join(format!("ovpn-status-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.sock");
        // A dead process's socket is replaced; a live one's is not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, file) = unix_socket(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(unix_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((listener, Unlink(file)));
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(unix_socket(&path).is_err(), "a file is never replaced");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_killed_tunnels_left_is_swept() {
        let dir = std::env::temp_dir().join(format!("ovpn-sweep-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.join("dead.sock")).unwrap());
        let _alive = std::os::unix::net::UnixListener::bind(dir.join("alive.sock")).unwrap();
        std::fs::write(dir.join("file.sock"), "mine").unwrap();
        sweep(&dir);
        let left = |name| dir.join(name).exists();
        assert_eq!([left("dead.sock"), left("alive.sock"), left("file.sock")], [false, true, true]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn names() {
        let config = Config::default();
        assert_eq!(name(&config, Some("/etc/openvpn/of fice.ovpn")), "of_fice");
        assert_eq!(name(&config, None), "tunnel");
    }
}
