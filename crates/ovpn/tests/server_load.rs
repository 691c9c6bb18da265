//! Five hundred clients that connect at once: all come up, and a slow authentication script holds up only its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_control::{
    ClientParams, Credentials, Event, Link, Now, PeerRules, Session, SessionParams, SystemRandom, TlsClient,
    TlsOptions, Wrapping, certificates_from_pem,
};
use ovpn_testkit::{Pair, Pki, Role, Running, TempDir};

const CLIENTS: usize = 500;
const SLOW: usize = 5;
/// Handshakes and logins may take this long on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

struct Client {
    socket: UdpSocket,
    session: Session,
    up: Option<Duration>,
}

/// Connects all clients; once all but the slow ones are up, `release` lets the script go on for those.
fn connect_all(ca: &str, start: Instant, release: impl Fn() + Send) -> Vec<Client> {
    let ca = certificates_from_pem(ca.as_bytes()).unwrap();
    let rules = PeerRules { ca, ..PeerRules::default() };
    let tls = TlsClient::new(None, rules, &TlsOptions::default()).unwrap();
    let mut session = SessionParams::new(Link::UdpV4, Wrapping::None);
    session.timing.hand_window = LIMIT;
    let params = Arc::new(ClientParams {
        session,
        tls,
        version: "2.7.0".into(),
        peer_info: Vec::new(),
        tun_mtu_max: 1600,
        pull_filters: Vec::new(),
    });
    let connect = |number: usize| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.10.1.1:1194").unwrap();
        socket.set_nonblocking(true).unwrap();
        let name = if number < SLOW { format!("slow{number}") } else { format!("user{number}") };
        let credentials = Credentials { username: name, password: "pw".into() };
        let now = Now::system();
        let session =
            Session::client(Arc::clone(&params), Some(credentials), Box::new(SystemRandom), now).unwrap();
        Client { socket, session, up: None }
    };
    let mut clients: Vec<Client> = (0..CLIENTS).map(connect).collect();
    let mut buffer = [0; 2048];
    while clients.iter().any(|client| client.up.is_none()) {
        if up(&clients) == CLIENTS - SLOW {
            assert!(clients.iter().take(SLOW).all(|client| client.up.is_none()));
            release();
        }
        assert!(start.elapsed() < LIMIT, "not all clients came up: {}", up(&clients));
        let mut quiet = true;
        for client in &mut clients {
            while let Ok(len) = client.socket.recv(&mut buffer) {
                quiet = false;
                let _ = client.session.handle_packet(Now::system(), &buffer[..len]);
            }
            if client.session.poll_timeout().is_some_and(|(at, _)| at <= Instant::now()) {
                client.session.handle_timeout(Now::system());
            }
            while let Some(event) = client.session.poll_event() {
                match event {
                    Event::Established(_) => client.up = Some(start.elapsed()),
                    Event::Failed(failure) => panic!("{failure}"),
                    Event::AuthFailed(reason) => panic!("{reason:?}"),
                    _ => {}
                }
            }
            while let Some(packet) = client.session.poll_transmit() {
                let _ = client.socket.send(&packet);
            }
        }
        if quiet {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    clients
}

fn up(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.up.is_some()).count()
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

    let release = || drop(dir.write("go", "").unwrap());
    let clients = pair.right.enter(|| connect_all(pki.ca_cert(), Instant::now(), release)).unwrap();
    let mut times: Vec<Duration> = clients.iter().skip(SLOW).filter_map(|client| client.up).collect();
    times.sort();
    let last = *times.last().unwrap();
    println!("{} clients up: half in {:?}, all in {last:?}", times.len(), times[times.len() / 2]);
    assert_eq!(up(&clients), CLIENTS);
}
