//! The engine as a process of its own: `ovpn engine IFNAME [--mode p2p|mp] [--foreground]`.
//!
//! ```text
//!   ovpn-cli, ovpn …  ── RemoteEngine ──▶ /run/ovpn/<netns>/<ifname>.sock ──▶ Server ──▶ Engine (TUN, sockets)
//!     holds a RemotePort ◀────────── control packets (socket pair) ─────────▶ Relay ──▶ ControlPort
//! ```
//!
//! The process holds the device; its clients come and go. They speak the kernel's netlink messages
//! ([`ovpn_dco::netlink`]), one a datagram, and pass sockets along as descriptors. A client that dies takes its
//! transports with it, and their peers (`transport-disconnect`), and nothing else. An engine that dies shows to its
//! clients as [`Event::DataPlaneGone`](ovpn_dco::Event::DataPlaneGone), and as
//! [`ErrorKind::Gone`] from every call.

mod client;
#[cfg(test)]
mod conformance;
mod control_packet;
pub(crate) mod path;
mod relay;
mod remote_port;
mod server;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use ovpn_dco::{Error, ErrorKind, Mode, Result};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_sys::background::{Background, Split, split};
use ovpn_sys::seqpacket::Listener;
use ovpn_sys::wake::Wake;

pub(crate) use client::{RemoteEngine, RemoteEvents};
use server::{End, Server};

/// Type of the message that ends an engine, rtnetlink's.
const RTM_DELLINK: u16 = 17;

/// Flag of a subscription: begin with what is remembered.
const HISTORY: u16 = 0x800;

pub(crate) const HELP: &str = "\
Runs the userspace data plane as a process of its own, as the kernel's driver
would run in the kernel.

Usage: ovpn engine IFNAME [--mode p2p|mp] [--foreground]

  --mode p2p|mp  one peer (default), or many
  --foreground   stay in the foreground
  --help         this text

It takes the kernel driver's netlink messages over
/run/ovpn/NAMESPACE/IFNAME.sock; `ovpn cli` speaks them.

Exit code: 0 done, 2 wrong use, else an errno, negative, in 8 bits.

Examples:
  ovpn engine tun0
  ovpn engine tun0 --mode mp --foreground
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    iface: String,
    mode: Mode,
    foreground: bool,
}

/// Runs `ovpn engine` with the arguments after that word.
pub(crate) fn run(words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(words) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("ovpn engine: {wrong}; `ovpn engine --help` shows how");
            return ExitCode::from(2);
        }
    };
    if options.foreground {
        return ended(serve(&options, None));
    }
    match split() {
        Ok(Split::Waiting(waiting)) => waiting.status().into(),
        Ok(Split::Background(background)) => ended(serve(&options, Some(background))),
        Err(error) => ended(Err(error.into())),
    }
}

/// Starts an engine in the background and returns when it serves its device.
///
/// # Errors
/// With what the engine exited with: an errno.
pub(crate) fn start(iface: &str, mode: Mode) -> Result<()> {
    let mode = match mode {
        Mode::P2p => "p2p",
        Mode::MultiPeer => "mp",
    };
    let status = Command::new(std::env::current_exe()?)
        .arg0("ovpn")
        .args(["engine", iface, "--mode", mode])
        .status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => {
            let error = io::Error::from_raw_os_error((256 - code) & 0xFF);
            Err(Error::new(Error::from(error).kind(), format!("no engine for {iface}")))
        }
        None => Err(Error::new(ErrorKind::Gone, format!("the engine for {iface} died while starting"))),
    }
}

fn parse(words: &[String]) -> std::result::Result<Options, String> {
    let mut options = Options { iface: String::new(), mode: Mode::P2p, foreground: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--foreground" => options.foreground = true,
            "--mode" => {
                options.mode = match words.next().map(String::as_str) {
                    Some("p2p") => Mode::P2p,
                    Some("mp") => Mode::MultiPeer,
                    _ => return Err("--mode takes p2p or mp".into()),
                };
            }
            name if options.iface.is_empty() && !name.starts_with('-') => options.iface = name.into(),
            other => return Err(format!("{other:?} is not understood")),
        }
    }
    if options.iface.is_empty() || options.iface.len() > 15 || options.iface.contains('/') {
        return Err("an interface name (1 to 15 characters) is missing".into());
    }
    Ok(options)
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ovpn engine: {error}");
            u8::try_from((-error.errno()) & 0xFF).unwrap_or(255).into()
        }
    }
}

/// Opens the device, serves it, and removes every trace at the end.
fn serve(options: &Options, background: Option<Background>) -> Result<()> {
    ovpn_sys::background::set_name("ovpn-engine");
    let socket = path::socket(&options.iface)?;
    let listener = path::listen(&socket).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let text = format!("an engine serves {} already", options.iface);
            Error::new(ErrorKind::PeerExists, text)
        }
        _ => error.into(),
    })?;
    let result = serve_on(options, listener, background);
    path::remove(&socket);
    match result? {
        End::Deleted(farewell) => farewell.send(),
        End::Stopped => {}
        End::DeviceGone => tracing::info!(device = options.iface, "the device is gone"),
    }
    Ok(())
}

/// Serves until the end; the device is gone when this returns.
fn serve_on(options: &Options, listener: Listener, background: Option<Background>) -> Result<End> {
    let stop = Arc::new(Wake::new()?);
    let engine = Engine::open(EngineConfig::new(&options.iface, options.mode))?;
    let server = Server::new(&engine, listener, &*stop)?;
    stop_on_signal(stop)?;
    if let Some(background) = background {
        background.report(0)?;
    }
    tracing::info!(device = options.iface, "serving");
    Ok(server.run()?)
}

/// Makes `stop` readable at SIGTERM or SIGINT.
fn stop_on_signal(stop: Arc<Wake>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        });
        stop.set();
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> std::result::Result<Options, String> {
        parse(&text.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line() {
        let options = |mode, foreground| Ok(Options { iface: "tun0".into(), mode, foreground });
        assert_eq!(line("tun0"), options(Mode::P2p, false));
        assert_eq!(line("tun0 --mode mp --foreground"), options(Mode::MultiPeer, true));
        assert_eq!(line("--mode p2p tun0"), options(Mode::P2p, false));
        for wrong in
            ["", "tun0 tun1", "tun0 --mode", "tun0 --mode x", "a/b", "sixteencharacter", "--background tun0"]
        {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }
}
