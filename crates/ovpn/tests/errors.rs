//! What a person reads when something is wrong: one sentence that says what to do, word for word.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Netns, Output, TempDir, run};

const LIMIT: Duration = Duration::from_secs(20);
const OVPN: &str = env!("CARGO_BIN_EXE_ovpn");

/// A folder with a server of `init`, quiet and small, and a profile for it.
fn made(label: &str) -> TempDir {
    let dir = TempDir::new(label).unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for words in [
        vec!["init", "--endpoint", "10.10.1.1", "--dir", &at("vpn")],
        vec!["profile", "add", "anna", "--dir", &at("vpn"), "--output", &at("anna.ovpn")],
    ] {
        run(Command::new(OVPN).args(words), LIMIT).and_then(Output::success).unwrap();
    }
    let conf = std::fs::read_to_string(at("vpn/server.conf")).unwrap();
    dir.write("server.conf", format!("{conf}\nsuppress-timestamps\nstatus-socket none\n")).unwrap();
    dir
}

/// What a mode says before "Exiting due to fatal error", and its exit code.
fn fatal(command: &mut Command) -> (String, i32) {
    let output = run(command, LIMIT).unwrap();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let [.., said, "Exiting due to fatal error"] = lines.as_slice() else { panic!("{output:?}") };
    ((*said).to_owned(), output.status.code().unwrap_or(-1))
}

/// The same in a folder, with words.
fn says(dir: &TempDir, words: &[&str], sentence: &str) {
    let mut command = Command::new(OVPN);
    command.current_dir(dir.path()).args(words).arg("--suppress-timestamps");
    assert_eq!(fatal(&mut command), (sentence.to_owned(), 1), "{words:?}");
}

#[test]
fn files_and_options() {
    let dir = made("errors");
    says(
        &dir,
        &["client", "nowhere.ovpn"],
        "Options error: Error opening configuration file: nowhere.ovpn; check the path; it is relative to the working \
         directory, not to the file that names it",
    );
    let version = env!("CARGO_PKG_VERSION");
    says(
        &dir,
        &["client", "anna.ovpn", "--remtoe", "x"],
        &format!(
            "Options error: Unrecognized option or missing or extra parameter(s) in [CMD-LINE]:1: remtoe ({version}); \
             did you mean `remote`?"
        ),
    );
    says(
        &dir,
        &["server", "server.conf", "--metrics", "0.0.0.0:9176"],
        "Options error: [CMD-LINE]:1:32: metrics are served to this machine only, and 0.0.0.0:9176 is reachable from others; \
         take a loopback address such as 127.0.0.1:9176, and let a proxy with access control publish it",
    );
    says(
        &dir,
        &["server", "server.conf", "--cert", "gone.crt"],
        "--cert fails with 'gone.crt': No such file or directory; look at the path; it is relative to the working directory",
    );
    says(
        &dir,
        &["server", "anna.ovpn"],
        "`ovpn server` was asked for, but the configuration is of another mode; use `ovpn --config FILE` to let it decide",
    );
}

