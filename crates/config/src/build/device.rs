//! Mode, device and addresses.

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{DataPlane, IfconfigIpv6, Topology};

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let d = &mut b.config.device;
    match o.name() {
        "client" => b.flags.client = true,
        "mode" => b.flags.mode_server = o.word(0, &[("p2p", false), ("server", true)])?,
        "tls-client" => b.flags.tls_client = true,
        "tls-server" => b.flags.tls_server = true,
        "pull" => b.flags.pull = true,
        "compat-mode" => {
            let text = o.text(0)?;
            let mut parts = text.split('.').map(str::parse::<u16>);
            let version = match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) => (a, b, c),
                _ => {
                    return Err(o.bad(
                        0,
                        "`compat-mode` wants a release such as 2.4.0",
                        "write three numbers with dots",
                    ));
                }
            };
            b.config.compat_mode = Some(version);
            if version < (2, 6, 0) {
                o.say(
                    Class::Ignored,
                    "`compat-mode` lowers nothing here but the order of ciphers",
                    "remove it",
                );
            }
        }
        "topology" => {
            let words = [("subnet", Topology::Subnet), ("net30", Topology::Net30), ("p2p", Topology::P2p)];
            d.topology = o.word(0, &words)?;
            d.topology_given = true;
        }
        "dev" => b.device_name = Some((o.text(0)?, o.span())),
        "dev-type" => b.device_type = Some((o.text(0)?, o.span())),
        "dev-node" => {
            if o.get(0).is_some_and(|n| n.starts_with("unix:")) {
                o.say(Class::Unsupported, "a device behind a Unix socket is not supported", "use `dev tun`");
            } else {
                o.say(Class::Ignored, "`dev-node` has no effect; the device is found by itself", "remove it");
            }
        }
        "disable-dco" => {
            d.disable_dco = true;
            o.say(
                Class::Advice,
                "`disable-dco`: the userspace data plane is used, which is offloaded too",
                "",
            );
        }
        "data-plane" => {
            d.data_plane = o.word(
                0,
                &[("auto", DataPlane::Auto), ("engine", DataPlane::Engine), ("kernel", DataPlane::Kernel)],
            )?;
        }
        "ifconfig" => b.ifconfig = Some((o.ipv4(0)?, o.ipv4(1)?, o.span())),
        "ifconfig-ipv6" => {
            let local = o.net6(0)?;
            let remote = if o.count() > 1 {
                // Some files write a prefix length behind the remote too.
                o.net6(1)?.addr()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED
            };
            d.ifconfig_ipv6 = Some(IfconfigIpv6 { local, remote });
        }
        "ifconfig-noexec" => d.ifconfig_noexec = true,
        "ifconfig-nowarn" => {}
        "persist-tun" => d.persist = true,
        "persist-key" => {}
        "txqueuelen" => {
            let length: u32 = o.number(0, 0..=u32::MAX)?;
            o.say(
                Class::Ignored,
                "`txqueuelen` has no effect on an offloaded data channel",
                format!("set it in an `up` script: `ip link set \"$dev\" txqueuelen {length}`"),
            );
        }
        "tun-ipv6" => {}
        "lladdr" | "server-bridge" | "vlan-tagging" | "vlan-accept" | "vlan-pvid" => {
            let name = o.name();
            o.say(
                Class::Unsupported,
                format!("`{name}`: layer 2 (tap, bridging) is not supported"),
                "use `dev tun`, and `server NETWORK MASK` on the server",
            );
        }
        _ => return Ok(false),
    }
    Ok(true)
}
