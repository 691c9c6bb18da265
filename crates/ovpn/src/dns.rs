//! Name servers and search domains while the tunnel is up, and exactly what was there before once it is down.
//!
//! The way is found in this order: systemd-resolved (`resolvectl`), `resolvconf`, the plain file
//! `/etc/resolv.conf`. What goes on is a pure function of the settings ([`resolvectl_commands`],
//! [`resolv_conf`]); running it is at the end of the file.

mod plain_file;
mod undo;

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use self::plain_file::PlainFile;
use self::undo::Undo;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// DNS settings of a tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Domains searched for short names.
    pub(crate) search_domains: Vec<String>,
    /// Servers, most preferred first. Only the first with addresses is used.
    pub(crate) servers: Vec<Server>,
}

/// One `dns server N`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its addresses with ports, where given.
    pub(crate) addresses: Vec<(IpAddr, Option<u16>)>,
    /// Only names below these are asked of it (empty: all).
    pub(crate) resolve_domains: Vec<String>,
    /// `yes`, `no` or `optional`.
    pub(crate) dnssec: Option<String>,
    /// `plain`, `DoT` or `DoH`.
    pub(crate) transport: Option<String>,
    /// Server name for `DoT`.
    pub(crate) sni: Option<String>,
}

impl Settings {
    /// True where there is nothing to set.
    pub(crate) fn is_empty(&self) -> bool {
        self.server().is_none() && self.search_domains.is_empty()
    }

    fn server(&self) -> Option<&Server> {
        self.servers.iter().find(|server| !server.addresses.is_empty())
    }
}

/// Settings that are in force; [`undo`](Self::undo) takes them back.
#[derive(Debug)]
pub(crate) struct Applied {
    mechanism: &'static str,
    how: How,
}

#[derive(Debug)]
enum How {
    Program(Undo),
    File(PlainFile),
}

/// Puts `settings` in force for `device`. `rights_go`: the process gives up root before it takes them back.
///
/// # Errors
/// What the program or the file said; nothing is then changed.
pub(crate) async fn apply(settings: &Settings, device: &str, rights_go: bool) -> io::Result<Applied> {
    let device = device.to_owned();
    if Path::new("/run/systemd/resolve/io.systemd.Resolve").exists() && find_program("resolvectl").is_some() {
        let revert = vec!["revert".to_owned(), device.clone()];
        for arguments in resolvectl_commands(settings, &device) {
            if let Err(error) = run("resolvectl", &arguments, None).await {
                let _ = run("resolvectl", &revert, None).await;
                return Err(error);
            }
        }
        let how = How::Program(Undo::new("resolvectl", revert, rights_go)?);
        return Ok(Applied { mechanism: "systemd-resolved", how });
    }
    if find_program("resolvconf").is_some() {
        let arguments = ["-a".to_owned(), format!("{device}.ovpn")];
        run("resolvconf", &arguments, Some(resolv_conf(settings).into_bytes())).await?;
        let delete = vec!["-d".to_owned(), format!("{device}.ovpn"), "-f".to_owned()];
        let how = How::Program(Undo::new("resolvconf", delete, rights_go)?);
        return Ok(Applied { mechanism: "resolvconf", how });
    }
    let ours = format!(
        "# Written by ovpn for {device}; the former content comes back when it ends.\n{}",
        resolv_conf(settings)
    );
    let how = How::File(PlainFile::replace(Path::new(RESOLV_CONF), ours.into_bytes())?);
    Ok(Applied { mechanism: RESOLV_CONF, how })
}

impl Applied {
    /// Takes the settings back. A file that someone else has changed meanwhile is left alone.
    ///
    /// # Errors
    /// What the program or the file said.
    pub(crate) async fn undo(self) -> io::Result<()> {
        match self.how {
            How::Program(undo) => undo.run().await,
            How::File(file) => {
                if !file.restore()? {
                    tracing::warn!("{RESOLV_CONF} was changed by someone else and is left as it is");
                }
                Ok(())
            }
        }
    }

