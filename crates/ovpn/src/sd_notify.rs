//! Tells systemd how the service fares (`sd_notify`): one datagram of `NAME=value` lines to `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;

/// True where a service manager waits for notifications; the process must then not fork.
pub(crate) fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The service is set up; connecting goes on in the background.
pub(crate) fn ready() {
    send(&format!(
        "READY=1\nSTATUS=Pre-connection initialization successful\nMAINPID={}\n",
        std::process::id()
    ));
}

/// One line of status.
pub(crate) fn status(text: &str) {
    send(&format!("STATUS={}\n", text.replace('\n', " ")));
}

/// The service could not start.
pub(crate) fn failed(text: &str) {
    send(&format!("STATUS=Failed to start up: {}\nERRNO=1\n", text.replace('\n', " ")));
}

fn send(text: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send_to(&path, text);
    }
}

fn send_to(path: &OsStr, text: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(text.as_bytes(), &address)?;
        }
        None => {
            socket.send_to(text.as_bytes(), path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_to_a_path_and_to_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt as _;
        let path = std::env::temp_dir().join(format!("ovpn-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let receiver = UnixDatagram::bind(&path).unwrap();
        send_to(path.as_os_str(), "READY=1\n").unwrap();
        let mut buf = [0; 64];
        let n = receiver.recv(&mut buf).unwrap();
        assert_eq!(&buf[..n], b"READY=1\n");
        std::fs::remove_file(&path).unwrap();

        let name = format!("ovpn-notify-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        send_to(OsStr::new(&format!("@{name}")), "STATUS=x\n").unwrap();
        let n = receiver.recv(&mut buf).unwrap();
        assert_eq!(&buf[..n], b"STATUS=x\n");
    }
}
