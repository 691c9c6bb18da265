//! The authority over its life: an authority of easy-rsa, forwarding, full disks and interrupted commands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod made;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use made::{LIMIT, OVPN, UP, Vpn, ovpn};
use ovpn_testkit::{Output, Pair, Running, Star, StockOpenvpn, TempDir, run};

#[test]
fn an_authority_of_easy_rsa_goes_on_here() {
    let dir = TempDir::new("easyrsa").unwrap();
    let pki = dir.path().join("pki");
    let easyrsa = |args: &[&str]| {
        let mut command = Command::new("/usr/share/easy-rsa/easyrsa");
        command.current_dir(dir.path()).env("EASYRSA_BATCH", "1").env("EASYRSA_PKI", &pki);
        command.args(args);
        run(&mut command, Duration::from_secs(60)).and_then(Output::success).expect("easyrsa")
    };
    easyrsa(&["init-pki"]);
    easyrsa(&["build-ca", "nopass"]);
    easyrsa(&["build-server-full", "server", "nopass"]);
    easyrsa(&["build-client-full", "carl", "nopass"]);
    easyrsa(&["build-client-full", "lost", "nopass"]);
    // It puts away the key of what it revokes.
    let key_of_lost = std::fs::read_to_string(pki.join("private/lost.key")).unwrap();
    let cert_of_lost = std::fs::read_to_string(pki.join("issued/lost.crt")).unwrap();
    easyrsa(&["revoke", "lost"]);
    let at = pki.to_string_lossy().into_owned();
    let before = tree(&pki);
    let vpn = Vpn::new("adopted", &["--import", &at]);
    assert_eq!(tree(&pki), before, "the folder of easy-rsa is as it was");
    let list: serde_json::Value =
        serde_json::from_str(&ovpn(&["profile", "list", "--json", "--dir", &vpn.at])).unwrap();
    let state = |name: &str| {
        let rows = list.as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).map(|row| row["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state("carl").as_deref(), Some("valid"), "{list}");
    assert_eq!(state("lost").as_deref(), Some("revoked"), "{list}");

    // What easy-rsa issued is good here, what it revoked is not, and a renewed profile is.
    let stock = StockOpenvpn::any().unwrap();
    let renewed = vpn.profile("renew", "carl");
    let read = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap();
    let old = |name: &str, cert: &str, key: &str| {
        let text = replace_block(&std::fs::read_to_string(&renewed).unwrap(), "cert", cert);
        let text = replace_block(&text, "key", key);
        vpn.dir.write(&format!("old-{name}.ovpn"), text).unwrap().to_string_lossy().into_owned()
    };
    let carl = old("carl", &read("issued/carl.crt"), &read("private/carl.key"));
    let lost = old("lost", &cert_of_lost, &key_of_lost);
    let pair = Pair::new("adopted").unwrap();
    let mut server = vpn.serve(&pair.left, &[]);
    for profile in [renewed.clone(), carl] {
        let mut client = stock.start(&pair.right, Path::new("/"), &["--config", &profile]).unwrap();
        client.wait_for_text(UP, LIMIT).unwrap();
        client.signal(15).unwrap();
        client.wait(LIMIT).unwrap();
    }
    let mut client = stock.start(&pair.right, Path::new("/"), &["--config", &lost]).unwrap();
    server.wait_for_text("revoked", LIMIT).unwrap();
    client.kill();
}

fn replace_block(text: &str, tag: &str, with: &str) -> String {
    let (start, end) = (text.find(&format!("<{tag}>")).unwrap(), text.find(&format!("</{tag}>")).unwrap());
    format!("{}<{tag}>\n{}\n{}", &text[..start], with.trim_end(), &text[end..])
}

/// Every file below a folder with its content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.push((path.to_string_lossy().into_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn nat_forwards_and_is_taken_back() {
    let vpn = Vpn::new("nat", &[]);
    let star = Star::new("nat", 2).unwrap();
    let setting = |name: &str| star.hub.run("sysctl", &["-n", name]).unwrap().trim().to_owned();
    let forwarding = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
    for name in forwarding {
        star.hub.run("sysctl", &["-qw", &format!("{name}=0")]).unwrap();
    }
    // A table of somebody else stays as it is.
    star.hub.run("nft", &["add", "table", "inet", "other"]).unwrap();
    let routes = ["--push", "route 10.10.2.0 255.255.255.0", "--push", "route-ipv6 fd00:0:0:2::/64"];
    let profile = vpn.profile("add", "anna");
    let ping = |to: &str| {
        let args = ["-c", "1", "-W", "1", to];
        star.leaves[0].try_run("ping", &args, LIMIT).unwrap().status.success()
    };
    let connect = || {
        let mut client = Running::start(star.leaves[0].command(OVPN).args([
            "client",
            &profile,
            "--status-socket",
            "none",
        ]))
        .unwrap();
        client.wait_for_text(UP, LIMIT).unwrap();
        client
    };
    // The host behind the server knows no way back to the tunnel: only translated packets are answered.
    for (nat, reached) in [(false, false), (true, true)] {
        let mut words = routes.to_vec();
        if nat {
            words.push("--nat");
        }
        let mut server = vpn.serve(&star.hub, &words);
        let mut client = connect();
        assert_eq!(ping("10.10.2.2"), reached, "nat {nat}");
        assert_eq!(ping("fd00:0:0:2::2"), reached, "nat {nat}, IPv6");
        assert_eq!(setting(forwarding[0]), if nat { "1" } else { "0" });
        client.signal(15).unwrap();
        client.wait(LIMIT).unwrap();
        server.signal(15).unwrap();
        server.wait(LIMIT).unwrap();
        assert_eq!(forwarding.map(setting), ["0", "0"], "as before");
        let tables = star.hub.run("nft", &["list", "tables"]).unwrap();
        assert_eq!(tables.trim(), "table inet other");
    }
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let dir = TempDir::new("full").unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    // A disk of 256 KiB in a mount namespace of its own; between two looks nothing may have changed.
    let script = r#"
set -eu
mount -t tmpfs -o size=256k none "$1"
cd "$1"
"$2" init --endpoint h --dir vpn >/dev/null
"$2" profile add anna --dir vpn --output anna.ovpn
look() { find . ! -name filler -type f -exec sha256sum {} + | sort; }
look > /dev/shm/before.$$
dd if=/dev/zero of=filler bs=4k 2>/dev/null || true
for words in "profile add bert --output bert.ovpn --dir vpn" "profile renew anna --output anna.ovpn --dir vpn" \
             "profile revoke anna --dir vpn" "init --endpoint h --dir other"; do
  if "$2" $words 2>error; then echo "'$words' succeeded on a full disk"; exit 1; fi
  rm -f error
  look | diff /dev/shm/before.$$ - || { echo "'$words' left something behind"; exit 1; }
done
rm filler
"$2" profile add bert --output bert.ovpn --dir vpn
"$2" profile revoke anna --dir vpn
"$2" profile list --dir vpn
rm -f /dev/shm/before.$$
"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&disk).arg(OVPN);
    let list = run(&mut command, Duration::from_secs(60)).and_then(Output::success).unwrap();
    assert!(list.contains("bert  ") && list.contains("revoked"), "{list}");
}

#[test]
fn a_killed_command_leaves_no_half_file() {
    let vpn = Vpn::new("killed", &[]);
    let mut ended = 0;
    for step in 0..60u64 {
        let name = format!("n{step}");
        let file = vpn.path(&format!("{name}.ovpn"));
        let words = ["profile", "add", &name, "--dir", &vpn.at, "--output", &file];
        let mut child = Command::new(OVPN).args(words).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(step * 700));
        child.kill().unwrap();
        ended += u32::from(!child.wait().unwrap().success());
        if let Ok(text) = std::fs::read_to_string(&file) {
            assert!(text.ends_with("</tls-crypt-v2>\n"), "{text}");
        }
        let list: serde_json::Value =
            serde_json::from_str(&ovpn(&["profile", "list", "--json", "--dir", &vpn.at])).unwrap();
        assert!(!list.as_array().unwrap().is_empty());
    }
    assert!(ended > 0, "none was killed in time");
    // Every list is whole: the authority goes on.
    vpn.profile("add", "last");
    ovpn(&["profile", "revoke", "last", "--dir", &vpn.at]);
}
