//! A server that gives up root goes on working: routes, keys, restarts; every thread of it, and nothing more.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::rig::*;
use ovpn_testkit::{Pair, Running, wait_for};

/// What all threads of a process may do, as `/proc` tells it.
fn rights(of: &Running) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for thread in fs::read_dir(format!("/proc/{}/task", of.id())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap_or_default();
        let wanted = ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapAmb:"];
        let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        all.insert(lines.map(str::trim_end).collect::<Vec<_>>().join(" "));
    }
    all
}

fn nobody_with(capabilities: u64) -> BTreeSet<String> {
    let id = "\t65534\t65534\t65534\t65534";
    BTreeSet::from([format!(
        "Uid:{id} Gid:{id} Groups:\t65534 CapPrm:\t{capabilities:016x} CapEff:\t{capabilities:016x} \
         CapAmb:\t0000000000000000"
    )])
}

const NET_ADMIN: u64 = 1 << 12;
const NET_BIND_SERVICE: u64 = 1 << 10;

#[test]
fn a_server_works_on_as_nobody() {
    let dir = folder("srv-nobody");
    let pair = Pair::new("srv-nobody").unwrap();
    fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write("ccd/client1", "iroute 10.9.0.0 255.255.0.0\n").unwrap();
    script(
        &dir,
        "connect",
        "id -u >>/tmp/$common_name.$daemon_pid; grep CapEff /proc/self/status >>/tmp/$common_name.$daemon_pid",
    );
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = start_server(
        &pair.left,
        &dir,
        "proto udp\nport 443\nuser nobody\ngroup nogroup\npersist-tun\npersist-key\nstatus status.log 1\nmlock\n\
         ifconfig-pool-persist pool.txt 1\nclient-config-dir ccd\nreneg-sec 4 4\nhand-window 2\nwritepid pid\n\
         script-security 2\nclient-connect ./connect\nnice 5\n",
    );
    for line in ["GID set to nogroup", "UID set to nobody", "Capabilities retained: CAP_NET_ADMIN"] {
        server.wait_for_text(line, LIMIT).unwrap();
    }
    // With `mlock` the right to lock memory stays, too.
    let kept = nobody_with(NET_ADMIN | NET_BIND_SERVICE | 1 << 14);
    assert_eq!(rights(&server), kept);
    assert_eq!(content(dir.path().join("pid")).trim(), server.id().to_string());
    let stat = content(format!("/proc/{}/stat", server.id()));
    assert_eq!(stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16), Some("5"), "{stat}");

    let config = client_config("10.10.1.1", "client1", "").replace(" 1194", " 443");
    let mut client = start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    pair.right.ip("addr add 10.9.0.1/32 dev lo").unwrap();
    // The route to the network behind the client was made by a process that is not root.
    ping(&pair.left, "10.9.0.1");
    let keys = || count(&client.stdout(), "Control Channel: TLSv1.3");
    wait_for("two renegotiations", LIMIT, || (keys() >= 3).then_some(())).unwrap();
    ping(&pair.left, "10.9.0.1");
    // Files in a folder that is not its own are written on.
    let status = dir.path().join("status.log");
    wait_for("the status file", LIMIT, || content(&status).contains("10.9.0.0/16,client1").then_some(()))
        .unwrap();
    assert_eq!(fs::metadata(&status).unwrap().uid(), 0);
    wait_for("the pool's file", LIMIT, || {
        content(dir.path().join("pool.txt")).contains("client1,10.77.0.2").then_some(())
    })
    .unwrap();
    // A script is nobody, too, and may not configure the network.
    let file = format!("/tmp/client1.{}", server.id());
    let seen = content(&file);
    let _ = fs::remove_file(&file);
    assert_eq!(seen, "65534\nCapEff:\t0000000000000000\n");

    // SIGUSR1: keys and device stay, the socket is bound again; the client comes back.
    server.signal(10).unwrap();
    wait_for("a restart", LIMIT, || (count(&server.stdout(), UP) == 2).then_some(())).unwrap();
    client.signal(10).unwrap();
    wait_for("the client to come back", LIMIT, || (count(&client.stdout(), UP) == 2).then_some(())).unwrap();
    ping(&pair.left, "10.9.0.1");
    assert_eq!(rights(&server), kept);

    client.signal(15).unwrap();
    client.wait(LIMIT).unwrap();
    wait_for("the network's route to go", LIMIT, || {
        let routes = pair.left.ip("route").unwrap();
        (!routes.contains("10.9.0.0")).then_some(())
    })
    .unwrap();
    server.signal(15).unwrap();
    assert!(server.wait(LIMIT).unwrap().success());
    assert!(!pair.left.ip("link").unwrap().contains("tun"), "the device stayed");
}

