//! Several listening sockets at once; what else arrives at them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use ovpn_testkit::{Pair, Star};

use super::rig::*;

#[test]
fn clients_of_every_kind_of_socket_reach_each_other_through_the_host() {
    let dir = folder("srv-locals");
    let star = Star::new("srv-locals", 4).unwrap();
    star.hub.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap();
    let _server = start_server(
        &star.hub,
        &dir,
        "local 10.10.1.1 1194 udp4\nlocal 10.10.2.1 1194 tcp4-server\nlocal fd00:0:0:3::1 1194 udp6\n\
         local fd00:0:0:4::1 1195 tcp6-server\n",
    );
    let ends = [
        ("10.10.1.1 1194 udp4", "2.5.1"),
        ("10.10.2.1 1194 tcp4-client", "2.6.14"),
        ("fd00:0:0:3::1 1194 udp6", "2.7.8"),
        ("fd00:0:0:4::1 1195 tcp6-client", "2.7.8"),
    ];
    let mut clients = Vec::new();
    for (place, (remote, release)) in ends.into_iter().enumerate() {
        let name = format!("client{}", place + 1);
        let config = client_config("placeholder", &name, "")
            .replace("remote placeholder 1194\nproto udp", &format!("remote {remote}"))
            .replace("explicit-exit-notify 1\n", "");
        let mut client =
            start_client(&stock(release), &star.leaves[place], &dir, &format!("{name}.conf"), &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        assert!(client.stdout().contains(&format!("ifconfig 10.77.0.{} ", place + 2)), "{}", client.stdout());
        clients.push(client);
    }
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0), (2, 0), (3, 1)] {
        ping(&star.leaves[from], &format!("10.77.0.{}", to + 2));
    }
    // The host's rules decide what passes between clients.
    star.hub.run("sysctl", &["-qw", "net.ipv4.ip_forward=0"]).unwrap();
    let refused = star.leaves[0].run("ping", &["-c", "1", "-W", "1", "10.77.0.3"]);
    assert!(refused.is_err(), "packets pass although the host does not forward");
    ping(&star.leaves[0], "10.77.0.1");
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let dir = folder("srv-multihome");
    let pair = Pair::new("srv-multihome").unwrap();
    pair.left.ip("addr add 10.10.1.9/24 dev veth1").unwrap();
    let _server = start_server(&pair.left, &dir, "proto udp\nmultihome\n");
    for (address, release) in [("10.10.1.9", "2.6.14"), ("10.10.1.1", "2.7.8")] {
        let config = client_config(address, "client1", "");
        let mut client = start_client(&stock(release), &pair.right, &dir, "client.conf", &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        ping(&pair.right, "10.77.0.1");
        ping(&pair.left, "10.77.0.2");
        assert!(!client.stdout().contains("Incoming packet rejected"), "{}", client.stdout());
    }
}

#[test]
fn what_is_not_openvpn_goes_to_another_server() {
    let dir = folder("srv-share");
    let pair = Pair::new("srv-share").unwrap();
    let _server = start_server(&pair.left, &dir, "proto tcp-server\nport-share 127.0.0.1 8080\n");
    pair.left.ip("link set lo up").unwrap();
    let other = pair.left.enter(|| TcpListener::bind("127.0.0.1:8080").unwrap()).unwrap();
    let page = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let mut request = [0; 16];
        let count = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        request[..count].to_vec()
    });
    let answer = pair.right.enter(|| {
        let mut stream = TcpStream::connect("10.10.1.1:1194").unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(answer.unwrap(), "HTTP/1.0 200 OK\r\n\r\n");
    assert_eq!(page.join().unwrap(), b"GET / HTTP/1.0\r\n");
    let config = client_config("10.10.1.1", "client1", "")
        .replace("proto udp", "proto tcp-client")
        .replace("explicit-exit-notify 1\n", "");
    let mut client = start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
}
