//! The end of reading: role, entries, device, keys.

use super::entry::{Entry, ProtoWord};
use super::{Builder, listen_default};
use crate::diagnostic::{Class, Diagnostic};
use crate::model::{Config, DeviceKind, Family, Ifconfig, Local, Role, TlsRole, Topology};

impl Builder {
    /// The configuration, and what is to be said.
    pub(crate) fn into_config(mut self) -> (Config, Vec<Diagnostic>) {
        self.role();
        self.device();
        self.finish_ciphers();
        self.expand_helpers();
        self.addresses();
        self.endpoints();
        self.keys();
        self.validate();
        (self.config, self.diagnostics)
    }

    fn role(&mut self) {
        let given = |name: &str| self.config.is_given(name);
        let helper = given("server") || given("server-ipv6") || given("server-bridge");
        let flags = &mut self.flags;
        flags.mode_server |= helper;
        self.config.pull = (flags.client || flags.pull) && !flags.mode_server;
        let both = flags.mode_server && (flags.client || flags.pull);
        self.config.role = if flags.mode_server {
            Role::Server
        } else if flags.client || flags.pull {
            Role::Client
        } else if flags.tls_server {
            Role::Peer(TlsRole::Server)
        } else {
            Role::Peer(TlsRole::Client)
        };
        if both {
            let at = self.config.where_given("client").or_else(|| self.config.where_given("pull"));
            self.diagnostics.push(
                Diagnostic::new(
                    Class::Error,
                    "client",
                    at,
                    "this is a client's and a server's configuration at once",
                )
                .help("remove `client`, or `server`"),
            );
        }
    }

    fn device(&mut self) {
        let name = self.device_name.clone();
        let kind = self.device_type.clone();
        let word = kind.as_ref().or(name.as_ref()).map_or("tun", |(w, _)| w.as_str());
        let device = &mut self.config.device;
        if word.starts_with("tap") {
            let span = kind.as_ref().or(name.as_ref()).map(|(_, s)| *s);
            let option = if kind.is_some() { "dev-type" } else { "dev" };
            self.diagnostics.push(
                Diagnostic::new(Class::Unsupported, option, span, "layer 2 (tap) is not supported").help(
                    "write `dev tun` on both sides; networks behind the peers are reached with `route`",
                ),
            );
        } else if word == "null" || name.as_ref().is_some_and(|(n, _)| n == "null") {
            device.kind = DeviceKind::Null;
        }
        if let Some((name, span)) = name
            && name != "tun"
            && name != "tap"
            && name != "null"
        {
            if name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']) {
                self.diagnostics.push(
                    Diagnostic::new(Class::Error, "dev", Some(span), "this is no name for a network device")
                        .help("write `tun`, or a name of at most 15 characters without blanks and slashes"),
                );
            } else {
                device.name = Some(name);
            }
        }
        device.mtu_given = self.entry.tun_mtu.is_some();
        device.mtu = self.entry.tun_mtu.unwrap_or(1500);
        device.mtu_max = self.entry.tun_mtu_max;
        self.config.data.mssfix = self.entry.mssfix();
        self.config.data.fragment = self.entry.fragment;
    }

    /// `ifconfig` where no helper made it.
    fn addresses(&mut self) {
        let Some((local, second, _)) = self.ifconfig else { return };
        if self.config.device.ifconfig.is_some() {
            return;
        }
        let mask = ipnet::ipv4_mask_to_prefix(second).ok().filter(|p| *p > 0);
        let subnet = self.config.device.topology == Topology::Subnet;
        self.config.device.ifconfig = Some(match mask {
            Some(prefix) if subnet || second.octets()[0] == 255 => Ifconfig::Subnet { local, prefix },
            _ => Ifconfig::PointToPoint { local, remote: second },
        });
    }

    fn endpoints(&mut self) {
        let server = self.config.role == Role::Server;
        let entry = &self.entry;
        let tcp_client = entry.proto.0 == ProtoWord::TcpClient;
        let explicit_bind = entry.bind || entry.lport.is_some_and(|_| self.config.is_given("lport"));
        let nobind = entry.nobind || ((self.config.pull || tcp_client) && !explicit_bind);
        self.config.transport.nobind = nobind;
        let lines: Vec<(Entry, super::entry::RemoteLine)> = if self.blocks.is_empty() {
            self.remotes.iter().map(|r| (entry.clone(), r.clone())).collect()
        } else {
            self.blocks.iter().filter_map(|b| Some((b.clone(), b.remote.clone()?))).collect()
        };
        self.config.connections = if server {
            Vec::new()
        } else {
            lines.iter().map(|(e, r)| e.connection(r, nobind && !e.bind)).collect()
        };
        let listening = server || self.config.connections.is_empty() || entry.proto.0 == ProtoWord::TcpServer;
        self.config.locals = self.locals.iter().map(|l| l.local(entry, listening)).collect();
        if self.config.locals.is_empty() {
            let (word, family): (ProtoWord, Family) = entry.proto;
            let port = entry.lport.unwrap_or(1194);
            let span = self.config.where_given("port").or_else(|| self.config.where_given("lport"));
            self.config.locals = listen_default()
                .into_iter()
                .map(|l| Local { port, protocol: word.resolve(listening), family, span, ..l })
                .collect();
        } else if !server {
            // Only servers listen on several; elsewhere the last one counts.
            let last = self.config.locals.pop();
            self.config.locals = last.into_iter().collect();
        }
    }

    fn keys(&mut self) {
        let entry = &self.entry;
        let tls = &mut self.config.tls;
        tls.tls_auth = entry.tls_auth.clone().map(|key| (key, entry.key_direction));
        tls.tls_crypt.clone_from(&entry.tls_crypt);
        tls.tls_crypt_v2.clone_from(&entry.tls_crypt_v2);
    }

    /// Pushed options that live in the connection entry go where the configuration has them.
    pub(super) fn merge_pushed(&mut self) {
        let given = |name: &str| self.config.is_given(name);
        let _ = given;
        let config = &mut self.config;
        if let Some(mtu) = self.pushed.tun_mtu {
            config.device.mtu = mtu.min(config.device.mtu_max);
        }
        if let Some((local, second, _)) = self.ifconfig {
            let mask = ipnet::ipv4_mask_to_prefix(second).ok();
            config.device.ifconfig = Some(match (config.device.topology, mask) {
                (Topology::Subnet, Some(prefix)) => Ifconfig::Subnet { local, prefix },
                _ => Ifconfig::PointToPoint { local, remote: second },
            });
        }
        if let Some(count) = self.entry.exit_notify {
            config.timers.explicit_exit_notify = Some(count).filter(|n| *n > 0);
        }
        if let Some((interval, timeout, _)) = self.keepalive {
            config.timers.ping = Some(std::time::Duration::from_secs(u64::from(interval)));
            config.timers.ping_restart = Some(std::time::Duration::from_secs(u64::from(timeout)));
        }
    }
}
