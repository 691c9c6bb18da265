//! Our server, stock clients and a scripted program at the management interface: what the server's tests share.
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovpn_testkit::{Netns, Pki, Role, Running, StockOpenvpn, TempDir, wait_for};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const UP: &str = "Initialization Sequence Completed";

pub(crate) const SERVER: &str = "dev tun
topology subnet
server 10.77.0.0 255.255.255.0
server-ipv6 fd77::/64
ca ca.crt
cert server.crt
key server.key
dh none
keepalive 5 20
verb 4
";

/// A folder with certificates, where both sides run.
pub(crate) fn folder(label: &str) -> TempDir {
    folder_and_authority(label).0
}

/// Likewise, with the authority that made them.
pub(crate) fn folder_and_authority(label: &str) -> (TempDir, Pki) {
    let dir = TempDir::new(label).unwrap();
    let pki = Pki::new().unwrap();
    let mut names = vec![("server", Role::Server)];
    names.extend(["client1", "client2", "client3", "client4"].map(|name| (name, Role::Client)));
    pki.write(&dir, &names).unwrap();
    (dir, pki)
}

pub(crate) fn script(dir: &TempDir, name: &str, body: &str) {
    let path = dir.write(name, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A release that `cargo xtask stock` fetched.
pub(crate) fn stock(version: &str) -> StockOpenvpn {
    let home = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/ovpn-rs/stock");
    let folder = std::env::var_os("OVPN_STOCK_DIR").map_or_else(home, PathBuf::from);
    let stock = StockOpenvpn::at(folder.join(version).join("run"));
    stock.unwrap_or_else(|| panic!("no stock OpenVPN {version}: run cargo xtask stock"))
}

/// Starts our server with [`SERVER`] and `more`, and waits until it serves.
pub(crate) fn start_server(ns: &Netns, dir: &TempDir, more: &str) -> Running {
    let mut server = start_server_with(ns, dir, &format!("{SERVER}{more}"));
    server.wait_for_text(UP, LIMIT).unwrap();
    server
}

/// Starts our server; it may wait or fail.
pub(crate) fn start_server_with(ns: &Netns, dir: &TempDir, config: &str) -> Running {
    dir.write("server.conf", config).unwrap();
    let mut command = ns.command(env!("CARGO_BIN_EXE_ovpn"));
    Running::start(command.current_dir(dir.path()).args(["--config", "server.conf"])).unwrap()
}

pub(crate) fn client_config(remote: &str, name: &str, more: &str) -> String {
    format!(
        "client\ndev tun\nremote {remote} 1194\nproto udp\nnobind\nca ca.crt\ncert {name}.crt\nkey {name}.key\n\
         remote-cert-tls server\nexplicit-exit-notify 1\nverb 4\n{more}"
    )
}

/// Starts a stock client.
pub(crate) fn start_client(
    stock: &StockOpenvpn,
    ns: &Netns,
    dir: &TempDir,
    file: &str,
    config: &str,
) -> Running {
    dir.write(file, config).unwrap();
    let mut words = vec!["--config", file];
    // Without kernel driver; 2.5 knows no other way.
    if !stock.version.starts_with("2.5") {
        words.push("--disable-dco");
    }
    stock.start(ns, dir.path(), &words).unwrap()
}

pub(crate) fn ping(ns: &Netns, to: &str) {
    ns.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", to]).unwrap();
}

/// Waits until packets pass again.
pub(crate) fn reaches(ns: &Netns, to: &str) {
    let once = || ns.run("ping", &["-c", "1", "-W", "1", to]).ok().map(drop);
    wait_for(&format!("an answer from {to}"), LIMIT, once).unwrap();
}

pub(crate) fn content(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// How often a text stands in another.
pub(crate) fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

/// A program at a management interface: says lines, and keeps what it hears.
pub(crate) struct Program {
    stream: UnixStream,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Connects to a Unix socket, once it is there.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = wait_for("the management interface", LIMIT, || UnixStream::connect(path).ok()).unwrap();
        Self::over(stream)
    }

    /// Over a connection that is there.
    pub(crate) fn over(stream: UnixStream) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let sink = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line.trim_end_matches('\r').to_owned());
            }
            sink.lock().unwrap().push("<closed>".to_owned());
        });
        Self { stream, heard }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Says a line and waits for an answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        let before = self.heard().len();
        self.say(line);
        wait_for(&format!("an answer to {line:?}"), LIMIT, || {
            self.heard().into_iter().skip(before).find(|line| !line.starts_with('>'))
        })
        .unwrap()
    }

    /// Says a line and waits for an answer that ends with END, which is left out.
    pub(crate) fn block(&mut self, line: &str) -> Vec<String> {
        let before = self.heard().len();
        self.say(line);
        wait_for(&format!("END after {line:?}"), LIMIT, || {
            let answer: Vec<String> =
                self.heard().into_iter().skip(before).filter(|line| !line.starts_with('>')).collect();
            let end = answer.iter().position(|line| line == "END")?;
            Some(answer.into_iter().take(end).collect())
        })
        .unwrap()
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits for a line that starts like this, and returns it.
    pub(crate) fn wait(&self, start: &str) -> String {
        let found = wait_for(start, LIMIT, || self.heard().into_iter().find(|line| line.starts_with(start)));
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.heard().join("\n")))
    }

    /// Waits for a `>CLIENT:` group that starts like this; returns its variables.
    pub(crate) fn group(&self, start: &str) -> Vec<String> {
        let start = format!(">CLIENT:{start}");
        let found = wait_for(&start, LIMIT, || {
            let heard = self.heard();
            let first = heard.iter().rposition(|line| *line == start)?;
            let rest = heard.get(first + 1..)?;
            let end = rest.iter().position(|line| line == ">CLIENT:ENV,END")?;
            let lines = rest.get(..end)?.iter();
            // Nothing else may come in between.
            Some(lines.map(|line| line.strip_prefix(">CLIENT:ENV,").unwrap().to_owned()).collect())
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.heard().join("\n")))
    }
}
