//! MTU, compression framing, timers.

use std::time::Duration;

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{AllowCompression, Compression, Fragment, Inactive, MssFix, ReplayWindow};

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let t = &mut b.config.timers;
    match o.name() {
        "tun-mtu" => {
            let mtu = o.number(0, 68..=65535u16)?;
            b.entry.tun_mtu = Some(mtu);
            b.pushed.tun_mtu = Some(mtu);
        }
        "tun-mtu-max" => b.entry.tun_mtu_max = o.number(0, 68..=65535)?,
        "max-packet-size" => b.entry.max_packet_size = o.number(0, 154..=65535)?,
        "mssfix" => {
            b.entry.mssfix = if o.count() == 0 {
                MssFix::Default
            } else {
                let size = o.number(0, 0..=65535u16)?;
                match (size, o.count()) {
                    (0, _) => MssFix::Off,
                    (_, 1) => MssFix::Payload(size),
                    _ => o.word(1, &[("mtu", MssFix::Mtu(size)), ("fixed", MssFix::Fixed(size))])?,
                }
            };
        }
        "fragment" => {
            let size = o.number(0, 0..=65535u16)?;
            let mtu = o.count() > 1 && o.word(1, &[("mtu", true)])?;
            b.entry.fragment = (size > 0).then_some(Fragment { size, mtu });
            if size > 0 && size < 68 {
                return Err(o.bad(
                    0,
                    "`fragment` wants at least 68 bytes",
                    "write for example `fragment 1300`",
                ));
            }
            if size > 0 && b.wants_advice() {
                o.say(
                    Class::Advice,
                    "`fragment`: packets are cut and joined by this program, never in the kernel",
                    "where the path has no need of it, remove it on both sides: `mssfix` alone keeps TCP small",
                );
            }
        }
        "mtu-dynamic" => {
            o.say(Class::Unsupported, "`mtu-dynamic` is not supported", "use `fragment`, or lower `mssfix`")
        }
        "link-mtu" | "udp-mtu" => {
            let name = o.name();
            o.say(
                Class::Ignored,
                format!("`{name}` has no effect"),
                "use `tun-mtu`, the MTU of the tunnel device",
            );
        }
        "tun-mtu-extra" | "comp-noadapt" => {}
        "shaper" => o.say(
            Class::Ignored,
            "`shaper` has no effect on an offloaded data channel",
            "limit the tunnel device with `tc`",
        ),
        "comp-lzo" => {
            let words = [("yes", ()), ("no", ()), ("adaptive", ())];
            let no = o.is(0, "no");
            if o.count() > 0 {
                o.word(0, &words)?;
            }
            b.set_compression(Some(Compression::CompLzo), !no, o)?;
            if !no && b.wants_advice() {
                compression_advice(o);
            }
        }
        "compress" => {
            let words = [
                ("stub", Some(Compression::Stub)),
                ("stub-v2", Some(Compression::StubV2)),
                ("lz4", Some(Compression::Lz4)),
                ("lz4-v2", Some(Compression::Lz4V2)),
                ("lzo", Some(Compression::Lzo)),
                ("migrate", None),
                ("none", None),
            ];
            let migrate = o.is(0, "migrate");
            let framing = if o.count() == 0 { Some(Compression::Stub) } else { o.word(0, &words)? };
            b.config.data.compress_migrate = migrate;
            let compresses =
                matches!(framing, Some(Compression::Lz4 | Compression::Lz4V2 | Compression::Lzo));
            b.set_compression(framing, compresses, o)?;
            if framing.is_some() && b.wants_advice() {
                compression_advice(o);
            }
        }
        "allow-compression" => {
            let words = [
                ("no", AllowCompression::No),
                ("asym", AllowCompression::Asym),
                ("yes", AllowCompression::Asym),
            ];
            b.config.data.allow_compression = o.word(0, &words)?;
            if o.is(0, "yes") {
                o.say(
                    Class::Advice,
                    "`allow-compression yes` acts as `asym`: nothing sent is ever compressed",
                    "",
                );
            }
        }
        "keepalive" => {
            let (interval, timeout) = (o.number(0, 0..=65535u32)?, o.number(1, 0..=65535u32)?);
            if timeout < 2 * interval {
                let message = format!(
                    "`keepalive {interval} {timeout}`: the second number must be at least twice the first"
                );
                return Err(o.bad(
                    1,
                    message,
                    format!("write `keepalive {interval} {}`", interval.max(1) * 6),
                ));
            }
            b.keepalive = Some((interval, timeout, o.span()));
        }
        "ping" => t.ping = o.timer(0)?,
        "ping-restart" => {
            t.ping_restart = o.timer(0)?;
            t.ping_exit = None;
        }
        "ping-exit" => {
            t.ping_exit = o.timer(0)?;
            t.ping_restart = None;
        }
        "inactive" => {
            let after = o.timer(0)?;
            let bytes = if o.count() > 1 { o.number(1, 0..=u64::MAX)? } else { 0 };
            t.inactive = after.map(|after| Inactive { after, bytes });
        }
        "session-timeout" => t.session_timeout = o.timer(0)?,
        "hand-window" => t.hand_window = o.seconds(0, 1)?,
        "tran-window" => t.tran_window = o.seconds(0, 0)?,
        "tls-timeout" => t.tls_timeout = o.seconds(0, 1)?,
        "reneg-sec" => {
            t.reneg = o.timer(0)?;
            t.reneg_min = if o.count() > 1 { o.timer(1)? } else { None };
        }
        "reneg-bytes" => t.reneg_bytes = Some(o.number(0, 0..=u64::MAX)?).filter(|n| *n > 0),
        "reneg-pkts" => t.reneg_packets = Some(o.number(0, 0..=u64::MAX)?).filter(|n| *n > 0),
        "replay-window" => {
            let packets = if o.count() > 0 { o.number(0, 0..=65536)? } else { 64 };
            let time = if o.count() > 1 { o.seconds(1, 0)? } else { Duration::from_secs(15) };
            b.config.data.replay_window = ReplayWindow { packets, time };
        }
        // These are always so: timers run once the peer is known, options are never compared.
        "ping-timer-rem" | "disable-occ" | "mute-replay-warnings" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn compression_advice(o: &mut Opt<'_>) {
    o.say(
        Class::Deprecated,
        format!("`{}`: its framing is spoken, but nothing sent is ever compressed", o.name()),
        "remove it on both sides; on the server `compress migrate` steers old clients away from it",
    );
}

impl Builder {
    /// `compresses`: compressed packets may come with it.
    fn set_compression(
        &mut self,
        framing: Option<Compression>,
        compresses: bool,
        o: &mut Opt<'_>,
    ) -> Result<(), Bad> {
        self.compresses = compresses.then(|| (o.name(), o.span()));
        if !self.wants_advice() {
            self.compression_allowed(o)?;
        }
        self.config.data.compression = framing;
        self.pushed.compression = Some(framing);
        self.client.compression = Some(framing);
        Ok(())
    }

    /// `allow-compression no` against what a server pushes.
    fn compression_allowed(&self, o: &mut Opt<'_>) -> Result<(), Bad> {
        if self.compresses.is_some() && self.config.data.allow_compression == AllowCompression::No {
            let text = format!("`{}` comes from the server, and `allow-compression no` is set", o.name());
            return Err(o.bad(0, text, "remove compression on the server"));
        }
        Ok(())
    }

    /// Advice is for the one who wrote the file, not for what a server pushes.
    pub(super) fn wants_advice(&self) -> bool {
        self.context.contains(crate::table::Contexts::FILE)
    }
}
