//! Which data plane carries a configuration on this machine, and why, in a sentence.
//!
//! ```text
//!   wanted (configuration) ─┐
//!   probes (kernel)        ─┼─▶ Plan { kernel | older kernel driver | engine, reasons, notes }
//!   the device, if it is   ─┘
//!   there already
//! ```
//!
//! The kernel's driver comes first where it can carry everything; else the engine, which can carry all of it. A
//! configuration that asks for one by name gets that one, or is refused with the reason.

use ovpn_config::features::{Feature, Wanted};
use ovpn_config::model::{Compression, DataPlane};
use ovpn_kernel::{Api, Availability, Probe};

/// Device MTU over the kernel's drivers where none is asked for, bytes: 1500 less IPv6 (40), UDP (8) and DATA_V2 (24).
/// These drivers clamp no MSS; so the device's MTU keeps packets from being fragmented on the outside.
const MTU_WITHOUT_CLAMP: u16 = 1428;
/// The MTU that a configuration has unless it names one.
const MTU_DEFAULT: u16 = 1500;

/// What was found of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The kernel's drivers.
    pub(crate) availability: Availability,
    /// Kind of the link that has the wanted device's name already (`None` for a link without kind).
    pub(crate) link: Option<Option<String>>,
}

/// Who carries the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A driver of the kernel.
    Kernel(Api),
    /// The userspace engine.
    Engine,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Who carries the data.
    pub(crate) choice: Choice,
    /// Why, most telling first; at least one.
    pub(crate) reasons: Vec<String>,
    /// What will be different from what was asked for.
    pub(crate) notes: Vec<String>,
    /// It was asked for by name: where it fails nothing else is tried.
    pub(crate) by_name: bool,
}

/// Looks at this machine.
pub(crate) fn look(device: Option<&str>) -> Machine {
    let link = device.and_then(|name| {
        let net = ovpn_sys::netlink::route::Rtnetlink::open().ok()?;
        Some(net.link_by_name(name).ok()?.kind)
    });
    Machine { availability: ovpn_kernel::probe(), link }
}

/// Decides.
///
/// # Errors
/// Where the kernel is asked for by name and cannot carry this: every reason.
pub(crate) fn plan(wanted: &[Wanted], machine: &Machine) -> Result<Plan, Vec<String>> {
    let named = wanted.iter().find_map(|wanted| match wanted.feature {
        Feature::Named(plane) => Some(plane),
        _ => None,
    });
    let engine = |reasons, by_name| Plan { choice: Choice::Engine, reasons, notes: Vec::new(), by_name };
    let mut against: Vec<String> = wanted.iter().filter_map(|one| against(one, machine)).collect();
    if named == Some(DataPlane::Engine) {
        return Ok(engine(against, true));
    }
    let drivers = [(Api::Ovpn, &machine.availability.ovpn), (Api::DcoV2, &machine.availability.dco_v2)];
    let found = drivers.into_iter().find_map(|(api, probe)| Some((api, probe.capabilities()?)));
    if against.is_empty()
        && let Some((api, capabilities)) = found
    {
        let mut reasons = vec![match api {
            Api::Ovpn => format!("{} can carry all of this", capabilities.version),
            Api::DcoV2 => {
                format!("{} can carry all of this, and there is no newer driver", capabilities.version)
            }
        }];
        if let (Api::DcoV2, Probe::Unavailable(why)) = (api, &machine.availability.ovpn) {
            reasons.push(why.clone());
        }
        let notes = wanted.iter().filter_map(note).collect();
        return Ok(Plan { choice: Choice::Kernel(api), reasons, notes, by_name: named.is_some() });
    }
    if found.is_none()
        && let Probe::Unavailable(why) = &machine.availability.ovpn
    {
        against.push(why.clone());
    }
    if named == Some(DataPlane::Kernel) { Err(against) } else { Ok(engine(against, false)) }
}

/// Why a kernel driver cannot carry one feature: the option's name and a reason.
fn against(one: &Wanted, machine: &Machine) -> Option<String> {
    let what = match &one.feature {
        Feature::DeviceName(name) => {
            let kind = machine.link.as_ref()?.as_deref().unwrap_or("hardware");
            if [Api::Ovpn.link_kind(), Api::DcoV2.link_kind()].contains(&kind) {
                return None;
            }
            format!("names the device {name}, which exists and is of kind {kind}")
        }
        feature => against_kernel(feature)?.to_owned(),
    };
    Some(if one.option.is_empty() { what } else { format!("`{}` {what}", one.option) })
}

