//! Nothing leaves outside of the tunnel: the other side of the cable is watched while the server goes and comes back.

use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Running, TempDir};

use crate::scene::{LIMIT, UP, client, folder, ping, stock_server, wait_for_count};

/// Somewhere on the internet.
const ELSEWHERE: &str = "198.51.100.1";

/// A namespace whose default route leads over the cable, packets for `ELSEWHERE` sent all the time, and what is seen
/// of them at the other end.
struct Scene {
    dir: TempDir,
    pair: Pair,
    seen: Running,
    _traffic: Running,
}

fn scene(label: &str) -> Scene {
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    pair.left.ip("route add default via 10.10.1.2").unwrap();
    let mut watch = pair.right.command("tcpdump");
    watch.args([
        "-i",
        "veth1",
        "-nn",
        "-l",
        "-Q",
        "in",
        "not host 10.10.1.2 and not arp and not ip6 multicast",
    ]);
    watch.stderr(std::process::Stdio::null());
    let seen = Running::start(&mut watch).unwrap();
    let mut traffic = pair.left.command("sh");
    // Datagrams, and questions for names.
    traffic.args([
        "-c",
        &format!("while :; do ping -q -c 1 -W 1 {ELSEWHERE}; ping -q -c 1 -W 1 10.10.1.77; done"),
    ]);
    let traffic = Running::start(&mut traffic).unwrap();
    Scene { dir, pair, seen, _traffic: traffic }
}

impl Scene {
    /// Waits until the watcher has seen more of it: without a guard it does.
    fn leaks(&self) {
        let before = self.count();
        ovpn_testkit::wait_for("a packet outside the tunnel", LIMIT, || {
            (self.count() > before).then_some(())
        })
        .unwrap();
    }

    fn count(&self) -> usize {
        self.seen.stdout().matches(ELSEWHERE).count()
    }
}

fn tables(ns: &Netns) -> String {
    ns.run("nft", &["list", "tables"]).unwrap()
}

/// The server vanishes for a while; how many packets were seen outside from the first connection to the end.
fn reconnect(scene: &Scene, options: &str) -> ([Running; 2], usize) {
    let mut server =
        stock_server(&scene.pair.right, &scene.dir, "proto udp4\npush \"redirect-gateway def1\"\n");
    let mut client = client(&scene.pair.left, &scene.dir, &format!("remote 10.10.1.2 1194 udp4\n{options}"));
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&scene.pair.left, "10.77.0.1");
    // What was on its way before has arrived.
    std::thread::sleep(Duration::from_millis(300));
    let before = scene.count();
    server.kill();
    client.wait_for_text("process restarting", LIMIT).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let server = stock_server(&scene.pair.right, &scene.dir, "proto udp4\npush \"redirect-gateway def1\"\n");
    wait_for_count(&client, UP, 2);
    ping(&scene.pair.left, "10.77.0.1");
    let after = scene.count();
    ([client, server], after - before)
}

#[test]
fn a_tunnel_that_goes_away_leaks() {
    // The control for the tests below: without either option packets are seen.
    let scene = scene("lk-open");
    scene.leaks();
    let (_both, leaked) = reconnect(&scene, "");
    assert!(leaked > 0, "{}", scene.seen.stdout());
}

#[test]
fn persist_tun_keeps_the_routes() {
    let scene = scene("lk-persist");
    scene.leaks();
    let ([mut client, _server], leaked) = reconnect(&scene, "persist-tun\n");
    assert_eq!(leaked, 0, "{}", scene.seen.stdout());
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success());
    scene.leaks();
}

#[test]
fn block_leaks_without_persist_tun() {
    let scene = scene("lk-block");
    scene.leaks();
    let ([mut client, _server], leaked) = reconnect(&scene, "block-leaks\n");
    assert_eq!(leaked, 0, "{}", scene.seen.stdout());
    // A restart of everything changes nothing about it.
    let before = scene.count();
    client.signal(1).unwrap();
    wait_for_count(&client, UP, 3);
    assert_eq!(scene.count(), before, "{}", scene.seen.stdout());
    assert!(tables(&scene.pair.left).contains("ovpn-block-leaks"));
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success());
    assert_eq!(tables(&scene.pair.left), "");
    scene.leaks();
}

#[test]
fn a_killed_client_leaves_the_way_closed_and_the_next_takes_over() {
    let scene = scene("lk-kill");
    let _server = stock_server(&scene.pair.right, &scene.dir, "proto udp4\n");
    let options = "remote 10.10.1.2 1194 udp4\nblock-leaks\n";
    let mut first = client(&scene.pair.left, &scene.dir, options);
    first.wait_for_text(UP, LIMIT).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = scene.count();
    first.kill();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(scene.count(), before, "{}", scene.seen.stdout());
    let mut second = client(&scene.pair.left, &scene.dir, options);
    second.wait_for_text(UP, LIMIT).unwrap();
    ping(&scene.pair.left, "10.77.0.1");
    second.signal(2).unwrap();
    assert!(second.wait(LIMIT).unwrap().success());
    assert_eq!(tables(&scene.pair.left), "");
    scene.leaks();
    // A run that fails is not one that was told to end.
    let mut third = client(
        &scene.pair.left,
        &scene.dir,
        "remote 10.10.1.2 1999 udp4\nblock-leaks\nconnect-retry-max 1\nhand-window 1\n",
    );
    assert_eq!(third.wait(LIMIT).unwrap().code(), Some(1));
    assert!(third.stdout().contains("nft delete table inet ovpn-block-leaks"), "{}", third.stdout());
    let words = ["delete", "table", "inet", "ovpn-block-leaks"];
    assert!(scene.pair.left.command("nft").args(words).status().unwrap().success());
}
