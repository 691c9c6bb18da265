//! A program at the management interface steers the client.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use ovpn_testkit::{Pair, TempDir, wait_for};

use crate::scene::{LIMIT, client, folder, ping, stock_server};

pub(crate) struct Program(UnixStream);

impl Program {
    /// At the socket `mgmt`, as soon as that is there.
    pub(crate) fn at(dir: &TempDir) -> Self {
        let path = dir.path().join("mgmt");
        let stream = wait_for("the management socket", LIMIT, || UnixStream::connect(&path).ok()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(stream)
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until a line has `text`.
    pub(crate) fn hear(&mut self, text: &str) {
        let mut seen = Vec::new();
        let mut byte = [0];
        loop {
            self.0
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("no {text:?} ({error}):\n{}", String::from_utf8_lossy(&seen)));
            seen.push(byte[0]);
            if byte[0] == b'\n' && String::from_utf8_lossy(&seen).contains(text) {
                return;
            }
        }
    }
}

#[test]
fn a_program_chooses_the_remote_and_unlocks_the_key() {
    let label = "st-remote";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let _server = stock_server(&pair.right, &dir, "proto udp4\n");
    let words = "pkcs8 -topk8 -v2 aes-256-cbc -in client.key -out enc.key -passout pass:secret";
    let made = std::process::Command::new("openssl")
        .current_dir(dir.path())
        .args(words.split(' '))
        .status()
        .unwrap();
    assert!(made.success());
    let mut client = client(
        &pair.left,
        &dir,
        "key enc.key\nremote 10.10.1.77 1 udp4\nremote 10.10.1.78 2 udp4\nmanagement mgmt unix\nmanagement-hold\n\
         management-query-passwords\nmanagement-query-remote\n",
    );
    let mut program = Program::at(&dir);
    program.hear(">HOLD:Waiting for hold release:0");
    program.say("hold release");
    program.hear(">PASSWORD:Need 'Private Key' password");
    program.say("password \"Private Key\" wrong");
    program.hear(">PASSWORD:Verification Failed: 'Private Key'");
    program.hear(">PASSWORD:Need 'Private Key' password");
    program.say("password \"Private Key\" secret");
    program.hear(">REMOTE:10.10.1.77,1,udp");
    program.say("remote-entry-get 0 2");
    program.hear("1,10.10.1.78,2,udp,enabled");
    program.say("auth-retry interact");
    program.hear("SUCCESS: auth-retry parameter changed");
    program.say("remote SKIP");
    program.hear(">REMOTE:10.10.1.78,2,udp");
    program.say("state on");
    program.say("remote MOD 10.10.1.2 1194");
    program.hear("SUCCESS: remote command succeeded");
    program.hear("CONNECTED,SUCCESS,10.77.0.2,10.10.1.2,1194");
    program.say("remote ACCEPT");
    program.hear("ERROR: The 'remote' command is not supported by the current daemon mode");
    ping(&pair.left, "10.77.0.1");
    program.say("signal SIGTERM");
    assert!(client.wait(LIMIT).unwrap().success());
}
