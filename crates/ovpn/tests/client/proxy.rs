//! Through proxies: `client (leaf 1) ── proxy (hub) ── server (leaf 2)`; the client has no other way to the server.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ovpn_testkit::{Netns, Star, wait_for};

use crate::scene::{LIMIT, UP, client, folder, ping, stock_server};
use crate::steering::Program;

const PORT: u16 = 8080;

/// Runs a proxy in a namespace: `serve` gets each connection, and a place to tell what it saw.
fn proxy(ns: &Netns, serve: fn(TcpStream, &Sender<String>)) -> Receiver<String> {
    let (tell, seen) = channel();
    ns.enter(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tell = tell.clone();
                std::thread::spawn(move || serve(stream, &tell));
            }
        });
    })
    .unwrap();
    seen
}

/// Copies both ways until one end closes.
fn splice(a: TcpStream, b: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        })
    };
    let there = copy(a.try_clone().unwrap(), b.try_clone().unwrap());
    let _ = copy(b, a).join();
    let _ = there.join();
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn connect_and_splice(mut stream: TcpStream, request: &str) {
    let target = request.split(' ').nth(1).unwrap();
    let server = TcpStream::connect(target).unwrap();
    stream.write_all(b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n").unwrap();
    splice(stream, server);
}

fn plain_http(mut stream: TcpStream, tell: &Sender<String>) {
    let request = head(&mut stream);
    let _ = tell.send(request.clone());
    connect_and_splice(stream, &request);
}

fn basic_http(mut stream: TcpStream, tell: &Sender<String>) {
    let request = head(&mut stream);
    let _ = tell.send(request.clone());
    // alice:open sesame
    if request.contains("\r\nProxy-Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n") {
        connect_and_splice(stream, &request);
    } else {
        let _ = stream.write_all(b"HTTP/1.0 407 No\r\nProxy-Authenticate: Basic realm=\"t\"\r\n\r\n");
    }
}

fn ntlm_http(mut stream: TcpStream, tell: &Sender<String>) {
    let _ = tell.send(head(&mut stream));
    let _ = stream.write_all(b"HTTP/1.0 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n");
}

/// One SOCKS5 conversation; `password` is what it wants.
fn socks(mut stream: TcpStream, tell: &Sender<String>, password: bool) {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).unwrap();
    let mut methods = vec![0; greeting[1].into()];
    stream.read_exact(&mut methods).unwrap();
    let method = if password { 2 } else { 0 };
    if !methods.contains(&method) {
        let _ = stream.write_all(&[5, 0xff]);
        return;
    }
    stream.write_all(&[5, method]).unwrap();
    if password {
        let mut login = [0; 2 + 5 + 1 + 11];
        stream.read_exact(&mut login).unwrap();
        let right = &login == b"\x01\x05alice\x0bopen sesame";
        let _ = tell.send(format!("login {right}"));
        stream.write_all(&[1, u8::from(!right)]).unwrap();
        if !right {
            return;
        }
    }
    let mut request = [0; 10];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(request[3], 1, "an IPv4 address");
    let ip = Ipv4Addr::new(request[4], request[5], request[6], request[7]);
    let target = SocketAddr::new(ip.into(), u16::from_be_bytes([request[8], request[9]]));
    let _ = tell.send(format!("command {} {target}", request[1]));
    if request[1] == 1 {
        let server = TcpStream::connect(target).unwrap();
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        splice(stream, server);
    } else {
        associate(stream);
    }
}