    /// The mechanism, for the log.
    pub(crate) const fn mechanism(&self) -> &'static str {
        self.mechanism
    }
}

/// Arguments of the `resolvectl` runs that set `settings` on `device`.
fn resolvectl_commands(settings: &Settings, device: &str) -> Vec<Vec<String>> {
    let command = |verb: &str, values: Vec<String>| {
        let mut words = vec![verb.to_owned(), device.to_owned()];
        words.extend(values);
        words
    };
    let mut commands = Vec::new();
    let mut domains = settings.search_domains.clone();
    if let Some(server) = settings.server() {
        let addresses = server
            .addresses
            .iter()
            .map(|(ip, port)| {
                let mut text = match (ip, port) {
                    (IpAddr::V6(ip), Some(port)) => format!("[{ip}]:{port}"),
                    (ip, Some(port)) => format!("{ip}:{port}"),
                    (ip, None) => ip.to_string(),
                };
                if let Some(sni) = &server.sni {
                    let _ = write!(text, "#{sni}");
                }
                text
            })
            .collect();
        commands.push(command("dns", addresses));
        if server.resolve_domains.is_empty() {
            domains.push("~.".to_owned());
        } else {
            domains.extend(server.resolve_domains.iter().map(|domain| format!("~{domain}")));
        }
        let default_route = if server.resolve_domains.is_empty() { "yes" } else { "no" };
        commands.push(command("default-route", vec![default_route.to_owned()]));
        if let Some(dnssec) = &server.dnssec {
            let value = if dnssec == "optional" { "allow-downgrade" } else { dnssec };
            commands.push(command("dnssec", vec![value.to_owned()]));
        }
        if server.transport.as_deref() == Some("DoT") {
            commands.push(command("dnsovertls", vec!["yes".to_owned()]));
        }
    }
    if !domains.is_empty() {
        commands.push(command("domain", domains));
    }
    commands
}

/// The lines of a `resolv.conf` for `settings`.
fn resolv_conf(settings: &Settings) -> String {
    let mut text = String::new();
    if !settings.search_domains.is_empty() {
        let _ = writeln!(text, "search {}", settings.search_domains.join(" "));
    }
    if let Some(server) = settings.server() {
        // The file has no place for ports.
        for (ip, _) in server.addresses.iter().filter(|(_, port)| port.is_none_or(|port| port == 53)) {
            let _ = writeln!(text, "nameserver {ip}");
        }
    }
    text
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

async fn run(program: &str, arguments: &[String], input: Option<Vec<u8>>) -> io::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(&input).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {}: {} ({})", arguments.join(" "), said.trim(), output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            search_domains: vec!["example.com".to_owned()],
            servers: vec![
                Server::default(),
                Server {
                    addresses: vec![
                        ("10.8.0.1".parse().unwrap(), None),
                        ("fd00::1".parse().unwrap(), Some(853)),
                    ],
                    dnssec: Some("optional".to_owned()),
                    transport: Some("DoT".to_owned()),
                    sni: Some("dns.example".to_owned()),
                    ..Server::default()
                },
            ],
        }
    }

    #[test]
    fn resolved_gets_every_property() {
        let commands: Vec<String> =
            resolvectl_commands(&settings(), "tun0").iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            commands,
            [
                "dns tun0 10.8.0.1#dns.example [fd00::1]:853#dns.example",
                "default-route tun0 yes",
                "dnssec tun0 allow-downgrade",
                "dnsovertls tun0 yes",
                "domain tun0 example.com ~.",
            ]
        );
        let mut split = settings();
        split.servers[1].resolve_domains = vec!["corp".to_owned()];
        let commands = resolvectl_commands(&split, "tun0");
        assert_eq!(commands[1][2], "no");
        assert_eq!(commands[4][2..], ["example.com", "~corp"]);
    }

    #[test]
    fn a_file_has_no_ports() {
        assert_eq!(resolv_conf(&settings()), "search example.com\nnameserver 10.8.0.1\n");
    }
}
