//! Whole tunnels: our client and server on the kernel's driver, with stock OpenVPN and ourselves at the other end.
//!
//! Each row goes through a tunnel's life: handshake, pings of both families both ways, a transfer both ways without
//! one fragment outside, new keys under traffic, a new address of the client (UDP), exit, nothing left behind.

use ovpn_testkit::{transfer, wait_for};

use crate::LIMIT;
use crate::ends::{End, Laps, assert_clean, fragments, kind, ping, terminate, up};

/// Bytes of a transfer.
const TRANSFER: u64 = 3 * 65_536;

/// One row, with a driver whose links are of this kind.
pub(crate) fn row(label: &str, driver: &'static str, server: End, client: End, proto: &str) {
    let tcp = proto.starts_with("tcp");
    let side = |side: &str| if tcp { format!("{proto}-{side}") } else { proto.to_owned() };
    // One end renews the keys, late enough for a slow machine to have done the rest before.
    let bye = if tcp { "" } else { "explicit-exit-notify 1\n" };
    let of_client = format!("reneg-sec 12\nhand-window 60\n{bye}");
    let more = ["status status.log 1\nreneg-sec 0\n", &of_client];
    let mut laps = Laps::start(format!("{server:?} ← {client:?} {proto}"));
    let mut tunnel = up(label, [server, client], [&side("server"), &side("client")], more);
    let (left, right) = (&tunnel.pair.left, &tunnel.pair.right);
    for (ns, end, running) in [(left, server, &tunnel.server), (right, client, &tunnel.client)] {
        assert_eq!(kind(ns, "tun0"), end.kind(driver), "{}", running.stdout());
        if end == End::Kernel {
            let line = format!("Data plane: kernel ({})", driver.replace("ovpn-dco", "ovpn-dco-v2"));
            assert!(running.stdout().contains(&line), "{}", running.stdout());
            // The configured MTU stays: segments are kept small by clamping.
            assert!(ns.ip("link show tun0").unwrap().contains("mtu 1500"));
        }
    }
    laps.lap("up");
    let vpn = ["10.77.0.1", "10.77.0.2", "fd77::1", "fd77::1000"];
    for (ns, to) in [(right, vpn[0]), (left, vpn[1]), (right, vpn[2]), (left, vpn[3])] {
        ping(ns, to);
    }

    laps.lap("pings");
    let before = (fragments(left), fragments(right));
    for (from, to, address) in [(right, left, vpn[0]), (left, right, vpn[1])] {
        transfer(from, to, address.parse().unwrap(), TRANSFER, LIMIT).unwrap();
    }
    assert_eq!((fragments(left), fragments(right)), before, "outer packets were fragmented");

    laps.lap("transfers");
    // New keys, while packets go.
    let renewed = |text: &str| text.matches("Control Channel: TLS").count() >= 2;
    wait_for("new keys", LIMIT, || {
        ping(right, vpn[0]);
        renewed(&tunnel.server.stdout()).then_some(())
    })
    .unwrap();
    ping(left, vpn[1]);
    laps.lap("new keys");

    if server.is_ours() {
        let counted = |text: &str| -> Option<u64> {
            let row = text.lines().find(|line| line.starts_with("client,"))?;
            row.split(',').nth(2)?.parse().ok()
        };
        // The driver's counters, as the status file tells them, hold both the transfer and the pings.
        wait_for("the transfer in the status file", LIMIT, || {
            let text = std::fs::read_to_string(tunnel.dir.path().join("status.log")).ok()?;
            (counted(&text)? > TRANSFER).then_some(())
        })
        .unwrap();
    }

    laps.lap("status");
    if !tcp {
        let (old, new, nodad) = match proto.ends_with('6') {
            true => ("fd00:0:0:1::2/64", "fd00:0:0:1::3/64", " nodad"),
            false => ("10.10.1.2/24", "10.10.1.3/24", ""),
        };
        right.ip(&format!("addr del {old} dev veth1")).unwrap();
        right.ip(&format!("addr add {new} dev veth1{nodad}")).unwrap();
        // The client speaks first: the server cannot know where it is now.
        wait_for("the client at its new address", LIMIT, || {
            right.try_run("ping", &["-c", "1", "-W", "2", vpn[0]], LIMIT).ok()?.status.success().then_some(())
        })
        .unwrap();
        ping(left, vpn[1]);
        if server == End::Kernel {
            // The older driver tells nothing, and is asked when a renegotiation comes from there.
            tunnel.server.wait_for_text("Float requested for peer", LIMIT).unwrap();
        }
    }

    if server.is_ours() && !client.is_ours() && !tcp {
        // In the midst of a renegotiation stock says goodbye on the data channel, which no driver of the kernel takes.
        let renewed = || tunnel.server.stdout().matches("Control Channel: TLS").count();
        let before = renewed();
        wait_for("the next new keys", LIMIT, || (renewed() > before).then_some(())).unwrap();
    }
    laps.lap("float");
    terminate(&mut tunnel.client);
    let mut before = tunnel.before[1].clone();
    if proto == "udp4" {
        before = before.replace("src 10.10.1.2", "src 10.10.1.3");
    }
    assert_clean(right, &before);
    if server.is_ours() {
        let said = if tcp { "Connection reset" } else { "CC-EEN exit message received by peer" };
        tunnel.server.wait_for_text(said, LIMIT).unwrap();
    }
    terminate(&mut tunnel.server);
    assert_clean(left, &tunnel.before[0]);
    laps.lap("exit");
    println!("{laps}");
}

macro_rules! rows {
    ($($name:ident: $server:ident $client:ident $proto:literal;)*) => {
        $(#[test]
        #[ignore = "needs the kernel's driver"]
        fn $name() {
            row(stringify!($name), "ovpn", End::$server, End::$client, $proto);
        })*
    };
}

rows! {
    client_stock_dco_udp4: StockDco Kernel "udp4";
    client_stock_dco_tcp4: StockDco Kernel "tcp4";
    client_stock_udp6: Stock Kernel "udp6";
    client_engine_tcp4: Engine Kernel "tcp4";
    server_stock_dco_udp4: Kernel StockDco "udp4";
    server_stock_dco_tcp6: Kernel StockDco "tcp6";
    server_stock_tcp4: Kernel Stock "tcp4";
    server_engine_udp6: Kernel Engine "udp6";
    both_kernel_udp4: Kernel Kernel "udp4";
}
