//! The management interface's socket: listening, or calling a program that listens.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use ovpn_config::Config;
use ovpn_config::model::{Ifconfig, ManagementAddress, Role};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::service::Habits;
use super::{DaemonMode, Handle, Shared};
use crate::outcome::Fatal;
use crate::signal::Signal;
use crate::{prompt, version};

/// Opens the interface as configured; `None` where there is none. `signals` takes what programs throw.
///
/// # Errors
/// When the address or the password file cannot be used.
pub(crate) async fn start(
    config: &Config,
    signals: mpsc::UnboundedSender<Signal>,
) -> Result<Option<Handle>, Fatal> {
    let options = &config.management;
    let Some(address) = &options.address else { return Ok(None) };
    let mode = if config.role == Role::Server { DaemonMode::Server } else { DaemonMode::Client };
    let cache = usize::try_from(options.log_cache).unwrap_or(250);
    let mut shared = Shared::new(mode, version::title(), std::process::id(), cache);
    shared.hold = options.hold;
    shared.password = options.password_file.as_deref().map(password).transpose()?;
    let habits = Habits {
        query_passwords: options.query_passwords,
        signal: options.signal,
        forget: options.forget_disconnect,
        up_down: options.up_down,
        client_auth: options.client_auth,
    };
    let handle = Handle::new(shared, habits, signals);
    let fatal = |error: io::Error| Fatal(format!("MANAGEMENT: cannot use {}: {error}", shown(address)));
    match (address, options.client) {
        (ManagementAddress::Tcp(host, port), false) => {
            let listener = TcpListener::bind((host.as_str(), *port)).await.map_err(fatal)?;
            tracing::info!("MANAGEMENT: TCP Socket listening on {host}:{port}");
            accept_tcp(handle.clone(), listener);
        }
        (ManagementAddress::Tunnel(port), false) => {
            let local = match config.device.ifconfig {
                Some(Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. }) => local,
                None => {
                    return Err(Fatal(
                        "management tunnel needs an own tunnel address in the configuration (ifconfig or server): \
                         name an address of this host instead"
                            .to_owned(),
                    ));
                }
            };
            // The address comes with the device, which is not there yet.
            let listener = free_bound((local, *port).into()).map_err(fatal)?;
            tracing::info!("MANAGEMENT: TCP Socket listening on {local}:{port}");
            accept_tcp(handle.clone(), listener);
        }
        (ManagementAddress::Unix(path), false) => {
            let allowed = Allowed::of(options.client_user.as_deref(), options.client_group.as_deref())?;
            // A socket that a former process left behind is in the way.
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path).map_err(fatal)?;
            tracing::info!("MANAGEMENT: unix domain socket listening on {path}");
            accept_unix(handle.clone(), listener, allowed);
        }
        (ManagementAddress::Tcp(host, port), true) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(fatal)?;
            tracing::info!("MANAGEMENT: Connected to management server at {host}:{port}");
            let handle = handle.clone();
            tokio::spawn(async move { handle.called(stream).await });
        }
        (ManagementAddress::Unix(path), true) => {
            let stream = UnixStream::connect(path).await.map_err(fatal)?;
            tracing::info!("MANAGEMENT: Connected to management server at {path}");
            let handle = handle.clone();
            tokio::spawn(async move { handle.called(stream).await });
        }
        (ManagementAddress::Tunnel(_), true) => {
            return Err(Fatal("management-client needs an address to connect to, not `tunnel`".to_owned()));
        }
    }
    Ok(Some(handle))
}

/// Takes away what an interface leaves in the file system.
pub(crate) fn remove_socket(config: &Config) {
    if let Some(ManagementAddress::Unix(path)) = &config.management.address
        && !config.management.client
    {
        // After privileges are given up its directory may forbid it; the next start takes it away.
        let _ = std::fs::remove_file(Path::new(path));
    }
}

fn shown(address: &ManagementAddress) -> String {
    match address {
        ManagementAddress::Tcp(host, port) => format!("{host}:{port}"),
        ManagementAddress::Tunnel(port) => format!("tunnel:{port}"),
        ManagementAddress::Unix(path) => path.clone(),
    }
}

fn password(file: &str) -> Result<String, Fatal> {
    if file == "stdin" {
        return prompt::ask("Enter Management Password:", false).map_err(Fatal);
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fatal(format!("--management password file {file}: {error}")))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn free_bound(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_freebind_v4(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    TcpListener::from_std(socket.into())
}

fn accept_tcp(handle: Handle, listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            tracing::info!("MANAGEMENT: Client connected from {from}");
            handle.serve(stream).await;
        }
    });
}

fn accept_unix(handle: Handle, listener: UnixListener, allowed: Allowed) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let peer = stream.peer_cred().map(|peer| (peer.uid(), peer.gid()));
            match peer {
                Ok((uid, gid)) if allowed.admits(uid, gid) => {
                    tracing::info!("MANAGEMENT: Client connected");
                    handle.serve(stream).await;
                }
                Ok((uid, gid)) => tracing::warn!(
                    "MANAGEMENT: a program of user {uid}, group {gid} was turned away \
                     (management-client-user, management-client-group)"
                ),
                Err(error) => tracing::warn!("MANAGEMENT: cannot tell who connected: {error}"),
            }
        }
    });
}

/// `management-client-user` and `management-client-group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Allowed {
    fn of(user: Option<&str>, group: Option<&str>) -> Result<Self, Fatal> {
        let uid = user
            .map(|name| {
                ovpn_sys::privileges::user(name)
                    .map(|user| user.uid)
                    .map_err(|error| Fatal(format!("--management-client-user {name}: {error}")))
            })
            .transpose()?;
        let gid = group
            .map(|name| {
                ovpn_sys::privileges::group(name)
                    .map_err(|error| Fatal(format!("--management-client-group {name}: {error}")))
            })
            .transpose()?;
        Ok(Self { uid, gid })
    }

    fn admits(self, uid: u32, gid: u32) -> bool {
        self.uid.is_none_or(|wanted| wanted == uid) && self.gid.is_none_or(|wanted| wanted == gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_connect() {
        let root = Allowed::of(Some("root"), None).unwrap();
        assert!(root.admits(0, 5) && !root.admits(1, 0));
        let group = Allowed::of(None, Some("root")).unwrap();
        assert!(group.admits(7, 0) && !group.admits(0, 1));
        assert!(Allowed::of(Some("nobody-of-that-name"), None).is_err());
    }
}
