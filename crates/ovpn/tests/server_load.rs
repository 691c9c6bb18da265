//! Five hundred clients that connect at once: all come up, and a slow authentication script holds up only its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crowd;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crowd::Crowd;
use ovpn_control::{
    ClientParams, Credentials, PeerRules, TlsClient, TlsOptions, Wrapping, certificates_from_pem,
};
use ovpn_testkit::{Pair, Pki, Role, Running, TempDir};

const CLIENTS: usize = 500;
const SLOW: usize = 5;
/// Handshakes and logins may take this long on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn client_params(ca: &str) -> Arc<ClientParams> {
    let ca = certificates_from_pem(ca.as_bytes()).unwrap();
    let rules = PeerRules { ca, ..PeerRules::default() };
    let tls = TlsClient::new(None, rules, &TlsOptions::default()).unwrap();
    crowd::params(tls, Wrapping::None, LIMIT)
}

fn credentials(number: usize) -> Option<Credentials> {
    let username = if number < SLOW { format!("slow{number}") } else { format!("user{number}") };
    Some(Credentials { username, password: "pw".into() })
}

#[test]
fn five_hundred_clients_at_once() {
    let dir = TempDir::new("srv-load").unwrap();
    let pki = Pki::new().unwrap();
    pki.write(&dir, &[("server", Role::Server)]).unwrap();
    let verify = "#!/bin/sh\ncase \"$username\" in slow*) until test -e go; do sleep 0.1; done;; esac\n";
    let path = dir.write("verify", verify).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    dir.write(
        "server.conf",
        "dev tun\ntopology subnet\nserver 10.77.0.0 255.255.0.0\nproto udp4\nca ca.crt\ncert server.crt\n\
         key server.key\ndh none\nverify-client-cert none\nusername-as-common-name\nscript-security 3\n\
         auth-user-pass-verify ./verify via-env\nconnect-freq-initial 1000 10\nhand-window 120\nverb 1\n",
    )
    .unwrap();
    let pair = Pair::new("srv-load").unwrap();
    let mut command = pair.left.command(env!("CARGO_BIN_EXE_ovpn"));
    let mut server =
        Running::start(command.current_dir(dir.path()).args(["--config", "server.conf"])).unwrap();
    server.wait_for_text("Initialization Sequence Completed", Duration::from_secs(20)).unwrap();

    let (up, slow_up) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let came_up = |number: usize| {
        if number < SLOW {
            slow_up.fetch_add(1, Ordering::Relaxed);
        }
        // Once all but the slow ones are up, the script goes on for those.
        if up.fetch_add(1, Ordering::Relaxed) + 1 == CLIENTS - SLOW {
            assert_eq!(slow_up.load(Ordering::Relaxed), 0, "a login was not waited for");
            dir.write("go", "").unwrap();
        }
    };
    let crowd = Crowd {
        params: client_params(pki.ca_cert()),
        server: "10.10.1.1:1194".parse().unwrap(),
        count: CLIENTS,
        credentials: &credentials,
    };
    let mut times = pair.right.enter(|| crowd.connect(LIMIT, &came_up)).unwrap();
    times.sort();
    let (half, last) = (times[times.len() / 2], times.last().unwrap());
    println!("{} clients up: half in {half:?}, all in {last:?}", times.len());
    assert_eq!(times.len(), CLIENTS);
}
