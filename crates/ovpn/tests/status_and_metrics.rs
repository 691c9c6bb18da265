//! `ovpn status` and the metrics of a running server and client, the latter read by the parser of Prometheus' own
//! Python client.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Output, Pair, Running, TempDir, run, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
const UP: &str = "Initialization Sequence Completed";
const OVPN: &str = env!("CARGO_BIN_EXE_ovpn");

/// Reads metrics from standard input; prints `name{labels} value` of each sample by its family's type.
const PARSER: &str = r#"
import sys
from prometheus_client.parser import text_string_to_metric_families
names = set()
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family.name
    assert family.type in ("gauge", "counter"), (family.name, family.type)
    assert family.samples, family.name
    assert family.name not in names, family.name
    names.add(family.name)
    for sample in family.samples:
        assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
        labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
        print(f"{family.type} {sample.name}{{{labels}}} {sample.value}")
"#;

fn ovpn(words: &[&str]) -> String {
    run(Command::new(OVPN).args(words), LIMIT).and_then(Output::success).expect("ovpn succeeds")
}

fn json(socket: &str) -> serde_json::Value {
    serde_json::from_str(&ovpn(&["status", socket, "--json"])).expect("one object")
}

/// What the independent parser makes of metrics.
fn parsed(dir: &TempDir, metrics: &str) -> Vec<String> {
    let file = dir.write("metrics.txt", metrics).unwrap();
    let command = format!("python3 -c '{PARSER}' < {}", file.display());
    // Debian's Python has Debian's package.
    let mut shell = Command::new("sh");
    shell.env("PATH", "/usr/bin:/bin").args(["-c", &command]);
    let text = run(&mut shell, LIMIT).and_then(Output::success).expect("the parser takes it");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_runs_tells_what_it_does() {
    let dir = TempDir::new("status").unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let vpn = at("vpn");
    ovpn(&["init", "--endpoint", "10.10.1.1", "--dir", &vpn]);
    ovpn(&["profile", "add", "anna", "--dir", &vpn, "--output", &at("anna.ovpn")]);
    let pair = Pair::new("status").unwrap();
    let (server_socket, client_socket) = (at("s.sock"), at("c.sock"));
    let config = format!("{vpn}/server.conf");
    let unix = format!("unix:{}", at("metrics.sock"));
    let mut server = Running::start(pair.left.command(OVPN).args([
        "server",
        &config,
        "--status-socket",
        &server_socket,
        "--metrics",
        "127.0.0.1:9176",
    ]))
    .unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    let before = json(&server_socket);
    assert_eq!(before["peers"].as_array().map(Vec::len), Some(0), "{before}");
    let profile = at("anna.ovpn");
    let mut client = Running::start(pair.right.command(OVPN).args([
        "client",
        &profile,
        "--status-socket",
        &client_socket,
        "--metrics",
        &unix,
    ]))
    .unwrap();
    client.wait_for_text(UP, LIMIT).unwrap();
    pair.right.run("ping", &["-c", "3", "-i", "0.2", "-s", "1000", "10.8.0.1"]).unwrap();

    let status = json(&server_socket);
    assert_eq!(status["schema"], "ovpn-status/1");
    assert_eq!((&status["mode"], &status["state"]), (&"server".into(), &"connected".into()), "{status}");
    assert_eq!(status["data_plane"]["driver"], "engine");
    assert!(status["data_plane"]["reasons"][0].as_str().is_some_and(|reason| !reason.is_empty()));
    assert_eq!(status["handshakes"]["completed"], 1, "{status}");
    let peer = &status["peers"][0];
    assert_eq!((&peer["name"], &peer["cipher"]), (&"anna".into(), &"AES-256-GCM".into()), "{status}");
    assert!(peer["address"].as_str().is_some_and(|address| address.starts_with("10.10.1.2:")), "{peer}");
    assert_eq!(peer["vpn_addresses"][0], "10.8.0.2");
    assert!(peer["traffic"]["rx_bytes"].as_u64().is_some_and(|bytes| bytes >= 3 * 1028), "{peer}");
    assert!(peer["link"]["rx_bytes"].as_u64() > peer["traffic"]["rx_bytes"].as_u64(), "{peer}");
    assert!(peer["key_age"].as_f64().is_some_and(|age| (0.0..60.0).contains(&age)), "{peer}");

    let status = json(&client_socket);
    assert_eq!((&status["mode"], &status["name"]), (&"client".into(), &"anna".into()), "{status}");
    assert_eq!(status["peers"][0]["address"], "10.10.1.1:1194", "{status}");
    assert_eq!(status["peers"][0]["vpn_addresses"][0], "10.8.0.2");

    let table = ovpn(&["status", &server_socket]);
    assert!(
        table.contains("server: server, connected for") && table.contains("\nanna  10.10.1.2:"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "no colour where there is no terminal");

    // The whole screen, on a terminal (`sleep` keeps its keyboard silent), until SIGTERM: the terminal is as before.
    let watched = format!("{OVPN} status {server_socket} --watch --interval 0.2");
    let inside = format!("stty -g; timeout --foreground 1 {watched}; echo ended with $?; stty -g");
    let shell = format!("sleep 3 | script -qec '{inside}' /dev/null");
    let screen = run(Command::new("sh").args(["-c", &shell]), LIMIT).and_then(Output::success).unwrap();
    let (before, screen) = screen.split_once("\r\n").unwrap();
    assert!(screen.starts_with("\x1b[?1049h") && screen.contains("anna"), "{screen:?}");
    assert!(screen.ends_with(&format!("\x1b[?1049lended with 124\r\n{before}\r\n")), "{screen:?}");

    let text = pair.left.run("curl", &["-sSf", "http://127.0.0.1:9176/metrics"]).unwrap();
    let samples = parsed(&dir, &text);
    let have = |start: &str| samples.iter().any(|sample| sample.starts_with(start));
    assert!(have("gauge ovpn_connected{} 1.0"), "{samples:#?}");
    assert!(have("gauge ovpn_peers{} 1.0"), "{samples:#?}");
    assert!(have("counter ovpn_dropped_packets_total{reason=replayed} 0.0"), "{samples:#?}");
    assert!(have("counter ovpn_peer_receive_bytes_total{peer=anna,peer_id=0} "), "{samples:#?}");
    assert!(have("counter ovpn_handshakes_completed_total{} 1.0"), "{samples:#?}");
    let curl = ["-sSf", "--unix-socket", &at("metrics.sock"), "http://localhost/metrics"];
    let text = run(Command::new("curl").args(curl), LIMIT).and_then(Output::success).unwrap();
    assert!(parsed(&dir, &text).iter().any(|sample| sample.contains("peer=server")), "{text}");

    // A rekey starts the key's age anew; the end of the tunnel removes the sockets.
    client.signal(10).unwrap();
    wait_for("the client's second connection", LIMIT, || {
        let status = json(&server_socket);
        (status["handshakes"]["completed"] == 2 && status["peers"].as_array().map(Vec::len) == Some(1))
            .then_some(())
    })
    .unwrap();
    client.signal(15).unwrap();
    client.wait(LIMIT).unwrap();
    server.signal(15).unwrap();
    server.wait(LIMIT).unwrap();
    assert!(!Path::new(&server_socket).exists() && !Path::new(&client_socket).exists());
    let gone = run(Command::new(OVPN).args(["status", &server_socket]), LIMIT).unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(gone.stderr.contains("no tunnel \"s\" runs here"), "{}", gone.stderr);
}
