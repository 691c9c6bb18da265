//! Multi-client server and per-client options.

use std::time::Duration;

use ipnet::Ipv4Net;

use super::arguments::{Bad, Opt};
use super::{Builder, rate};
use crate::diagnostic::Class;
use crate::lexer;
use crate::model::{IfconfigIpv6Push, IfconfigPush, Pool, PoolIpv6, PoolPersist, PortShare, PushItem};
use crate::table::{self, Contexts};

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let s = &mut b.config.server;
    match o.name() {
        "server" => {
            let net = o.network(0)?;
            if net.prefix_len() > 29 || net.prefix_len() < 8 {
                let message = format!("`server`: a network of /{} does not serve", net.prefix_len());
                return Err(o.bad(1, message, "take a mask between 255.0.0.0 and 255.255.255.248"));
            }
            if o.count() > 2 {
                b.pool_flag_nopool = o.word(2, &[("nopool", true)])?;
            }
            s.network = Some(net);
        }
        "server-ipv6" => {
            let net = o.net6(0)?;
            if !(64..=124).contains(&net.prefix_len()) {
                let message = format!("`server-ipv6`: a network of /{} does not serve", net.prefix_len());
                return Err(o.bad(0, message, "take a prefix between /64 and /124"));
            }
            s.network_ipv6 = Some(net.trunc());
        }
        "ifconfig-pool" => {
            let (start, end) = (o.ipv4(0)?, o.ipv4(1)?);
            let prefix = if o.count() > 2 { Some(o.mask(2)?) } else { None };
            if u32::from(end) < u32::from(start) || u32::from(end) - u32::from(start) > 65535 {
                let message =
                    format!("`ifconfig-pool`: {start} to {end} is no range of at most 65536 addresses");
                return Err(o.bad(1, message, "write the first and the last address"));
            }
            s.pool = Some(Pool { start, end, prefix });
        }
        "ifconfig-ipv6-pool" => {
            let base = o.net6(0)?;
            if !(64..=124).contains(&base.prefix_len()) {
                let message =
                    format!("`ifconfig-ipv6-pool`: a network of /{} does not serve", base.prefix_len());
                return Err(o.bad(0, message, "take a prefix between /64 and /124"));
            }
            s.pool_ipv6 = Some(PoolIpv6 { base });
        }
        "ifconfig-pool-persist" => {
            let interval = if o.count() > 1 { o.timer(1)? } else { Some(Duration::from_secs(600)) };
            s.pool_persist = Some(PoolPersist { file: o.text(0)?, interval });
        }
        "ifconfig-push-constraint" => s.push_constraint = Some(o.network(0)?),
        "push" => push(b, o)?,
        "push-reset" => {
            b.client.push_reset = true;
            b.client.push.clear();
            b.client.push_remove.clear();
        }
        "push-remove" => b.client.push_remove.push(o.text(0)?),
        "push-continuation" => b.pushed.continuation = o.number(0, 0..=2)?,
        "iroute" => {
            let address = o.ipv4(0)?;
            let prefix = if o.count() > 1 { o.mask(1)? } else { 32 };
            if let Ok(net) = Ipv4Net::new(address, prefix) {
                b.client.iroutes.push(net.trunc());
            }
        }
        "iroute-ipv6" => {
            let net = o.net6(0)?.trunc();
            b.client.iroutes_ipv6.push(net);
        }
        "ifconfig-push" => {
            let alias = if o.count() > 2 { Some(o.ipv4(2)?) } else { None };
            b.client.ifconfig_push =
                Some(IfconfigPush { local: o.ipv4(0)?, remote_or_mask: o.ipv4(1)?, alias });
        }
        "ifconfig-ipv6-push" => {
            let remote = if o.count() > 1 { Some(o.net6(1)?.addr()) } else { None };
            b.client.ifconfig_ipv6_push = Some(IfconfigIpv6Push { local: o.net6(0)?, remote });
        }
        "disable" => b.client.disable = true,
        "max-routes-per-client" => {
            s.max_routes_per_client = o.number(0, 1..=u32::MAX)?;
            b.client.max_routes = Some(s.max_routes_per_client);
        }
        "client-config-dir" => s.client_config_dir = Some(o.text(0)?),
        "ccd-exclusive" => s.ccd_exclusive = true,
        "client-connect" => s.client_connect = o.command(0)?,
        "client-disconnect" => s.client_disconnect = o.command(0)?,
        "learn-address" => s.learn_address = o.command(0)?,
        "nat" => s.nat = true,
        "client-to-client" => s.client_to_client = true,
        "duplicate-cn" => s.duplicate_cn = true,
        "max-clients" => s.max_clients = o.number(0, 1..=0x00ff_fffe)?,
        "connect-freq" => s.connect_freq = Some(rate(o)?),
        "connect-freq-initial" => s.connect_freq_initial = rate(o)?,
        "port-share" => {
            s.port_share = Some(PortShare {
                host: o.text(0)?,
                port: o.port(1)?,
                directory: o.get(2).map(str::to_owned),
            });
        }
        "tmp-dir" => s.tmp_dir = Some(o.text(0)?),
        "tcp-queue-limit" | "bcast-buffers" | "hash-size" | "stale-routes-check" => {
            let text = format!("`{}` has no effect; sizes follow the load", o.name());
            o.say(Class::Ignored, text, "remove it");
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn push(b: &mut Builder, o: &mut Opt<'_>) -> Result<(), Bad> {
    let text = o.written();
    if o.count() > 1 {
        o.say(
            Class::Advice,
            "`push` takes one text; its words are joined here, stock refuses them",
            format!("write `push {}`", lexer::quote(&text)),
        );
    }
    if text.contains(',') {
        return Err(o.bad(
            0,
            "a pushed option cannot contain a comma",
            "options are sent with commas between them",
        ));
    }
    let tokens = match lexer::option_tokens(&text) {
        Ok(tokens) => tokens,
        Err(error) => {
            return Err(o.bad(0, format!("this pushed option cannot be read: {error}"), "quote it once"));
        }
    };
    let Some(name) = tokens.first().map(|t| t.text.clone()) else {
        return Err(o.bad(0, "`push` without an option", "write `push \"OPTION ARGUMENTS\"`"));
    };
    match table::lookup(&name) {
        Some(row) if row.contexts.contains(Contexts::PUSHED) => {}
        Some(_) => {
            o.say(Class::Advice, format!("clients do not accept `{name}` from a server"), "remove the line")
        }
        None => {
            let help = match table::nearest(&name) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "clients that do not know it go on without it".to_owned(),
            };
            o.say(
                Class::Advice,
                format!("the pushed option \"{}\" is not known", super::arguments::short(&name)),
                help,
            );
        }
    }
    let item = PushItem { text, span: o.span() };
    if b.context.contains(Contexts::CLIENT) && !b.context.contains(Contexts::FILE) {
        b.client.push.push(item);
    } else {
        b.config.server.push.push(item);
    }
    Ok(())
}

impl Builder {
    pub(super) fn finish_client(&mut self) {
        self.finish_client_ciphers();
        let names = ["ping", "ping-restart", "ping-exit", "ping-timer-rem", "inactive", "session-timeout"];
        self.client.timers_given = names.into_iter().filter(|name| self.config.is_given(name)).collect();
        if !self.client.timers_given.is_empty() {
            self.client.timers = Some(self.config.timers.clone());
        }
    }
}
