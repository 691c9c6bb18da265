//! What happens beside the straight way: killed and started again, fallen back to the engine, events lost.

use std::process::Command;

use ovpn_dco::{DataPlane, Mode, PeerId};
use ovpn_kernel::Kernel;
use ovpn_testkit::{Netns, wait_for};

use crate::ends::{End, UP, Up, assert_clean, client, folder, kind, ping, server, state, terminate, up};
use crate::{LIMIT, driver, program};

/// A killed client's peer expires at the server; a killed program's device goes with the next start, whose own takes
/// the same name.
pub(crate) fn killed_and_started_again(driver: &'static str, peers_go_with_process: bool) {
    let more = ["keepalive 2 6\n", ""];
    let mut tunnel = up("killed", [End::Kernel, End::Kernel], ["udp4", "udp4"], more);
    let (left, right) = (&tunnel.pair.left, &tunnel.pair.right);
    ping(right, "10.77.0.1");

    tunnel.client.kill();
    assert_eq!(kind(right, "tun0"), driver, "the kernel keeps the device");
    if peers_go_with_process {
        // Twice of what was written is the server's own patience.
        tunnel.server.wait_for_text("Inactivity timeout (--ping-restart)", LIMIT).unwrap();
    }
    let config = client("10.10.1.1", "udp4", more[1]);
    let mut again = End::Kernel.start(right, &tunnel.dir, "again.conf", &config);
    again.wait_for_text("that a killed process left behind", LIMIT).unwrap();
    again.wait_for_text(UP, LIMIT).unwrap();
    assert_eq!(right.ip("-br link show").unwrap().matches("tun").count(), 1);
    ping(right, "10.77.0.1");

    tunnel.server.kill();
    let config = server("udp4", more[0]);
    let mut server = End::Kernel.start(left, &tunnel.dir, "server.conf", &config);
    server.wait_for_text("that a killed process left behind", LIMIT).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    assert_eq!(left.ip("-br link show").unwrap().matches("tun").count(), 1);
    // The client notices that nobody answers, and finds the new server.
    wait_for("the client at the new server", LIMIT, || {
        right
            .try_run("ping", &["-c", "1", "-W", "2", "10.77.0.1"], LIMIT)
            .ok()?
            .status
            .success()
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n== server\n{}", again.stdout(), server.stdout()));

    terminate(&mut again);
    terminate(&mut server);
    assert_clean(right, &tunnel.before[1]);
    assert_clean(left, &tunnel.before[0]);
}

#[test]
#[ignore = "needs the kernel's driver"]
fn killed_and_started_again_ovpn() {
    killed_and_started_again("ovpn", true);
}

/// A row of the table of fallbacks: what the client's file says more, what its namespace is prepared with, what the
/// server's file says more; and what is told.
struct Fallback {
    what: &'static str,
    client: &'static str,
    prepare: &'static str,
    server: &'static str,
    reason: &'static str,
}

const FALLBACKS: [Fallback; 3] = [
    Fallback {
        what: "a framing that the server pushes",
        client: "",
        prepare: "link set lo up",
        server: "push \"compress stub\"\ncompress stub\nallow-compression yes\n",
        reason: "the kernel's driver refused: ",
    },
    Fallback {
        what: "a device of another kind",
        client: "dev tun7\n",
        prepare: "tuntap add dev tun7 mode tun",
        server: "",
        reason: "`dev` names the device tun7, which exists and is of kind tun",
    },
    Fallback {
        what: "asked for",
        client: "disable-dco\n",
        prepare: "link set lo up",
        server: "",
        reason: "`disable-dco` asks for the engine",
    },
];

/// The tunnel comes up on the engine, and the log tells why; `check` says the same before.
#[test]
#[ignore = "needs the kernel's driver"]
fn fallbacks() {
    for Fallback { what, client: of_client, prepare, server: of_server, reason } in FALLBACKS {
        let dir = folder("fallback");
        let pair = ovpn_testkit::Pair::new("fallback").unwrap();
        pair.right.ip(prepare).unwrap();
        let before = state(&pair.right);
        let mut server = End::Kernel.start(&pair.left, &dir, "server.conf", &server("udp4", of_server));
        server.wait_for_text(UP, LIMIT).unwrap();
        let mut client =
            End::Kernel.start(&pair.right, &dir, "client.conf", &client("10.10.1.1", "udp4", of_client));
        if let Err(error) = client.wait_for_text(UP, LIMIT) {
            panic!("{what}: {error}\n== server\n{}", server.stdout());
        }
        let told = client.stdout();
        let line = told.lines().rfind(|line| line.contains("Data plane: engine")).unwrap_or_default();
        assert!(line.contains(reason), "{what}: {told}");
        ping(&pair.right, "10.77.0.1");
        if of_server.is_empty() {
            let mut check = pair.right.command(program());
            let output = check.current_dir(dir.path()).args(["check", "client.conf"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // a tunnel is up meanwhile, on that very device
            assert!(text.contains(&format!("data plane  engine: {reason}")), "{what}: {text}");
        }
        terminate(&mut client);
        assert_clean(&pair.right, &before);
        terminate(&mut server);
    }
}

/// By name there is no fallback: the program ends with every reason.
#[test]
#[ignore = "needs the kernel's driver"]
fn by_name_or_not_at_all() {
    let dir = folder("by-name");
    let ns = Netns::new("by-name").unwrap();
    let config = client("10.10.1.1", "udp4", "data-plane kernel\ncomp-lzo\n");
    let mut client = End::Kernel.start(&ns, &dir, "client.conf", &config);
    assert_eq!(client.wait(LIMIT).unwrap().code(), Some(1));
    let told = format!("{}{}", client.stdout(), client.stderr());
    assert!(told.contains("data-plane kernel: `comp-lzo` wants compression framing"), "{told}");
}

/// The root of a container has no right to the kernel's driver: the engine carries its tunnel.
#[test]
#[ignore = "needs the kernel's driver"]
fn root_of_a_container() {
    let dir = folder("container");
    dir.write("server.conf", server("udp4", "")).unwrap();
    dir.write("client.conf", client("127.0.0.1", "udp4", "")).unwrap();
    let script = r#"ip link set lo up
"$0" --config server.conf >server.log 2>&1 & server=$!
for i in $(seq 300); do grep -q "Sequence Completed" server.log && break; sleep 0.2; done
"$0" --config client.conf >client.log 2>&1 & client=$!
for i in $(seq 300); do grep -q "Sequence Completed" client.log && break; sleep 0.2; done
"$0" check client.conf
kill $client; wait $client; kill $server; wait $server
cat server.log client.log"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "bash", "-c", script]).arg(program());
    let output = ovpn_testkit::run(command.current_dir(dir.path()), LIMIT * 2).unwrap().stdout;
    let reason = "the kernel driver ovpn needs CAP_NET_ADMIN in the initial user namespace";
    assert_eq!(output.matches(UP).count(), 2, "{output}");
    let lines = output.lines().filter(|line| line.contains("Data plane: engine") && line.contains(reason));
    assert_eq!(lines.count(), 2, "{output}");
    assert!(output.contains(&format!("data plane  engine: {reason}")), "{output}");
}

/// While the server sleeps its client's peer is removed, with so many events that this one is lost. A dump repairs it:
/// the server lets the client go, and the client comes back.
#[test]
#[ignore = "needs the kernel's driver"]
fn lost_events_are_made_good() {
    let tunnel = up("lost", [End::Kernel, End::Kernel], ["udp4", "udp4"], ["keepalive 2 20\n", ""]);
    let Up { pair, mut server, mut client, .. } = tunnel;
    ping(&pair.right, "10.77.0.1");
    server.signal(19).unwrap();
    pair.left
        .enter(|| {
            driver::flood("flood", 14_000);
            let plane = Kernel::join("tun0").unwrap();
            assert_eq!(plane.device().mode, Mode::MultiPeer);
            for peer in plane.peer_dump().unwrap() {
                plane.peer_del(peer.id).unwrap();
            }
            // a peer that is nobody's
            let (transport, peer) = driver::some_peer(&plane, 4000, "10.77.0.200");
            plane.peer_new(&peer).unwrap();
            server.signal(18).unwrap();
            wait_for("the stranger's removal", LIMIT, || {
                plane.peer_get(PeerId::new(4000).unwrap()).is_err().then_some(())
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", server.stdout()));
            drop(transport);
        })
        .unwrap();
    server.wait_for_text("the data plane has lost the client", LIMIT).unwrap();
    wait_for("the client's return", LIMIT, || (client.stdout().matches(UP).count() >= 2).then_some(()))
        .unwrap();
    ping(&pair.right, "10.77.0.1");
    terminate(&mut client);
    terminate(&mut server);
}