/// Why the kernel's drivers cannot carry a feature, if they cannot.
pub(crate) const fn against_kernel(feature: &Feature) -> Option<&'static str> {
    Some(match feature {
        Feature::HttpProxy | Feature::SocksProxy => "wants a proxy, which the kernel's driver cannot talk to",
        Feature::Fragment(_) => {
            "wants fragmentation inside the tunnel, which the kernel's driver does not do"
        }
        Feature::CompressionFraming(Compression::StubV2) => return None,
        Feature::CompressionFraming(_) => {
            "wants compression framing, which the kernel's driver does not speak"
        }
        Feature::NullDevice => "wants no device, and the kernel's driver always makes one",
        Feature::PointToPoint => {
            "gives clients pairs of addresses, and the kernel's driver serves topology subnet"
        }
        Feature::Named(DataPlane::Engine) => "asks for the engine",
        _ => return None,
    })
}

/// What the kernel's drivers do differently without it being a reason against them.
fn note(one: &Wanted) -> Option<String> {
    let what = match one.feature {
        Feature::ClientToClient => {
            "has no effect: packets between clients take the host's routing (ip_forward and firewall decide)"
        }
        Feature::RenegBytes(_) | Feature::RenegPackets(_) => "is not heeded by the kernel's driver",
        Feature::MssFix(_) if !one.option.is_empty() => {
            "is left to the device's MTU: the kernel's driver clamps no MSS"
        }
        _ => return None,
    };
    Some(format!("`{}` {what}", one.option))
}

/// The device's MTU: the configured one; or, where it is 1500 (the default, which servers push unasked) and the driver
/// clamps no MSS, one with which nothing is fragmented on the outside.
pub(crate) fn device_mtu(configured: u16, link_kind: Option<&str>) -> u16 {
    let kernel =
        link_kind.is_some_and(|kind| kind == Api::Ovpn.link_kind() || kind == Api::DcoV2.link_kind());
    if kernel && configured == MTU_DEFAULT { MTU_WITHOUT_CLAMP } else { configured }
}

#[cfg(test)]
mod tests {
    use ovpn_config::features::features_wanted;
    use ovpn_config::{NoFiles, load_text};
    use ovpn_dco::{Capabilities, CipherAlg, Driver};

    use super::*;

    const CLIENT: &str = "client\ndev tun\nremote vpn.example.org 1194\nca ca.crt\ncert me.crt\nkey me.key\n";
    const SERVER: &str =
        "server 10.8.0.0 255.255.255.0\ndev tun\nca ca.crt\ncert me.crt\nkey me.key\ndh none\n";

    fn there(driver: Driver, version: &str) -> Probe {
        Probe::Available(Capabilities {
            driver,
            version: version.into(),
            ciphers: vec![CipherAlg::AesGcm, CipherAlg::ChaCha20Poly1305],
            aes_192: true,
            epoch: false,
            data_v1: false,
            tcp: true,
            multi_peer: true,
            multi_peer_tcp: true,
            mss: false,
            tx_id: true,
            key_del: true,
            float: true,
            framing: false,
            system_routes: true,
            peer_exit: false,
        })
    }

    fn machine(new: bool, old: bool) -> Machine {
        let missing = |what: &str| Probe::Unavailable(what.to_owned());
        Machine {
            availability: Availability {
                ovpn: if new {
                    there(Driver::Kernel, "ovpn, Linux 7.3")
                } else {
                    missing("no driver ovpn here")
                },
                dco_v2: if old {
                    there(Driver::KernelV2, "ovpn_dco_v2 0.2")
                } else {
                    missing("no old driver")
                },
            },
            link: None,
        }
    }

    fn decide(text: &str, machine: &Machine) -> Result<Plan, Vec<String>> {
        let loaded = load_text("x.conf", text.as_bytes(), &NoFiles);
        plan(&features_wanted(&loaded.config), machine)
    }

