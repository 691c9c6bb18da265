//! The engine as a process of its own: what outlives what.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Running, TempDir, wait_for};

const LIMIT: Duration = Duration::from_secs(10);

struct Tool {
    path: PathBuf,
    _dir: TempDir,
}

impl Tool {
    fn new() -> Self {
        let dir = TempDir::new("process").unwrap();
        let path = dir.path().join("ovpn-cli");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ovpn"), &path).unwrap();
        Self { path, _dir: dir }
    }

    fn command(&self, ns: &Netns, line: &str) -> Command {
        let mut command = ns.command(&self.path);
        command.args(line.split(' '));
        command
    }

    /// Runs a command; its status and all that it printed.
    fn run(&self, ns: &Netns, line: &str) -> (i32, String) {
        let output = ovpn_testkit::run(&mut self.command(ns, line), LIMIT).unwrap();
        (output.status.code().unwrap_or(-1), output.stdout + &output.stderr)
    }

    fn ok(&self, ns: &Netns, line: &str) -> String {
        let (status, text) = self.run(ns, line);
        assert_eq!(status, 0, "{line}: {text}");
        text
    }

    fn listen(&self, ns: &Netns, line: &str) -> Running {
        let mut listener = Running::start(&mut self.command(ns, line)).unwrap();
        listener.wait_for_text("listening", LIMIT).unwrap();
        listener
    }
}

/// The processes in a namespace with this name.
fn named(ns: &Netns, name: &str) -> Vec<i32> {
    let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    ns.pids().unwrap().into_iter().filter(|pid| comm(pid).trim() == name).collect()
}

/// The folder of a namespace's engines.
fn folder(ns: &Netns) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(format!("/run/netns/{}", ns.name())).unwrap().ino();
    PathBuf::from(format!("/run/ovpn/{inode}"))
}

fn kill(pid: i32) {
    ovpn_testkit::run(Command::new("kill").args(["-9", &pid.to_string()]), LIMIT).unwrap();
}

