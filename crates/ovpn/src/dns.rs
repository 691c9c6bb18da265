//! Name servers and search domains while the tunnel is up, and exactly what was there before once it is down.
//!
//! The way is found in this order: systemd-resolved (`resolvectl`), `resolvconf`, the plain file
//! `/etc/resolv.conf`. What goes on is a pure function of the settings ([`resolvectl_commands`],
//! [`resolv_conf`]); running it is at the end of the file.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

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
    how: How,
    device: String,
}

#[derive(Debug)]
enum How {
    Resolved,
    Resolvconf,
    File { path: PathBuf, before: Option<Vec<u8>>, ours: Vec<u8> },
}

/// Puts `settings` in force for `device`.
///
/// # Errors
/// What the program or the file said; nothing is then changed.
pub(crate) async fn apply(settings: &Settings, device: &str) -> io::Result<Applied> {
    apply_with(
        settings,
        device,
        Path::new("/etc/resolv.conf"),
        Path::new("/run/systemd/resolve/io.systemd.Resolve"),
    )
    .await
}

async fn apply_with(settings: &Settings, device: &str, file: &Path, resolved: &Path) -> io::Result<Applied> {
    let device = device.to_owned();
    if resolved.exists() && find_program("resolvectl").is_some() {
        for arguments in resolvectl_commands(settings, &device) {
            if let Err(error) = run("resolvectl", &arguments, None).await {
                let _ = run("resolvectl", &["revert".to_owned(), device.clone()], None).await;
                return Err(error);
            }
        }
        return Ok(Applied { how: How::Resolved, device });
    }
    if find_program("resolvconf").is_some() {
        let arguments = ["-a".to_owned(), format!("{device}.ovpn")];
        run("resolvconf", &arguments, Some(resolv_conf(settings).into_bytes())).await?;
        return Ok(Applied { how: How::Resolvconf, device });
    }
    let before = match tokio::fs::read(file).await {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let ours = format!(
        "# Written by ovpn for {device}; the former content comes back when it ends.\n{}",
        resolv_conf(settings)
    )
    .into_bytes();
    tokio::fs::write(file, &ours).await?;
    Ok(Applied { how: How::File { path: file.to_owned(), before, ours }, device })
}

impl Applied {
    /// Takes the settings back. A file that someone else has changed meanwhile is left alone.
    ///
    /// # Errors
    /// What the program or the file said.
    pub(crate) async fn undo(self) -> io::Result<()> {
        match self.how {
            How::Resolved => run("resolvectl", &["revert".to_owned(), self.device], None).await,
            How::Resolvconf => {
                run("resolvconf", &["-d".to_owned(), format!("{}.ovpn", self.device), "-f".to_owned()], None)
                    .await
            }
            How::File { path, before, ours } => {
                if tokio::fs::read(&path).await? != ours {
                    tracing::warn!("{} was changed by someone else and is left as it is", path.display());
                    return Ok(());
                }
                match before {
                    Some(bytes) => tokio::fs::write(&path, bytes).await,
                    None => tokio::fs::remove_file(&path).await,
                }
            }
        }
    }

    /// The mechanism, for the log.
    pub(crate) fn mechanism(&self) -> &'static str {
        match self.how {
            How::Resolved => "systemd-resolved",
            How::Resolvconf => "resolvconf",
            How::File { .. } => "/etc/resolv.conf",
        }
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

    #[tokio::test]
    async fn the_file_comes_back_as_it_was_unless_someone_else_wrote_it() {
        let file = std::env::temp_dir().join(format!("ovpn-resolv-{}", std::process::id()));
        std::fs::write(&file, "nameserver 192.0.2.53\n").unwrap();
        let before = std::fs::read(&file).unwrap();
        let apply = async || {
            let how = How::File { path: file.clone(), before: Some(before.clone()), ours: b"ours".to_vec() };
            std::fs::write(&file, "ours").unwrap();
            Applied { how, device: "tun0".to_owned() }
        };
        apply().await.undo().await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), before);
        let applied = apply().await;
        std::fs::write(&file, "theirs").unwrap();
        applied.undo().await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs");
        std::fs::remove_file(&file).unwrap();
    }
}
