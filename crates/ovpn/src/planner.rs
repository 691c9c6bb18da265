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
use ovpn_config::model::{Cipher, Compression, DataPlane};
use ovpn_dco::{Capabilities, CipherAlg, Driver};
use ovpn_kernel::{Api, Availability, Probe};

/// Device MTU over the kernel's drivers where none is asked for and nothing clamps the MSS, bytes: 1500 less IPv6 (40),
/// UDP (8) and DATA_V2 (24).
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
    /// What the kernel's driver refused since this process started, as a sentence.
    pub(crate) refusal: Option<String>,
}

/// Who carries the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A driver of the kernel.
    Kernel(Api),
    /// The userspace engine.
    Engine,
    /// The kernel's driver is asked for by name and cannot carry this.
    Nobody,
}

/// Why something was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// A sentence without its full stop: the same in log, `check` and `status`.
    pub(crate) text: String,
    /// The wish that is the reason, if one is.
    pub(crate) wanted: Option<Wanted>,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Who carries the data.
    pub(crate) choice: Choice,
    /// Why, most telling first; at least one.
    pub(crate) reasons: Vec<Reason>,
    /// What will be different from what was asked for.
    pub(crate) notes: Vec<String>,
    /// It was asked for by name: where it fails nothing else is tried.
    pub(crate) by_name: bool,
}

