//! Signals at the server, and what its clients hear of them; its status beside stock's.

use std::fs;

use ovpn_testkit::{Pair, Running, wait_for};

use super::rig::*;

#[test]
fn clients_hear_that_the_server_goes_and_come_back() {
    let dir = folder("srv-notify");
    let pair = Pair::new("srv-notify").unwrap();
    let more = "proto udp\nexplicit-exit-notify 1\n";
    let mut server = start_server(&pair.left, &dir, more);
    let config = client_config("10.10.1.1", "client1", "connect-retry 1 1\n");
    for release in ["2.5.1", "2.6.14", "2.7.8"] {
        let mut client = start_client(&stock(release), &pair.right, &dir, "client.conf", &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        ping(&pair.right, "10.77.0.1");
        server.signal(15).unwrap();
        client.wait_for_text("server-pushed-connection-reset", LIMIT).unwrap();
        assert!(server.wait(LIMIT).unwrap().success());
        server = start_server(&pair.left, &dir, more);
        wait_for("the client to come back", LIMIT, || (count(&client.stdout(), UP) == 2).then_some(()))
            .unwrap_or_else(|error| panic!("{release}: {error}\n{}", client.stdout()));
        ping(&pair.right, "10.77.0.1");
        client.signal(15).unwrap();
        client.wait(LIMIT).unwrap();
    }
}

#[test]
fn signals_restart_reread_and_tell() {
    let dir = folder("srv-signals");
    let pair = Pair::new("srv-signals").unwrap();
    let mut server = start_server(&pair.left, &dir, "proto udp\nexplicit-exit-notify 1\nstatus-version 2\n");
    let config = client_config("10.10.1.1", "client1", "connect-retry 1 1\n");
    let mut client = start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    server.signal(12).unwrap();
    server.wait_for_text("CLIENT_LIST,client1,10.10.1.2:", LIMIT).unwrap();
    // SIGHUP reads the configuration again. The client is told, as stock tells it, and comes back by itself.
    dir.write(
        "server.conf",
        format!("{SERVER}proto udp\nexplicit-exit-notify 1\npush \"route 203.0.113.0 255.255.255.0\"\n"),
    )
    .unwrap();
    server.signal(1).unwrap();
    server.wait_for_text("SIGHUP[hard,] received, process restarting", LIMIT).unwrap();
    wait_for("a second start", LIMIT, || (count(&server.stdout(), UP) == 2).then_some(())).unwrap();
    wait_for("the client to come back", LIMIT, || (count(&client.stdout(), UP) == 2).then_some(())).unwrap();
    assert!(client.stdout().contains("route 203.0.113.0 255.255.255.0"), "{}", client.stdout());
    // SIGUSR1 does not.
    dir.write("server.conf", "nonsense\n").unwrap();
    server.signal(10).unwrap();
    wait_for("a third start", LIMIT, || (count(&server.stdout(), UP) == 3).then_some(())).unwrap();
    wait_for("the client to come back", LIMIT, || (count(&client.stdout(), UP) == 3).then_some(())).unwrap();
    ping(&pair.right, "10.77.0.1");
    server.signal(15).unwrap();
    assert!(server.wait(LIMIT).unwrap().success());
}

/// A status text with everything that differs from run to run replaced by its kind.
fn shape(text: &str, separator: char) -> Vec<String> {
    let date = |field: &str| field.len() == 19 && field.as_bytes()[4] == b'-' && field.as_bytes()[13] == b':';
    let field = |field: &str| match field {
        field if date(field) => "DATE".to_owned(),
        field if field.starts_with("10.10.1.2:") => "REAL".to_owned(),
        field if field.len() > 2 && field.bytes().all(|byte| byte.is_ascii_digit()) => "NUMBER".to_owned(),
        other => other.to_owned(),
    };
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with("TITLE"))
        // We queue no broadcasts.
        .filter(|line| !line.contains("queue length"))
        .map(|line| line.split(separator).map(field).collect::<Vec<_>>().join("|"))
        .collect();
    // Neither side orders its routes by anything that a reader could rely on.
    let routes = |line: &String| line.contains("client1|REAL|DATE") && !line.starts_with("CLIENT_LIST");
    let (mut rows, rest): (Vec<_>, Vec<_>) = lines.drain(..).partition(routes);
    rows.sort();
    rest.into_iter().chain(rows).collect()
}

#[test]
fn the_status_file_has_every_field_of_stocks() {
    let dir = folder("srv-status");
    let pair = Pair::new("srv-status").unwrap();
    fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write("ccd/client1", "iroute 10.9.0.0 255.255.0.0\niroute-ipv6 fd99::/64\n").unwrap();
    dir.write("up.txt", "al ice\nwonder\n").unwrap();
    script(&dir, "verify", "exit 0");
    for version in 1..=3 {
        let config = format!(
            "{SERVER}proto udp4\nclient-config-dir ccd\nstatus status.log 1\nstatus-version {version}\n\
             script-security 3\nauth-user-pass-verify ./verify via-env\n"
        );
        let texts = ["stock", "ours"].map(|who| {
            let mut server = if who == "ours" {
                start_server_with(&pair.left, &dir, &config)
            } else {
                dir.write("server.conf", &config).unwrap();
                stock("2.6.14")
                    .start(&pair.left, dir.path(), &["--config", "server.conf", "--disable-dco"])
                    .unwrap()
            };
            server.wait_for_text(UP, LIMIT).unwrap();
            let config = client_config("10.10.1.1", "client1", "auth-user-pass up.txt\n");
            let mut client: Running =
                start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &config);
            client.wait_for_text(UP, LIMIT).unwrap();
            ping(&pair.right, "10.77.0.1");
            let path = dir.path().join("status.log");
            let text = wait_for("the client in the status file", LIMIT, || {
                Some(content(&path)).filter(|text| text.contains("fd99::") && text.ends_with("END\n"))
            });
            let text = text.unwrap_or_else(|error| panic!("{error}\n{}", content(&path)));
            fs::remove_file(&path).unwrap();
            client.kill();
            server.signal(15).unwrap();
            server.wait(LIMIT).unwrap();
            text
        });
        let separator = if version == 3 { '\t' } else { ',' };
        let [theirs, ours] = texts.each_ref().map(|text| shape(text, separator));
        assert_eq!(ours, theirs, "version {version}:\n{}\n{}", texts[1], texts[0]);
    }
}