#[test]
fn the_engine_outlives_its_clients_and_their_peers_go_with_them() {
    let (tool, ns) = (Tool::new(), Netns::new("life").unwrap());
    tool.ok(&ns, "new_iface tun0 P2P");
    let mut listener = tool.listen(&ns, "listen_mcast tun0 --json");
    // The tool returns at once and stays behind with the socket.
    tool.ok(&ns, "new_peer tun0 5 none 1194 127.0.0.1 1195");
    assert!(tool.ok(&ns, "get_peer tun0").contains("* Peer 5"));
    let holders: Vec<i32> =
        named(&ns, "ovpn-cli").into_iter().filter(|pid| *pid != listener.id() as i32).collect();
    let [holder] = holders[..] else { panic!("{holders:?}") };
    kill(holder);
    listener.wait_for_text(r#""del-reason":"transport-disconnect","id":5"#, LIMIT).unwrap();
    assert!(!tool.ok(&ns, "get_peer tun0").contains("* Peer"));
    // The engine serves on.
    tool.ok(&ns, "new_peer tun0 6 none 1194 127.0.0.1 1195");
    tool.ok(&ns, "del_iface tun0");
    listener.wait_for_text(r#""del-reason":"teardown","id":6"#, LIMIT).unwrap();
    assert!(listener.wait(LIMIT).unwrap().success(), "it ends with its device");
    assert!(ns.ip("link show tun0").is_err());
    assert!(named(&ns, "ovpn-engine").is_empty());
    assert!(!folder(&ns).exists(), "it left its folder");
}

#[test]
fn a_dead_engine_is_noticed_and_its_place_is_free() {
    let (tool, ns) = (Tool::new(), Netns::new("dead").unwrap());
    tool.ok(&ns, "new_iface tun0 MP");
    let mut listener = tool.listen(&ns, "listen_mcast tun0 --json");
    let engines = named(&ns, "ovpn-engine");
    assert_eq!(engines.len(), 1);
    kill(engines[0]);
    listener.wait_for_text("gone-ntf", LIMIT).unwrap();
    assert!(folder(&ns).exists());
    assert_eq!(tool.run(&ns, "get_peer tun0").0, 256 - 19, "ENODEV");
    assert!(!folder(&ns).exists(), "who met the dead engine removed its traces");
    // The trace that it left does not stand in the way of the next.
    tool.ok(&ns, "new_iface tun0 MP");
    tool.ok(&ns, "get_peer tun0");
    // Another engine's end removes the traces of one that was killed.
    tool.ok(&ns, "new_iface tun1 P2P");
    let engines = named(&ns, "ovpn-engine");
    let killed = engines.into_iter().find(|pid| command_line(*pid).contains("tun1")).unwrap();
    kill(killed);
    tool.ok(&ns, "del_iface tun0");
    assert!(!folder(&ns).exists());
}

fn command_line(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn a_listener_hears_of_engines_that_come_later() {
    let (tool, pair) = (Tool::new(), Pair::new("late").unwrap());
    let ns = &pair.left;
    let mut listener = tool.listen(ns, "listen_mcast --json");
    for iface in ["tun0", "tun1"] {
        tool.ok(ns, &format!("new_iface {iface} P2P"));
        tool.ok(ns, &format!("new_peer {iface} 5 none 1194 127.0.0.1 1195"));
        tool.ok(ns, &format!("del_peer {iface} 5"));
    }
    wait_for("both", LIMIT, || {
        let text = listener.stdout();
        (text.lines().filter(|line| line.contains(r#""del-reason":"userspace","id":5"#)).count() == 2)
            .then_some(())
    })
    .unwrap();
    listener.kill();
    // Another namespace has its own.
    assert_eq!(tool.run(&pair.right, "get_peer tun0").0, 256 - 19);
    for iface in ["tun0", "tun1"] {
        tool.ok(ns, &format!("del_iface {iface}"));
    }
}

#[test]
fn every_tool_explains_itself() {
    let (tool, ns) = (Tool::new(), Netns::new("help").unwrap());
    let text = tool.ok(&ns, "--help");
    assert!(text.contains("new_multi_peer <iface> <lport> <SYMM|ASYMM> <peers_file> [mark]"), "{text}");
    let program = |words: &[&str]| ns.run(env!("CARGO_BIN_EXE_ovpn"), words).unwrap();
    assert_eq!(program(&["cli", "--help"]), text);
    assert!(program(&["engine", "--help"]).contains("--mode p2p|mp"));
    assert!(program(&["dco-cli", "--help"]).contains("<vpn-gw>"));
    assert!(program(&["man", "cli"]).contains(".B listen_mcast"));
}

#[test]
fn exit_statuses_are_negative_errnos() {
    let (tool, ns) = (Tool::new(), Netns::new("exit").unwrap());
    assert_eq!(tool.run(&ns, "get_peer tun0").0, 256 - 19, "no device");
    assert_eq!(tool.run(&ns, "fly tun0").0, 255, "no command");
    tool.ok(&ns, "new_iface tun0 MP");
    assert_ne!(tool.run(&ns, "new_iface tun0 MP").0, 0, "taken");
    for (line, errno) in [
        ("get_peer tun0 20", 2),
        ("del_peer tun0 20", 2),
        ("new_peer tun0 7 none 1194 127.0.0.1 1", 22),
        ("new_peer tun0 7 none 1194 127.0.0.1 1 224.0.0.1", 99),
        ("swap_keys tun0 7", 2),
    ] {
        assert_eq!(tool.run(&ns, line).0, 256 - errno, "{line}");
    }
    tool.ok(&ns, "new_peer tun0 1 none 1194 127.0.0.1 1 5.5.5.2");
    for (line, errno) in [
        ("new_peer tun0 1 none 1195 127.0.0.1 1 5.5.5.3", 17),
        ("new_peer tun0 2 none 1195 127.0.0.1 1 5.5.5.2", 98),
        ("del_key tun0 1", 22),
        ("get_key tun0 1 1", 2),
        ("set_peer tun0 1 86401 1", 34),
    ] {
        assert_eq!(tool.run(&ns, line).0, 256 - errno, "{line}");
    }
    tool.ok(&ns, "del_iface tun0");
}
