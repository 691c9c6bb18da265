//! PUSH_UPDATE: a server changes options of a connected client.
//!
//! The list of options that the server pushed is kept; an update edits it, and the result is applied as a whole. Each
//! option of an update may start with `-` (remove it) or `?` (pass over it where it cannot be changed).
//! Source: OpenVPN wire protocol, "PUSH_UPDATE".

/// Options that may be changed while connected.
const UPDATABLE: [&str; 15] = [
    "block-ipv6",
    "block-outside-dns",
    "dhcp-option",
    "dns",
    "ifconfig",
    "ifconfig-ipv6",
    "keepalive",
    "redirect-gateway",
    "redirect-private",
    "route",
    "route-gateway",
    "route-ipv6",
    "route-metric",
    "topology",
    "tun-mtu",
];

/// Edits the list of pushed options.
///
/// # Errors
/// The option that cannot be changed: the connection must restart.
pub(crate) fn edit(current: &[String], update: &[String]) -> Result<Vec<String>, String> {
    let mut list = current.to_vec();
    let mut replaced: Vec<String> = Vec::new();
    for option in update {
        let (removes, rest) = option.strip_prefix('-').map_or((false, option.as_str()), |rest| (true, rest));
        let (optional, text) = rest.strip_prefix('?').map_or((false, rest), |rest| (true, rest));
        let name = name(text);
        if name == "push-continuation" {
            continue;
        }
        if !UPDATABLE.contains(&name) {
            if optional {
                continue;
            }
            return Err(text.to_owned());
        }
        // The first of its name clears what was there; more of it in the same update add to each other.
        if removes || !replaced.iter().any(|other| other == name) {
            list.retain(|old| self::name(old) != name);
            replaced.push(name.to_owned());
        }
        if !removes {
            list.push(text.to_owned());
        }
    }
    Ok(list)
}

fn name(option: &str) -> &str {
    option.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn groups_are_replaced_and_removed() {
        let current = options(
            "route 10.1.0.0 255.255.0.0,route 10.2.0.0 255.255.0.0,ping 5,ifconfig 10.8.0.2 255.255.255.0",
        );
        let update = options("route 10.3.0.0 255.255.0.0,route 10.4.0.0 255.255.0.0,dns search-domains x");
        assert_eq!(
            edit(&current, &update).unwrap(),
            options(
                "ping 5,ifconfig 10.8.0.2 255.255.255.0,route 10.3.0.0 255.255.0.0,route 10.4.0.0 255.255.0.0,dns search-domains x"
            )
        );
        assert_eq!(
            edit(&current, &options("-route")).unwrap(),
            options("ping 5,ifconfig 10.8.0.2 255.255.255.0")
        );
    }

    #[test]
    fn what_cannot_change_restarts_unless_it_is_optional() {
        let current = options("ping 5");
        assert_eq!(edit(&current, &options("cipher AES-128-GCM")), Err("cipher AES-128-GCM".to_owned()));
        assert_eq!(edit(&current, &options("?cipher AES-128-GCM,-?peer-id")).unwrap(), current);
    }
}