#[test]
fn a_server_may_be_locked_into_a_directory() {
    let dir = folder("srv-chroot");
    let pair = Pair::new("srv-chroot").unwrap();
    fs::create_dir_all(dir.path().join("jail/ccd")).unwrap();
    fs::create_dir_all(dir.path().join("jail/tmp")).unwrap();
    dir.write("jail/ccd/client1", "push \"route 203.0.113.0 255.255.255.0\"\n").unwrap();
    let mut server = start_server(
        &pair.left,
        &dir,
        "proto udp\nuser nobody\ngroup nogroup\nchroot jail\nclient-config-dir /ccd\nccd-exclusive\n",
    );
    server.wait_for_text("chroot to 'jail' and cd to '/' succeeded", LIMIT).unwrap();
    let root = fs::read_link(format!("/proc/{}/root", server.id())).unwrap();
    assert_eq!(root, fs::canonicalize(dir.path().join("jail")).unwrap());
    assert_eq!(rights(&server), nobody_with(NET_ADMIN));
    let mut client = start_client(
        &stock("2.7.8"),
        &pair.right,
        &dir,
        "client.conf",
        &client_config("10.10.1.1", "client1", ""),
    );
    client.wait_for_text("route 203.0.113.0 255.255.255.0", LIMIT).unwrap();
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    // Who has no file in the jail stays outside.
    let mut other = start_client(
        &stock("2.6.14"),
        &pair.right,
        &dir,
        "other.conf",
        &client_config("10.10.1.1", "client2", ""),
    );
    other.wait_for_text("AUTH_FAILED", LIMIT).unwrap();
}

#[test]
fn unknown_names_end_the_start_with_a_sentence() {
    let dir = folder("srv-nouser");
    let pair = Pair::new("srv-nouser").unwrap();
    let mut server = start_server_with(&pair.left, &dir, &format!("{SERVER}proto udp\nuser no-such-user\n"));
    server.wait_for_text("--user no-such-user: no such name", LIMIT).unwrap();
    assert_eq!(server.wait(LIMIT).unwrap().code(), Some(1));
    assert!(!pair.left.ip("link").unwrap().contains("tun"), "the device stayed");
}

#[test]
fn cd_counts_for_everything_and_once() {
    let dir = folder("srv-cd");
    let pair = Pair::new("srv-cd").unwrap();
    fs::create_dir(dir.path().join("inner")).unwrap();
    for name in ["ca.crt", "server.crt", "server.key"] {
        fs::rename(dir.path().join(name), dir.path().join("inner").join(name)).unwrap();
    }
    let mut server = start_server_with(
        &pair.left,
        &dir,
        &format!("cd inner\n{SERVER}proto udp\nlog-append server.log\nwritepid pid\n"),
    );
    let log = dir.path().join("inner/server.log");
    wait_for("the first start", LIMIT, || (count(&content(&log), UP) == 1).then_some(())).unwrap();
    assert_eq!(content(dir.path().join("inner/pid")).trim(), server.id().to_string());
    server.signal(1).unwrap();
    wait_for("the second start", LIMIT, || (count(&content(&log), UP) == 2).then_some(())).unwrap();
    server.signal(15).unwrap();
    assert!(server.wait(LIMIT).unwrap().success(), "{}", content(&log));
}
