//! What `ovpn init` and `ovpn profile` make, and the server that runs it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Output, Running, TempDir, run};

pub const LIMIT: Duration = Duration::from_secs(20);
pub const UP: &str = "Initialization Sequence Completed";
pub const OVPN: &str = env!("CARGO_BIN_EXE_ovpn");

pub fn ovpn(words: &[&str]) -> String {
    run(Command::new(OVPN).args(words), LIMIT).and_then(Output::success).expect("ovpn succeeds")
}

/// A folder in which `init` made a server for 10.10.1.1.
pub struct Vpn {
    pub dir: TempDir,
    pub at: String,
}

impl Vpn {
    pub fn new(label: &str, more: &[&str]) -> Self {
        let dir = TempDir::new(label).unwrap();
        let at = dir.path().join("vpn").to_string_lossy().into_owned();
        let mut words = vec!["init", "--endpoint", "10.10.1.1", "--dir", &at];
        words.extend(more);
        ovpn(&words);
        Self { dir, at }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    pub fn profile(&self, action: &str, name: &str) -> String {
        let file = self.path(&format!("{name}.ovpn"));
        ovpn(&["profile", action, name, "--dir", &self.at, "--output", &file]);
        file
    }

    pub fn serve(&self, ns: &ovpn_testkit::Netns, more: &[&str]) -> Running {
        let config = format!("{}/server.conf", self.at);
        let socket = self.path("status.sock");
        let mut command = ns.command(OVPN);
        command.args(["server", &config, "--status-socket", &socket]).args(more);
        let mut server = Running::start(&mut command).unwrap();
        server.wait_for_text(UP, LIMIT).unwrap();
        server
    }

    /// Names of the clients whose data the running server carries.
    pub fn clients(&self) -> Vec<String> {
        let text = ovpn(&["status", &self.path("status.sock"), "--json"]);
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        let peers = status["peers"].as_array().unwrap();
        let carried = peers.iter().filter(|peer| peer["peer_id"].is_number());
        carried.filter_map(|peer| Some(peer["name"].as_str()?.to_owned())).collect()
    }
}