/// A relay for datagrams that lives as long as the connection.
fn associate(mut stream: TcpStream) {
    let inside = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let outside = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = inside.local_addr().unwrap().port();
    let mut reply = vec![5, 0, 0, 1, 0, 0, 0, 0];
    reply.extend(port.to_be_bytes());
    for socket in [&inside, &outside] {
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    }
    stream.set_nonblocking(true).unwrap();
    stream.write_all(&reply).unwrap();
    let mut client = None;
    let mut buf = [0; 4096];
    loop {
        if let Ok((length, from)) = inside.recv_from(&mut buf) {
            client = Some(from);
            assert_eq!(buf[..4], [0, 0, 0, 1]);
            let ip = Ipv4Addr::new(buf[4], buf[5], buf[6], buf[7]);
            let to = (ip, u16::from_be_bytes([buf[8], buf[9]]));
            outside.send_to(&buf[10..length], to).unwrap();
        }
        if let (Ok((length, SocketAddr::V4(from))), Some(client)) =
            (outside.recv_from(&mut buf[10..]), client)
        {
            buf[..4].copy_from_slice(&[0, 0, 0, 1]);
            buf[4..8].copy_from_slice(&from.ip().octets());
            buf[8..10].copy_from_slice(&from.port().to_be_bytes());
            inside.send_to(&buf[..10 + length], client).unwrap();
        }
        if matches!(stream.read(&mut [0; 1]), Ok(0)) {
            return;
        }
    }
}

fn open_socks(stream: TcpStream, tell: &Sender<String>) {
    socks(stream, tell, false);
}

fn closed_socks(stream: TcpStream, tell: &Sender<String>) {
    socks(stream, tell, true);
}

/// Up and pinged through a proxy, then ended; what the proxy saw.
fn connect(label: &str, serve: fn(TcpStream, &Sender<String>), proto: &str, options: &str) -> Vec<String> {
    let dir = folder(label);
    let star = Star::new(label, 2).unwrap();
    let seen = proxy(&star.hub, serve);
    dir.write("login", "alice\nopen sesame\n").unwrap();
    let (server_proto, client_proto) =
        if proto == "tcp" { ("tcp4-server", "tcp4-client") } else { ("udp4", "udp4") };
    let _server = stock_server(&star.leaves[1], &dir, &format!("proto {server_proto}\n"));
    let mut client = client(
        &star.leaves[0],
        &dir,
        &format!("remote 10.10.2.2 1194 {client_proto}\nexplicit-exit-notify 1\n{options}"),
    );
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    // Large packets, too.
    star.leaves[0].run("ping", &["-c", "2", "-i", "0.2", "-s", "1300", "-W", "2", "10.77.0.1"]).unwrap();
    client.signal(15).unwrap();
    assert_eq!(client.wait(LIMIT).unwrap().code(), Some(0), "{}", client.stdout());
    seen.try_iter().collect()
}

#[test]
fn http_without_a_password() {
    let seen = connect(
        "px-http",
        plain_http,
        "tcp",
        "http-proxy 10.10.1.1 8080\nhttp-proxy-option AGENT tester\nhttp-proxy-option VERSION 1.1\n\
         http-proxy-option CUSTOM-HEADER X-Test 7\n",
    );
    assert_eq!(
        seen,
        [
            "CONNECT 10.10.2.2:1194 HTTP/1.1\r\nHost: 10.10.2.2:1194\r\nUser-Agent: tester\r\nX-Test: 7\r\n\r\n"
        ]
    );
}