    /// Every condition on which stock OpenVPN falls back, and those of our own: the choice, and a part of the reason.
    #[test]
    fn every_condition_has_its_reason() {
        let (kernel, old, engine) = (Choice::Kernel(Api::Ovpn), Choice::Kernel(Api::DcoV2), Choice::Engine);
        let client = |more: &str| format!("{CLIENT}{more}\n");
        let server = |more: &str| format!("{SERVER}{more}\n");
        let both = machine(true, true);
        let none = machine(false, false);
        let table = [
            (client(""), &both, kernel, "ovpn, Linux 7.3 can carry all of this"),
            (server(""), &both, kernel, "ovpn, Linux 7.3 can carry all of this"),
            (client("proto tcp"), &both, kernel, "can carry"),
            (server("proto tcp"), &both, kernel, "can carry"),
            (client("compress stub-v2"), &both, kernel, "can carry"),
            (client("mssfix 1400"), &both, kernel, "can carry"),
            (client("reneg-bytes 1000000"), &both, kernel, "can carry"),
            (server("client-to-client"), &both, kernel, "can carry"),
            (
                client(""),
                &machine(false, true),
                old,
                "ovpn_dco_v2 0.2 can carry all of this, and there is no newer",
            ),
            (client(""), &none, engine, "no driver ovpn here"),
            (server(""), &none, engine, "no driver ovpn here"),
            (client("disable-dco"), &both, engine, "`disable-dco` asks for the engine"),
            (client("data-plane engine"), &both, engine, "`data-plane` asks for the engine"),
            (client("data-plane kernel"), &both, kernel, "can carry"),
            (client("comp-lzo"), &both, engine, "`comp-lzo` wants compression framing"),
            (client("compress lz4"), &both, engine, "`compress` wants compression framing"),
            (client("compress lz4-v2"), &both, engine, "`compress` wants compression framing"),
            (client("fragment 1300"), &both, engine, "`fragment` wants fragmentation"),
            (
                client("proto tcp\nhttp-proxy proxy.example.org 3128"),
                &both,
                engine,
                "`http-proxy` wants a proxy",
            ),
            (client("socks-proxy proxy.example.org 1080"), &both, engine, "`socks-proxy` wants a proxy"),
            // our server acts as `topology subnet` whatever is written
            (server("topology net30"), &both, kernel, "can carry"),
            // the right to configure the network stays
            (client("user nobody"), &both, kernel, "can carry"),
            (client("dev null"), &both, engine, "`dev` wants no device"),
        ];
        for (text, machine, choice, reason) in table {
            let plan = decide(&text, machine).unwrap();
            assert_eq!(plan.choice, choice, "{text}{plan:?}");
            assert!(plan.reasons[0].contains(reason), "{text}{:?}", plan.reasons);
        }
    }

    #[test]
    fn a_device_of_another_kind_is_left_to_the_engine() {
        let text = CLIENT.replace("dev tun", "dev tun7");
        let on = |kind: Option<&str>| Machine { link: Some(kind.map(Into::into)), ..machine(true, false) };
        let plan = decide(&text, &on(Some("tun"))).unwrap();
        assert_eq!(plan.choice, Choice::Engine);
        assert_eq!(plan.reasons, ["`dev` names the device tun7, which exists and is of kind tun"]);
        assert_eq!(decide(&text, &on(Some("ovpn"))).unwrap().choice, Choice::Kernel(Api::Ovpn));
        assert_eq!(decide(&text, &machine(true, false)).unwrap().choice, Choice::Kernel(Api::Ovpn));
    }

    #[test]
    fn the_kernel_by_name_or_nothing() {
        let text = format!("{CLIENT}data-plane kernel\ncomp-lzo\n");
        let reasons = decide(&text, &machine(false, false)).unwrap_err();
        assert!(
            reasons[0].contains("`comp-lzo`") && reasons[1].contains("no driver ovpn here"),
            "{reasons:?}"
        );
        assert!(decide(&format!("{CLIENT}data-plane kernel\n"), &machine(true, false)).unwrap().by_name);
    }

    #[test]
    fn differences_are_noted() {
        let text = format!("{SERVER}client-to-client\nreneg-bytes 5000000\nmssfix 1400\n");
        let notes = decide(&text, &machine(true, false)).unwrap().notes;
        for option in ["`client-to-client`", "`reneg-bytes`", "`mssfix`"] {
            assert!(notes.iter().any(|note| note.contains(option)), "{notes:?}");
        }
        assert!(decide(CLIENT, &machine(true, false)).unwrap().notes.is_empty());
    }

    #[test]
    fn mtu_without_clamping() {
        assert_eq!(device_mtu(1500, Some("ovpn")), 1428);
        assert_eq!(device_mtu(1400, Some("ovpn")), 1400);
        assert_eq!(device_mtu(1499, Some("ovpn-dco")), 1499);
        assert_eq!(device_mtu(1500, Some("tun")), 1500);
    }
}
