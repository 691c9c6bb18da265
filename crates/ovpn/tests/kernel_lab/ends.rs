//! The two ends of a tunnel as tests want them: whose program, on which data plane.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ovpn_testkit::{Netns, Pair, Pki, Role, Running, TempDir, wait_for};

use crate::{LIMIT, program, share};

/// What both programs say when they are up.
pub(crate) const UP: &str = "Initialization Sequence Completed";

/// Whose program, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Ours, on the kernel's driver (chosen by itself).
    Kernel,
    /// Ours, on the engine.
    Engine,
    /// Stock OpenVPN with offload.
    StockDco,
    /// Stock OpenVPN without.
    Stock,
}

impl End {
    /// The kind of its device, where the kernel has the driver of this link kind.
    pub(crate) const fn kind(self, driver: &'static str) -> &'static str {
        match self {
            Self::Kernel | Self::StockDco => driver,
            Self::Engine | Self::Stock => "tun",
        }
    }

    pub(crate) const fn is_ours(self) -> bool {
        matches!(self, Self::Kernel | Self::Engine)
    }

    fn command(self, ns: &Netns) -> Command {
        let mut command = ns.command(if self.is_ours() { program() } else { stock() });
        match self {
            Self::Kernel | Self::StockDco => {}
            Self::Engine => _ = command.args(["--data-plane", "engine"]),
            Self::Stock => _ = command.arg("--disable-dco"),
        }
        command
    }

    /// Starts it with a configuration.
    pub(crate) fn start(self, ns: &Netns, dir: &TempDir, file: &str, text: &str) -> Running {
        dir.write(file, text).unwrap();
        let mut command = self.command(ns);
        Running::start(command.current_dir(dir.path()).args(["--config", file])).unwrap()
    }
}

/// Stock OpenVPN: the release whose offload this kernel has.
fn stock() -> PathBuf {
    let old = share().join("stock-2.6.14/run");
    if old.exists() { old } else { "/usr/sbin/openvpn".into() }
}

/// How long each part of a test took: where the time goes shows in every run.
#[derive(Debug)]
pub(crate) struct Laps {
    text: String,
    last: Instant,
}

impl Laps {
    pub(crate) fn start(name: String) -> Self {
        Self { text: name, last: Instant::now() }
    }

    pub(crate) fn lap(&mut self, name: &str) {
        let seconds = std::mem::replace(&mut self.last, Instant::now()).elapsed().as_secs();
        self.text.push_str(&format!(", {name} {seconds} s"));
    }
}

impl std::fmt::Display for Laps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A folder with certificates, where both sides run.
pub(crate) fn folder(label: &str) -> TempDir {
    let dir = TempDir::new(label).unwrap();
    Pki::new().unwrap().write(&dir, &[("server", Role::Server), ("client", Role::Client)]).unwrap();
    dir
}

/// A server's configuration.
pub(crate) fn server(proto: &str, more: &str) -> String {
    format!(
        "dev tun\ntopology subnet\nserver 10.77.0.0 255.255.255.0\nserver-ipv6 fd77::/64\nproto {proto}\nca ca.crt\n\
         cert server.crt\nkey server.key\ndh none\nkeepalive 5 60\nverb 4\n{more}"
    )
}

/// A client's configuration.
pub(crate) fn client(remote: &str, proto: &str, more: &str) -> String {
    format!(
        "client\ndev tun\nnobind\nremote {remote} 1194 {proto}\nca ca.crt\ncert client.crt\nkey client.key\n\
         remote-cert-tls server\nverb 4\n{more}"
    )
}

/// The kind of a device's link.
pub(crate) fn kind(ns: &Netns, device: &str) -> String {
    let text = ns.ip(&format!("-d -o link show {device}")).unwrap();
    let kinds = ["ovpn-dco", "ovpn", "tun"];
    kinds.into_iter().find(|kind| text.contains(&format!("    {kind} "))).unwrap_or("other").to_owned()
}

/// Six pings, of which five at least are answered in time: for the last answer `ping` waits two round trips only,
/// which is too short a time where a busy machine delays everything now and then.
#[track_caller]
pub(crate) fn ping(ns: &Netns, to: &str) {
    let output = ns.try_run("ping", &["-c", "6", "-i", "0.2", "-W", "20", to], LIMIT).unwrap();
    let answered = ["5 received", "6 received"].iter().any(|text| output.stdout.contains(text));
    assert!(answered, "{}{}", output.stdout, output.stderr);
}

/// IP fragments made in a namespace so far, of both families.
pub(crate) fn fragments(ns: &Netns) -> u64 {
    let read = |name: &str| {
        ns.enter(|| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap()).unwrap()
    };
    let v4 = read("snmp");
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
    let column = lines.next().unwrap().split(' ').position(|name| name == "FragCreates").unwrap();
    let v4: u64 = lines.next().unwrap().split(' ').nth(column).unwrap().parse().unwrap();
    let v6 = read("snmp6");
    let v6 = v6.lines().find(|line| line.starts_with("Ip6FragCreates")).unwrap();
    v4 + v6.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// Links, routes, rules and firewall of a namespace, as far as a tunnel may change them.
pub(crate) fn state(ns: &Netns) -> String {
    let all = ["-br link show", "route show", "-6 route show", "rule show"]
        .map(|what| ns.ip(what).unwrap())
        .concat();
    let lines = all.lines().filter(|line| !line.starts_with("fe80::"));
    // a device that comes up or loses its peer is no change of ours
    let mut state: String =
        lines.map(|line| format!("{}\n", line.split("  ").next().unwrap_or(line))).collect();
    state.push_str(&ns.try_run("nft", &["list", "tables"], LIMIT).unwrap().stdout);
    state
}

/// Ends a program with SIGTERM, and waits until it has ended well.
#[track_caller]
pub(crate) fn terminate(program: &mut Running) {
    program.signal(15).unwrap();
    let status = program.wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(0), "{}{}", program.stdout(), program.stderr());
}

/// The state of a namespace is again what it was.
#[track_caller]
pub(crate) fn assert_clean(ns: &Netns, before: &str) {
    let same = wait_for("a clean namespace", Duration::from_secs(20), || (state(ns) == before).then_some(()));
    assert!(same.is_ok(), "before:\n{before}\nafter:\n{}", state(ns));
}

/// Both ends up, in namespaces of their own: the server on the left.
pub(crate) struct Up {
    pub(crate) pair: Pair,
    pub(crate) dir: TempDir,
    pub(crate) server: Running,
    pub(crate) client: Running,
    /// What both namespaces were like before.
    pub(crate) before: [String; 2],
}

/// Starts both ends and waits until they are up.
#[track_caller]
pub(crate) fn up(label: &str, ends: [End; 2], proto: [&str; 2], more: [&str; 2]) -> Up {
    let mut laps = Laps::start(format!("{label}: up"));
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let before = [state(&pair.left), state(&pair.right)];
    let remote = if proto[1].ends_with('6') { "fd00:0:0:1::1" } else { "10.10.1.1" };
    let mut server = ends[0].start(&pair.left, &dir, "server.conf", &server(proto[0], more[0]));
    laps.lap("network");
    server.wait_for_text(UP, LIMIT).unwrap();
    laps.lap("server");
    let mut client = ends[1].start(&pair.right, &dir, "client.conf", &client(remote, proto[1], more[1]));
    if let Err(error) = client.wait_for_text(UP, LIMIT) {
        panic!("{error}\n== server\n{}{}", server.stdout(), server.stderr());
    }
    laps.lap("client");
    println!("{laps}");
    Up { pair, dir, server, client, before }
}
