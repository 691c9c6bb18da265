//! The environment of scripts: stock's variable names, and values a shell cannot be tricked with.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Variables for one script, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Sets a variable. Control characters in the value become `_`.
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl ToString) {
        let value = value.to_string();
        let clean = value.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        self.variables.insert(name.into(), clean);
    }

    /// Takes a variable away.
    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// Reads a variable.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// All variables in order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets `{prefix}_ip` or `{prefix}_ip6`, and `{prefix}_port`.
    pub(crate) fn set_address(&mut self, prefix: &str, address: SocketAddr) {
        let ip = address.ip().to_canonical();
        self.unset(&format!("{prefix}_ip"));
        self.unset(&format!("{prefix}_ip6"));
        let name = if ip.is_ipv4() { format!("{prefix}_ip") } else { format!("{prefix}_ip6") };
        self.set(name, ip);
        self.set(format!("{prefix}_port"), address.port());
    }

    /// Sets what a peer said of itself (`IV_…`, `UV_…` lines). Other names are left out; in values white space,
    /// unprintable characters and `$`, `(` and backtick become `_`.
    pub(crate) fn set_peer_info(&mut self, info: &str) {
        for line in info.lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            let ours = name.starts_with("IV_") || name.starts_with("UV_");
            if !ours || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                continue;
            }
            let clean: String = value
                .chars()
                .take(255)
                .map(|c| {
                    if c.is_whitespace() || c.is_control() || matches!(c, '$' | '(' | '`') { '_' } else { c }
                })
                .collect();
            self.variables.insert(name.to_owned(), clean);
        }
    }

    /// Sets `{name}` to an address of either family.
    pub(crate) fn set_ip(&mut self, name: &str, ip: Option<impl Into<IpAddr>>) {
        if let Some(ip) = ip {
            self.set(name, ip.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out() {
        let mut env = Environment::default();
        env.set("X", "a\nb");
        assert_eq!(env.get("X"), Some("a_b"));
        env.set_peer_info("IV_GUI_VER=TestGUI 1.0\nUV_X=$(id)`\nPATH=/tmp\nIV_BAD-NAME=1\nIV_OK=1");
        assert_eq!(env.get("IV_GUI_VER"), Some("TestGUI_1.0"));
        assert_eq!(env.get("UV_X"), Some("__id)_"));
        assert_eq!(env.get("PATH"), None);
        assert_eq!(env.get("IV_BAD-NAME"), None);
        assert_eq!(env.get("IV_OK"), Some("1"));
    }

    #[test]
    fn addresses_are_named_by_family() {
        let mut env = Environment::default();
        env.set_address("trusted", "[::ffff:192.0.2.1]:5".parse().unwrap());
        assert_eq!(env.get("trusted_ip"), Some("192.0.2.1"));
        env.set_address("trusted", "[2001:db8::1]:6".parse().unwrap());
        assert_eq!(env.get("trusted_ip"), None);
        assert_eq!(env.get("trusted_ip6"), Some("2001:db8::1"));
        assert_eq!(env.get("trusted_port"), Some("6"));
    }
}