#[test]
fn http_with_basic_authentication() {
    let seen = connect("px-basic", basic_http, "tcp", "http-proxy 10.10.1.1 8080 login basic\n");
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn http_asks_and_is_answered() {
    let seen = connect(
        "px-auto",
        basic_http,
        "tcp",
        "http-proxy 10.10.1.1 8080 auto\n<http-proxy-user-pass>\nalice\nopen sesame\n</http-proxy-user-pass>\n",
    );
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn socks_over_tcp() {
    let seen = connect("px-socks", open_socks, "tcp", "socks-proxy 10.10.1.1 8080\n");
    assert_eq!(seen, ["command 1 10.10.2.2:1194"]);
}

#[test]
fn socks_over_udp_with_a_password() {
    let seen = connect("px-socksu", closed_socks, "udp", "socks-proxy 10.10.1.1 8080 login\n");
    assert_eq!(seen, ["login true", "command 3 0.0.0.0:0"]);
}

/// `management-query-proxy`: a program names the proxy for every attempt, of a kind that the entry can use.
#[test]
fn a_program_names_the_proxy() {
    let label = "px-asked";
    let dir = folder(label);
    let star = Star::new(label, 2).unwrap();
    let seen = proxy(&star.hub, basic_http);
    let server = stock_server(&star.leaves[1], &dir, "proto tcp4-server\n");
    let question = "management mgmt unix\nmanagement-query-proxy\nmanagement-query-passwords\n";
    let more = format!("remote 10.10.2.2 1194 tcp4-client\nhttp-proxy 10.10.1.77 9\n{question}");
    let mut ours = client(&star.leaves[0], &dir, &more);
    let mut program = Program::at(&dir);
    program.hear(">PROXY:1,TCP,10.10.2.2");
    program.say("proxy HTTP 10.10.1.1");
    program.hear("ERROR: proxy command failed");
    program.say("proxy HTTP 10.10.1.1 8080");
    program.hear("SUCCESS: proxy command succeeded");
    program.hear(">PASSWORD:Need 'HTTP Proxy' username/password");
    program.say("username \"HTTP Proxy\" alice\npassword \"HTTP Proxy\" \"open sesame\"");
    ours.wait_for_text(UP, LIMIT).unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    program.say("proxy NONE");
    program.hear("ERROR: The 'proxy' command is not supported by the current daemon mode");
    // The next attempt asks anew; what is configured leads nowhere.
    program.say("state on\nsignal SIGUSR1");
    program.hear(">PROXY:1,TCP,10.10.2.2");
    program.say("proxy NONE");
    program.hear("SUCCESS: proxy command succeeded");
    let there = || ours.stdout().contains("10.10.1.77").then_some(());
    wait_for("the configured proxy", LIMIT, there).unwrap_or_else(|e| panic!("{e}\n{}", ours.stdout()));
    program.say("signal SIGTERM");
    ours.wait(LIMIT).unwrap();
    drop((ours, server));
    assert_eq!(seen.try_iter().count(), 2, "without a password, and with it");

    // Datagrams pass through SOCKS only.
    let star = Star::new(label, 2).unwrap();
    let seen = proxy(&star.hub, open_socks);
    let _server = stock_server(&star.leaves[1], &dir, "proto udp4\n");
    let mut ours = client(&star.leaves[0], &dir, &format!("remote 10.10.2.2 1194 udp4\n{question}"));
    let mut program = Program::at(&dir);
    program.hear(">PROXY:1,UDP,10.10.2.2");
    program.say("proxy HTTP 10.10.1.1 8080");
    program.hear("ERROR: proxy command failed");
    program.say("proxy SOCKS 10.10.1.1 8080");
    ours.wait_for_text(UP, LIMIT).unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["command 3 0.0.0.0:0"]);
}

#[test]
fn a_refusal_is_one_clear_sentence() {
    let label = "px-refused";
    let dir = folder(label);
    let star = Star::new(label, 1).unwrap();
    let _seen = proxy(&star.hub, ntlm_http);
    dir.write("login", "alice\nwrong\n").unwrap();
    let mut client = client(
        &star.leaves[0],
        &dir,
        "remote 10.10.2.2 1194 tcp4-client\nconnect-retry-max 1\nhttp-proxy 10.10.1.1 8080 auto-nct\nhttp-proxy-user-pass login\n",
    );
    let code = client.wait(LIMIT).unwrap().code();
    let text = client.stdout();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the HTTP proxy offers only ntlm"), "{text}");
}

/// The proxy's host route keeps it reachable when everything else goes into the tunnel.
#[test]
fn all_traffic_goes_through_the_tunnel_and_the_tunnel_through_the_proxy() {
    let label = "px-redirect";
    let dir = folder(label);
    let star = Star::new(label, 2).unwrap();
    let _seen = proxy(&star.hub, open_socks);
    star.leaves[0].ip("route add default via 10.10.1.1").unwrap();
    let _server = stock_server(&star.leaves[1], &dir, "proto udp4\npush \"redirect-gateway def1\"\n");
    let mut client =
        client(&star.leaves[0], &dir, "remote 10.10.2.2 1194 udp4\nsocks-proxy 10.10.1.1 8080\n");
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    let routes = star.leaves[0].ip("route show").unwrap();
    assert!(routes.contains("128.0.0.0/1 via 10.77.0.1"), "{routes}");
    // It lies on the link, so that no host route is needed; the server itself needs none.
    assert!(!routes.contains("10.10.2.2"), "{routes}");
}
