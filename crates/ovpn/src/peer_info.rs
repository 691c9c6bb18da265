//! What a client tells its server of the machine it runs on, with `push-peer-info`.
//!
//! Source: OpenVPN wire protocol, "Peer info".

use std::path::Path;

use ovpn_config::Config;

/// The hardware address of the way out, the TLS library, the system's release; nothing unless asked for.
pub(crate) fn of_host(config: &Config) -> Vec<(String, String)> {
    if !config.tls.push_peer_info {
        return Vec::new();
    }
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let address = way_out(&table)
        .and_then(|device| {
            std::fs::read_to_string(Path::new("/sys/class/net").join(device).join("address")).ok()
        })
        .map(|address| address.trim().to_owned())
        .filter(|address| !address.is_empty());
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let told = [
        ("IV_HWADDR", address),
        ("IV_SSL", Some("rustls (aws-lc)".to_owned())),
        ("IV_PLAT_VER", Some(release)),
    ];
    told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The device of the default route with the lowest metric, from the text of `/proc/net/route`.
fn way_out(table: &str) -> Option<&str> {
    let row = |line| {
        let words: Vec<&str> = str::split_whitespace(line).collect();
        match words.as_slice() {
            [device, "00000000", _, _, _, _, metric, "00000000", ..] => {
                Some((metric.parse::<u32>().ok()?, *device))
            }
            _ => None,
        }
    };
    table.lines().filter_map(row).min().map(|(_, device)| device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_config::{NoFiles, load_text};

    #[test]
    fn the_host_is_told_only_when_asked() {
        let names = |text: &str| -> Vec<String> {
            let loaded = load_text("t", text.as_bytes(), &NoFiles);
            of_host(&loaded.config).into_iter().map(|(name, _)| name).collect()
        };
        assert!(names("client\n").is_empty());
        let told = names("client\npush-peer-info\n");
        assert!(
            ["IV_SSL", "IV_PLAT_VER"].iter().all(|name| told.iter().any(|told| told == name)),
            "{told:?}"
        );
    }

    #[test]
    fn the_way_out_has_the_lowest_metric() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(way_out(table), Some("eth0"));
        assert_eq!(way_out("Iface\tDestination\n"), None);
    }
}
