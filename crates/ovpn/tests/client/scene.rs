//! What the tests share: files, a stock server, our client.

use std::time::{Duration, Instant};

use ovpn_testkit::{Netns, Pki, Role, Running, StockOpenvpn, TempDir};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const UP: &str = "Initialization Sequence Completed";

pub(crate) const SERVER: &str = "dev tun
topology subnet
server 10.77.0.0 255.255.255.0
ca ca.crt
cert server.crt
key server.key
dh none
keepalive 1 5
disable-dco
verb 3
";

pub(crate) const CLIENT: &str = "client
dev tun
nobind
ca ca.crt
cert client.crt
key client.key
remote-cert-tls server
connect-retry 1
verb 3
";

/// A folder with certificates, where both sides run.
pub(crate) fn folder(label: &str) -> TempDir {
    let dir = TempDir::new(label).unwrap();
    Pki::new().unwrap().write(&dir, &[("server", Role::Server), ("client", Role::Client)]).unwrap();
    dir
}

/// A stock server that is up.
pub(crate) fn stock_server(ns: &Netns, dir: &TempDir, more: &str) -> Running {
    dir.write("server.conf", format!("{SERVER}{more}")).unwrap();
    let stock = StockOpenvpn::any().unwrap();
    let mut server = stock.start(ns, dir.path(), &["--config", "server.conf"]).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    server
}

/// Our program with these words.
pub(crate) fn ours(ns: &Netns, dir: &TempDir, words: &[&str]) -> Running {
    let mut command = ns.command(env!("CARGO_BIN_EXE_ovpn"));
    Running::start(command.current_dir(dir.path()).args(words)).unwrap()
}

/// Our client, started.
pub(crate) fn client(ns: &Netns, dir: &TempDir, more: &str) -> Running {
    dir.write("client.conf", format!("{CLIENT}{more}")).unwrap();
    ours(ns, dir, &["--config", "client.conf"])
}

/// Waits until a program has said `text` so many times.
pub(crate) fn wait_for_count(program: &Running, text: &str, count: usize) {
    let end = Instant::now() + LIMIT;
    while program.stdout().matches(text).count() < count {
        assert!(Instant::now() < end, "{text:?} not {count} times:\n{}", program.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn ping(ns: &Netns, to: &str) {
    ns.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", to]).unwrap();
}