impl Plan {
    /// All reasons in one line.
    pub(crate) fn why(&self) -> String {
        self.reasons.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Looks at this machine.
pub(crate) fn look(device: Option<&str>) -> Machine {
    let link = device.and_then(|name| {
        let net = ovpn_sys::netlink::route::Rtnetlink::open().ok()?;
        Some(net.link_by_name(name).ok()?.kind)
    });
    Machine { availability: ovpn_kernel::probe(), link, refusal: None }
}

/// Decides. Nothing else does: whatever tells of the choice asks here.
pub(crate) fn plan(wanted: &[Wanted], machine: &Machine) -> Plan {
    let named = wanted.iter().find_map(|wanted| match wanted.feature {
        Feature::Named(plane) => Some(plane),
        _ => None,
    });
    let by_name = matches!(named, Some(DataPlane::Kernel | DataPlane::Engine));
    let Availability { ovpn, dco_v2 } = &machine.availability;
    let mut against = None;
    for (api, probe) in [(Api::Ovpn, ovpn), (Api::DcoV2, dco_v2)] {
        let Some(capabilities) = probe.capabilities() else { continue };
        let reasons = reasons_against(wanted, api, capabilities, machine);
        if reasons.is_empty() {
            let newer = match (api, ovpn) {
                (Api::DcoV2, Probe::Unavailable(why)) => format!(", and {why}"),
                _ => String::new(),
            };
            let text = format!("{} can carry all of this{newer}", capabilities.version);
            let notes = wanted.iter().filter_map(note).collect();
            return Plan { choice: Choice::Kernel(api), reasons: vec![plain(text)], notes, by_name };
        }
        against = against.or(Some(reasons));
    }
    let reasons = against.unwrap_or_else(|| {
        // The configuration's own reasons first: they hold on every machine.
        let capabilities = Api::Ovpn.abilities(String::new(), true);
        let mut reasons = reasons_against(wanted, Api::Ovpn, &capabilities, machine);
        if named != Some(DataPlane::Engine)
            && let Probe::Unavailable(why) = ovpn
        {
            reasons.push(plain(why.clone()));
        }
        reasons
    });
    let choice = if named == Some(DataPlane::Kernel) { Choice::Nobody } else { Choice::Engine };
    Plan { choice, reasons, notes: Vec::new(), by_name }
}

const fn plain(text: String) -> Reason {
    Reason { text, wanted: None }
}

/// Every reason against one driver.
fn reasons_against(wanted: &[Wanted], api: Api, driver: &Capabilities, machine: &Machine) -> Vec<Reason> {
    let server = wanted.iter().any(|wanted| wanted.feature == Feature::Multipeer);
    let mut reasons: Vec<Reason> = wanted
        .iter()
        .filter_map(|one| {
            let what = match &one.feature {
                Feature::PointToPoint if !server => None,
                Feature::DeviceName(name) => {
                    let kind = machine.link.as_ref().map(|kind| kind.as_deref().unwrap_or("hardware"));
                    let other = kind.filter(|kind| *kind != api.link_kind());
                    other.map(|kind| format!("names the device {name}, which exists and is of kind {kind}"))
                }
                feature => against(feature, driver).map(str::to_owned),
            }?;
            let text = if one.option.is_empty() { what } else { format!("`{}` {what}", one.option) };
            Some(Reason { text, wanted: Some(one.clone()) })
        })
        .collect();
    if let Some(refusal) = &machine.refusal {
        reasons.push(plain(format!("the kernel's driver refused: {refusal}")));
    }
    reasons
}

/// Why a driver of the kernel cannot carry a feature, if it cannot.
fn against(feature: &Feature, driver: &Capabilities) -> Option<&'static str> {
    Some(match feature {
        Feature::HttpProxy | Feature::SocksProxy => "wants a proxy, which the kernel's driver cannot talk to",
        Feature::Fragment(_) if !driver.fragment => {
            "wants fragmentation inside the tunnel, which the kernel's driver does not do"
        }
        Feature::CompressionFraming(Compression::StubV2) => return None,
        Feature::CompressionFraming(_) if !driver.framing => {
            "wants compression framing, which the kernel's driver does not speak"
        }
        Feature::NullDevice => "wants no device, and the kernel's driver always makes one",
        Feature::PointToPoint => {
            "gives clients pairs of addresses, and the kernel's driver serves topology subnet"
        }
        Feature::Named(DataPlane::Engine) => "asks for the engine",
        Feature::TcpClient if !driver.tcp => "wants TCP, which the kernel's driver does not carry",
        Feature::TcpServer if !driver.multi_peer_tcp => {
            "wants clients over TCP, which the kernel's driver does not carry"
        }
        Feature::Multipeer if !driver.multi_peer => {
            "wants many clients, and the kernel's driver has one peer"
        }
        Feature::Cipher(cipher) if !knows(driver, *cipher) => {
            "wants a cipher that the kernel's driver does not know"
        }
        _ => return None,
    })
}

fn knows(driver: &Capabilities, cipher: Cipher) -> bool {
    match cipher {
        Cipher::Aes192Gcm => driver.aes_192 && driver.ciphers.contains(&CipherAlg::AesGcm),
        Cipher::Aes128Gcm | Cipher::Aes256Gcm => driver.ciphers.contains(&CipherAlg::AesGcm),
        Cipher::ChaCha20Poly1305 => driver.ciphers.contains(&CipherAlg::ChaCha20Poly1305),
    }
}

/// What the kernel's drivers do differently without it being a reason against them.
fn note(one: &Wanted) -> Option<String> {
    let what = match one.feature {
        Feature::ClientToClient => {
            "has no effect: packets between clients take the host's routing (ip_forward and firewall decide)"
        }
        Feature::RenegBytes(_) | Feature::RenegPackets(_) => "is not heeded by the kernel's driver",
        _ => return None,
    };
    Some(format!("`{}` {what}", one.option))
}

/// The device's MTU: the configured one; or, where that is 1500 (the default, which servers push unasked) and the
/// driver clamps no MSS, one with which nothing is fragmented on the outside.
pub(crate) const fn device_mtu(configured: u16, driver: &Capabilities) -> u16 {
    let kernel = matches!(driver.driver, Driver::Kernel | Driver::KernelV2);
    if kernel && !driver.mss && configured == MTU_DEFAULT { MTU_WITHOUT_CLAMP } else { configured }
}

/// Machines as tests want them.
#[cfg(test)]
pub(crate) mod machines {
    use super::*;

