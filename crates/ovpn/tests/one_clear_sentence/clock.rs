//! A machine whose clock is years off: what its user reads, what the user of the other machine reads, and that a
//! tunnel whose certificates bear it does not care, even when the clock jumps.
//!
//! The clock that is shifted is the calendar's; intervals stay what they are, as on a real machine.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use super::*;

/// Before, and after, the time of the certificates: 2020 to 2049.
const BEHIND: &str = "-10y";
const AHEAD: &str = "+30y";

/// The library that shifts the clock of a program.
fn library() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let path = found.find(|path| path.exists()).expect("the Debian package faketime (cargo xtask test)");
    path.display().to_string()
}

/// A program's clock.
struct Clock<'a> {
    site: &'a Site,
    file: String,
    /// Whose clock it is: the library leaves two files for each that is killed.
    shown_to: RefCell<Vec<u32>>,
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        for pid in self.shown_to.borrow().iter() {
            for file in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
                let _ = std::fs::remove_file(Path::new("/dev/shm").join(file));
            }
        }
    }
}

impl<'a> Clock<'a> {
    fn new(site: &'a Site, shift: &str) -> Self {
        let file = format!("clock-{}", shift.trim_start_matches(['+', '-']));
        let clock = Self { site, file, shown_to: RefCell::default() };
        clock.set(shift);
        clock
    }

    /// The clock jumps; programs see it within a second.
    fn set(&self, shift: &str) {
        self.site.write(&self.file, shift).unwrap();
    }

    fn shown_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", self.site.file(&self.file))
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
    }

    fn start(&self, program: &Program, ns: &Netns, file: &str, config: &str) -> Running {
        self.site.write(file, config).unwrap();
        let mut command = program.command(ns);
        let command = self.shown_to(command.current_dir(self.site.path()).args(["--config", file]));
        let running = Running::start(command).unwrap();
        self.shown_to.borrow_mut().push(running.id());
        running
    }
}