#[test]
fn port_device_and_rights() {
    let dir = made("errors2");
    let ns = Netns::new("errors").unwrap();
    let server = |ns: &Netns| {
        let mut command = ns.command(OVPN);
        command.current_dir(dir.path()).args(["server", "server.conf"]);
        command
    };
    let taken = ns.enter(|| UdpSocket::bind("0.0.0.0:1194").unwrap()).unwrap();
    assert_eq!(
        fatal(&mut server(&ns)),
        (
            "TCP/UDP: Socket bind failed on local address [AF_INET]0.0.0.0:1194: Address already in use; another program \
             has this port: `ss -lunpt` shows which, --port takes another"
                .to_owned(),
            1
        )
    );
    drop(taken);
    // No device: an empty folder in the place of /dev/net.
    let mut command = ns.command("unshare");
    let script = "mount -t tmpfs none /dev/net && exec \"$0\" server server.conf";
    command.current_dir(dir.path()).args(["--mount", "--propagation", "private", "sh", "-c", script, OVPN]);
    let (said, code) = fatal(&mut command);
    let hint = "there is no /dev/net/tun: load the module with `modprobe tun`, or pass the device into the container";
    assert!(said.ends_with(hint) && code == 1, "{said}");
    // No rights: all capabilities dropped, the files still ours to read.
    let mut command = ns.command("setpriv");
    command.current_dir(dir.path()).args([
        "--bounding-set=-all",
        "--inh-caps=-all",
        OVPN,
        "server",
        "server.conf",
    ]);
    let (said, code) = fatal(&mut command);
    assert!(
        said.ends_with("a device needs root (the capability CAP_NET_ADMIN): start it with sudo"),
        "{said}"
    );
    assert_eq!(code, 1);
}

#[test]
fn expired_certificates_are_named_before_they_fail() {
    let dir = made("errors3");
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    // As if the clock stood in the year of issue: the certificate ended yesterday.
    dir.write("ext", "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n")
        .unwrap();
    let openssl = |words: &[&str]| {
        run(Command::new("openssl").current_dir(dir.path()).args(words), LIMIT)
            .and_then(Output::success)
            .unwrap();
    };
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "old.key",
        "-out",
        "old.csr",
        "-subj",
        "/CN=server",
    ]);
    let (ca, key) = (at("vpn/pki/ca.crt"), at("vpn/pki/private/ca.key"));
    openssl(&[
        "x509", "-req", "-in", "old.csr", "-CA", &ca, "-CAkey", &key, "-days", "-1", "-extfile", "ext",
        "-out", "old.crt",
    ]);
    let checked = run(
        Command::new(OVPN).current_dir(dir.path()).args([
            "check",
            "--config",
            "server.conf",
            "--cert",
            "old.crt",
            "--key",
            "old.key",
        ]),
        LIMIT,
    )
    .unwrap();
    assert!(checked.stdout.contains("the certificate CN=server expired on "), "{}", checked.stdout);
    assert!(checked.stdout.contains("have its authority issue a new one"), "{}", checked.stdout);
    // The server says the same at its start.
    let ns = Netns::new("expired").unwrap();
    let mut command = ns.command(OVPN);
    command.current_dir(dir.path()).args(["server", "server.conf", "--cert", "old.crt", "--key", "old.key"]);
    let mut server = ovpn_testkit::Running::start(&mut command).unwrap();
    server.wait_for_text("the certificate CN=server expired on ", LIMIT).unwrap();
}

/// Wrong use of a command: a sentence on standard error, exit code 2.
#[test]
fn wrong_use() {
    for (words, sentence) in [
        ("clinet x", "ovpn: there is no command and no file \"clinet\"; did you mean `ovpn client`?"),
        ("client", "ovpn: name a file: `ovpn client FILE`; `ovpn client --help` shows how"),
        (
            "profile ad x",
            "ovpn profile: \"ad\" is not known here; take one of add, renew, revoke, list; `ovpn profile --help` shows how",
        ),
        (
            "status --jsn",
            "ovpn status: \"--jsn\" is not known here; did you mean --json? `ovpn status --help` shows how",
        ),
        (
            "init",
            "ovpn init: say under which name clients reach this server: --endpoint HOST[:PORT]; `ovpn init --help` shows how",
        ),
        ("check", "ovpn check: name a configuration file; `ovpn check --help` shows how"),
        ("help tls-crpt", "ovpn: there is no option \"tls-crpt\"; did you mean tls-crypt?"),
    ] {
        let output = run(Command::new(OVPN).args(words.split(' ')), LIMIT).unwrap();
        assert_eq!((output.stderr.trim_end(), output.status.code()), (sentence, Some(2)), "{words}");
        assert_eq!(output.stdout, "", "{words}");
    }
}