    /// One that has the newer driver, the older one, both or none.
    pub(crate) fn with(new: bool, old: bool) -> Machine {
        let probe = |there: bool, api: Api, version: &str, missing: &str| match there {
            true => Probe::Available(api.abilities(version.to_owned(), true)),
            false => Probe::Unavailable(missing.to_owned()),
        };
        Machine {
            availability: Availability {
                ovpn: probe(new, Api::Ovpn, "ovpn, Linux 7.3", "Linux 6.12 has no driver ovpn"),
                dco_v2: probe(old, Api::DcoV2, "ovpn_dco_v2 0.2", "no old driver"),
            },
            link: None,
            refusal: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ovpn_config::features::features_wanted;
    use ovpn_config::{NoFiles, load_text};

    use super::*;

    const CLIENT: &str = "client\ndev tun\nremote vpn.example.org 1194\nca ca.crt\ncert me.crt\nkey me.key\n";
    const SERVER: &str =
        "server 10.8.0.0 255.255.255.0\ndev tun\nca ca.crt\ncert me.crt\nkey me.key\ndh none\n";

    fn decide(text: &str, machine: &Machine) -> Plan {
        let loaded = load_text("x.conf", text.as_bytes(), &NoFiles);
        plan(&features_wanted(&loaded.config), machine)
    }

    /// Every condition on which stock OpenVPN turns offload off, and those of our own: the choice, and the reason.
    #[test]
    fn every_condition_has_its_reason() {
        let (kernel, old, engine) = (Choice::Kernel(Api::Ovpn), Choice::Kernel(Api::DcoV2), Choice::Engine);
        let client = |more: &str| format!("{CLIENT}{more}\n");
        let server = |more: &str| format!("{SERVER}{more}\n");
        let both = machines::with(true, true);
        let none = machines::with(false, false);
        let only_old = machines::with(false, true);
        let without = |change: fn(&mut Capabilities)| {
            let mut machine = machines::with(true, false);
            if let Probe::Available(capabilities) = &mut machine.availability.ovpn {
                change(capabilities);
            }
            machine
        };
        let no_tcp = without(|c| c.tcp = false);
        let no_tcp_server = without(|c| c.multi_peer_tcp = false);
        let one_peer = without(|c| c.multi_peer = false);
        let no_chacha = without(|c| c.ciphers = vec![CipherAlg::AesGcm]);
        let no_aes_192 = without(|c| c.aes_192 = false);
        let container = Machine {
            availability: Availability {
                ovpn: Probe::Unavailable(
                    "the kernel driver ovpn needs CAP_NET_ADMIN in the initial …".into(),
                ),
                dco_v2: Probe::Unavailable("the module ovpn-dco-v2 is not installed".into()),
            },
            ..machines::with(false, false)
        };
        let linked =
            |kind: Option<&str>| Machine { link: Some(kind.map(Into::into)), ..machines::with(true, false) };
        let (of_tun, of_ovpn, of_old, of_none) =
            (linked(Some("tun")), linked(Some("ovpn")), linked(Some("ovpn-dco")), linked(None));
        let refused =
            Machine { refusal: Some("peer: socket of another kind".into()), ..machines::with(true, false) };
        let named = || CLIENT.replace("dev tun", "dev tun7");
        let table = [
            // what the kernel's driver carries
            (client(""), &both, kernel, "ovpn, Linux 7.3 can carry all of this"),
            (server(""), &both, kernel, "ovpn, Linux 7.3 can carry all of this"),
            (client("proto tcp"), &both, kernel, "can carry"),
            (server("proto tcp"), &both, kernel, "can carry"),
            (client("compress stub-v2"), &both, kernel, "can carry"),
            (server("compress migrate"), &both, kernel, "can carry"),
            (client("mssfix 1400"), &both, kernel, "can carry"),
            (client("reneg-bytes 1000000"), &both, kernel, "can carry"),
            (client("data-plane kernel"), &both, kernel, "can carry"),
            (client("user nobody"), &both, kernel, "can carry"),
            (server("user nobody\ngroup nogroup"), &both, kernel, "can carry"),
            (client("data-ciphers AES-192-GCM:CHACHA20-POLY1305"), &both, kernel, "can carry"),
            (server("client-to-client"), &both, kernel, "can carry"),
            (server("multihome"), &both, kernel, "can carry"),
            // our server acts as `topology subnet` whatever is written
            (server("topology net30"), &both, kernel, "can carry"),
            (named(), &of_ovpn, kernel, "can carry"),
            (
                client(""),
                &only_old,
                old,
                "ovpn_dco_v2 0.2 can carry all of this, and Linux 6.12 has no driver ovpn",
            ),
            // the machine
            (client(""), &none, engine, "Linux 6.12 has no driver ovpn"),
            (server(""), &none, engine, "Linux 6.12 has no driver ovpn"),
            (client(""), &container, engine, "needs CAP_NET_ADMIN in the initial"),
            (client(""), &refused, engine, "the kernel's driver refused: peer: socket of another kind"),
            (named(), &of_tun, engine, "`dev` names the device tun7, which exists and is of kind tun"),
            (named(), &of_old, engine, "`dev` names the device tun7, which exists and is of kind ovpn-dco"),
            (named(), &of_none, engine, "`dev` names the device tun7, which exists and is of kind hardware"),
            // what a driver of the kernel lacks
            (client("proto tcp"), &no_tcp, engine, "wants TCP"),
            (server("proto tcp"), &no_tcp_server, engine, "`proto` wants clients over TCP"),
            (server(""), &one_peer, engine, "`server` wants many clients"),
            (client(""), &no_chacha, engine, "wants a cipher that the kernel's driver does not know"),
            (client("data-ciphers AES-192-GCM"), &no_aes_192, engine, "`data-ciphers` wants a cipher"),
            // the configuration
            (client("disable-dco"), &both, engine, "`disable-dco` asks for the engine"),
            (client("data-plane engine"), &both, engine, "`data-plane` asks for the engine"),
            (client("data-plane engine"), &none, engine, "`data-plane` asks for the engine"),
            (client("comp-lzo"), &both, engine, "`comp-lzo` wants compression framing"),
            (server("comp-lzo no"), &both, engine, "`comp-lzo` wants compression framing"),
            (client("compress stub"), &both, engine, "`compress` wants compression framing"),
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
            (client("dev null"), &both, engine, "`dev` wants no device"),
        ];
        for (text, machine, choice, reason) in table {
            let plan = decide(&text, machine);
            assert_eq!(plan.choice, choice, "{text}{plan:?}");
            assert!(plan.reasons[0].text.contains(reason), "{text}{:?}", plan.reasons);
            // By name the same condition is no fallback but a refusal, with the same reason.
            if choice == engine && !text.contains("disable-dco") && !text.contains("data-plane") {
                let strict = decide(&format!("{text}data-plane kernel\n"), machine);
                assert_eq!((strict.choice, strict.by_name), (Choice::Nobody, true), "{text}");
                assert_eq!(strict.reasons[0].text, plan.reasons[0].text, "{text}");
            }
        }
    }

    #[test]
    fn all_reasons_are_told() {
        let plan = decide(&format!("{CLIENT}data-plane kernel\ncomp-lzo\n"), &machines::with(false, false));
        let why = plan.why();
        assert!(
            why.starts_with("`comp-lzo` wants") && why.ends_with("; Linux 6.12 has no driver ovpn"),
            "{why}"
        );
        assert!(decide(&format!("{CLIENT}data-plane kernel\n"), &machines::with(true, false)).by_name);
        assert!(!decide(CLIENT, &machines::with(true, false)).by_name);
    }

    #[test]
    fn differences_are_noted() {
        let text = format!("{SERVER}client-to-client\nreneg-bytes 5000000\n");
        let notes = decide(&text, &machines::with(true, false)).notes;
        for option in ["`client-to-client`", "`reneg-bytes`"] {
            assert!(notes.iter().any(|note| note.contains(option)), "{notes:?}");
        }
        assert!(decide(CLIENT, &machines::with(true, false)).notes.is_empty());
    }

    #[test]
    fn mtu_without_clamping() {
        let kernel = Api::Ovpn.abilities(String::new(), true);
        let clamping = Capabilities { mss: true, ..kernel.clone() };
        let engine = Capabilities { driver: Driver::Engine, ..kernel.clone() };
        for (configured, driver, mtu) in [
            (1500, &kernel, 1428),
            (1400, &kernel, 1400),
            (1499, &kernel, 1499),
            (1500, &clamping, 1500),
            (1500, &engine, 1500),
        ] {
            assert_eq!(device_mtu(configured, driver), mtu);
        }
    }
}