fn has_line(log: &str, words: &[&str]) -> bool {
    log.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

fn wait_for_line(program: &Running, words: &[&str]) {
    let found = ovpn_testkit::wait_for("a line", LIMIT, || has_line(&program.stdout(), words).then_some(()));
    assert!(found.is_ok(), "no line with {words:?}:\n{}", program.stdout());
}

/// The year that a clock shows.
fn year(shift: &str) -> String {
    let site = Site::new("year").unwrap();
    let mut date = Command::new("date");
    let clock = Clock::new(&site, shift);
    let shown = ovpn_testkit::run(clock.shown_to(date.args(["-u", "+%Y"])), LIMIT).unwrap();
    shown.success().unwrap().trim().to_owned()
}

/// Both wrappings of the control channel, as lines for a server and a client.
const TLS_AUTH: [&str; 2] = ["tls-auth static.key 0\n", "tls-auth static.key 1\n"];
const TLS_CRYPT: [&str; 2] = ["tls-crypt static.key\n", "tls-crypt static.key\n"];

#[test]
fn our_client_has_a_wrong_clock() {
    let site = site();
    for (shift, wrapping, words) in [
        (BEHIND, TLS_AUTH, ["the server's certificate", "is valid only in 3 years"]),
        (AHEAD, TLS_CRYPT, ["the server's certificate", "expired 6 years ago"]),
    ] {
        let pair = pair("clock-cl");
        let server = server(&site, &pair, &stock(), &(files("server") + wrapping[0]));
        let before = state(&pair.left);
        let clock = Clock::new(&site, shift);
        let config = format!("{CLIENT}{}{}", files("client1"), wrapping[1]);
        let mut client = clock.start(&ours(), &pair.left, "client.conf", &config);
        client.wait(LIMIT).unwrap();
        let log = client.stdout();
        let says = format!("by this machine's clock, which says {}", year(shift));
        assert!(has_line(&log, &[words[0], words[1], &says, "set the clock if that is wrong"]), "{log}");
        let own = format!("this machine's clock says {}", year(shift));
        assert!(has_line(&log, &["client.conf", "CN=client1", &own, "set the clock"]), "{log}");
        assert_eq!(state(&pair.left), before);
        // What the other end can know.
        wait_for_line(&server, &["alert certificate expired"]);
    }
}

#[test]
fn our_server_has_a_wrong_clock() {
    let site = site();
    for (shift, wrapping, words) in [
        (BEHIND, TLS_CRYPT, ["the client's certificate (CN=client1)", "is valid only in 3 years"]),
        (AHEAD, TLS_AUTH, ["the client's certificate (CN=client1)", "expired 6 years ago"]),
    ] {
        let pair = pair("clock-srv");
        let clock = Clock::new(&site, shift);
        let config = format!("{SERVER}{}{}", files("server"), wrapping[0]);
        let mut server = clock.start(&ours(), &pair.right, "server.conf", &config);
        server.wait_for_text(UP, LIMIT).unwrap();
        let says = format!("by this machine's clock, which says {}", year(shift));
        // Whoever starts the server is told before anyone calls.
        let own = format!("this machine's clock says {}", year(shift));
        wait_for_line(&server, &["server.conf", "CN=server", &own, "set the clock"]);
        let before = state(&pair.right);
        let config = format!("{CLIENT}{}{}", files("client1"), wrapping[1]);
        let mut client = site.start(&stock(), &pair.left, "client.conf", &config).unwrap();
        wait_for_line(&server, &[words[0], words[1], &says, "set the clock if that is wrong"]);
        wait_for_line(&client, &["alert: certificate expired"]);
        client.kill();
        assert!(server.ended().unwrap().is_none());
        assert_eq!(state(&pair.right), before);
    }
}

/// The other machine's clock is wrong: it refuses us, over UDP without a word, and our side says where to look.
#[test]
fn stock_has_a_wrong_clock() {
    let site = site();
    for shift in [BEHIND, AHEAD] {
        let pair = pair("clock-far");
        let clock = Clock::new(&site, shift);
        let config = format!("{SERVER}{}", files("server"));
        let mut server = clock.start(&stock(), &pair.right, "server.conf", &config);
        server.wait_for_text(UP, LIMIT).unwrap();
        our_client_says(
            &site,
            &pair,
            &files("client1"),
            &["may have refused it", "compare both machines' clocks"],
        );
    }
}

/// Certificates that bear both clocks make a tunnel; while it is up, the clock of our side jumps to and fro: keys are
/// renewed, keepalive keeps still, data flows.
#[test]
fn a_tunnel_between_two_times() {
    let site = site();
    let live = "reneg-sec 3 3\n";
    for (our_client, wrapping) in [(true, TLS_AUTH), (false, TLS_CRYPT)] {
        let pair = pair("clock-up");
        let clock = Clock::new(&site, "-3y");
        let server_config = SERVER.replace("keepalive 20 60", "keepalive 1 6");
        let server_config = format!("{server_config}{}{}{live}", files("server"), wrapping[0]);
        let client_config = format!("{CLIENT}{}{}{live}", files("client1"), wrapping[1]);
        let (mut server, mut client) = if our_client {
            let server = site.start(&stock(), &pair.right, "server.conf", &server_config).unwrap();
            (server, clock.start(&ours(), &pair.left, "client.conf", &client_config))
        } else {
            let server = clock.start(&ours(), &pair.right, "server.conf", &server_config);
            (server, site.start(&stock(), &pair.left, "client.conf", &client_config).unwrap())
        };
        server.wait_for_text(UP, LIMIT).unwrap();
        client.wait_for_text(UP, LIMIT).unwrap();
        for shift in ["+20y", "-5y"] {
            clock.set(shift);
            let args = ["-c", "25", "-i", "0.2", "-w", "9", "10.77.0.1"];
            let pings = pair.left.run("ping", &args).unwrap();
            assert!(pings.contains(" 0% packet loss"), "{shift}: {pings}");
        }
        for log in [client.stdout(), server.stdout()] {
            assert_eq!(log.matches(UP).count(), 1, "{log}");
            let renewed = log.matches("Control Channel: TLSv1.3").count();
            assert!((4..=9).contains(&renewed), "{renewed} renewals:\n{log}");
            assert!(!log.contains("Inactivity timeout"), "{log}");
        }
    }
}
