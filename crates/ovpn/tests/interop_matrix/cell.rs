//! One tunnel between us and stock.
//!
//! 1. Both ends start and come up, with the cipher that was asked for.
//! 2. A ping crosses each way.
//! 3. 64 MiB cross by TCP with the same hash at both ends; keys are renewed meanwhile, as both logs say.
//! 4. The TLS client's end leaves, and the other end says that it noticed, long before any timeout.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ovpn_testkit::{Netns, Pair, Program, Running, Site, UP, transfer, wait_for};

use crate::LIMIT;

/// Stock releases.
pub(crate) const VERSIONS: [&str; 3] = ["2.5.1", "2.6.14", "2.7.8"];
const TRANSFER: u64 = 64 << 20;
/// Far below the transfer, so that keys are renewed in its midst.
const RENEW_AFTER: u64 = 14 << 20;
/// No transfer is begun later than that, if stock takes its time.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);

/// What we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ours {
    Client,
    Server,
    TlsClient,
    TlsServer,
}

/// What carries the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Udp4,
    Udp6,
    Tcp4,
}

/// What protects the control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrap {
    None,
    TlsAuth,
    TlsCrypt,
    TlsCryptV2,
}

macro_rules! shown {
    ($type:ident: $($value:ident $text:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$value => $text),+ })
            }
        }
    };
}
shown!(Ours: Client "client", Server "server", TlsClient "p2p, TLS client", TlsServer "p2p, TLS server");
shown!(Link: Udp4 "UDP over IPv4", Udp6 "UDP over IPv6", Tcp4 "TCP over IPv4");
shown!(Wrap: None "unwrapped", TlsAuth "tls-auth", TlsCrypt "tls-crypt", TlsCryptV2 "tls-crypt-v2");

/// One combination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) ours: Ours,
    /// Index into [`VERSIONS`].
    pub(crate) version: usize,
    pub(crate) link: Link,
    pub(crate) wrap: Wrap,
    pub(crate) cipher: &'static str,
    /// We, not stock, ask for new keys and send the 64 MiB.
    we_lead: bool,
}

pub(crate) const ROLES: [Ours; 4] = [Ours::Client, Ours::Server, Ours::TlsClient, Ours::TlsServer];
pub(crate) const LINKS: [Link; 3] = [Link::Udp4, Link::Udp6, Link::Tcp4];
pub(crate) const WRAPS: [Wrap; 4] = [Wrap::None, Wrap::TlsAuth, Wrap::TlsCrypt, Wrap::TlsCryptV2];
pub(crate) const CIPHERS: [&str; 3] = ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"];

/// Every cell of the matrix.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (version, _) in VERSIONS.iter().enumerate() {
        for ours in ROLES {
            for (l, link) in LINKS.into_iter().enumerate() {
                for (w, wrap) in WRAPS.into_iter().enumerate() {
                    for (c, cipher) in CIPHERS.into_iter().enumerate() {
                        // 2.5.1: one axis at a time around UDP4, tls-crypt, AES-256-GCM.
                        let aside = usize::from(link != Link::Udp4)
                            + usize::from(wrap != Wrap::TlsCrypt)
                            + usize::from(c != 1);
                        let we_lead = (l + w + c) % 2 == 0;
                        if version > 0 || aside <= 1 {
                            cells.push(Cell { ours, version, link, wrap, cipher, we_lead });
                        }
                    }
                }
            }
        }
    }
    cells
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, link, wrap, cipher, .. } = self;
        write!(f, "{ours:?}/{}/{link:?}/{wrap:?}/{cipher}", VERSIONS[self.version])
    }
}

/// What a cell that works showed.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// TLS version and key exchange group.
    pub(crate) tls: String,
    up: Duration,
    ping: Duration,
    copy: Duration,
    left: Duration,
    renewals: usize,
}

impl Found {
    pub(crate) fn times(&self) -> String {
        format!(
            "up {:.2} s, ping {:.2} s, 64 MiB {:.2} s ({} renewals), exit {:.2} s; {}",
            self.up.as_secs_f64(),
            self.ping.as_secs_f64(),
            self.copy.as_secs_f64(),
            self.renewals,
            self.left.as_secs_f64(),
            self.tls
        )
    }
}

/// Where the time went.
pub(crate) fn sum_of_times<'a>(found: impl Iterator<Item = &'a Found>) -> String {
    let mut sum = [Duration::ZERO; 4];
    for found in found {
        for (sum, time) in sum.iter_mut().zip([found.up, found.ping, found.copy, found.left]) {
            *sum += time;
        }
    }
    let [up, ping, copy, left] = sum.map(|sum| sum.as_secs_f64());
    format!("up {up:.0} s, ping {ping:.0} s, transfer {copy:.0} s, exit {left:.0} s")
}

/// One end: its program, its namespace, its address in the tunnel.
struct End<'a> {
    running: Running,
    ns: &'a Netns,
    inside: IpAddr,
    ours: bool,
}

impl Cell {
    fn is_p2p(&self) -> bool {
        matches!(self.ours, Ours::TlsClient | Ours::TlsServer)
    }

    fn we_are_left(&self) -> bool {
        matches!(self.ours, Ours::Client | Ours::TlsClient)
    }

    /// Runs it; the TLS client is at the left.
    pub(crate) fn run(&self, pair: &Pair, site: &Site, ours: &Program, stock: &Program) -> Result<Found> {
        let (left_program, right_program) = if self.we_are_left() { (ours, stock) } else { (stock, ours) };
        let start = Instant::now();
        let running =
            site.start(right_program, &pair.right, "right.conf", &self.right_config(right_program))?;
        let inside = if self.is_p2p() { "10.78.0.1" } else { "10.77.0.1" }.parse()?;
        let mut right = End { running, ns: &pair.right, inside, ours: !self.we_are_left() };
        // A peer is up only with the other; what it opens first is its socket.
        let listening = match (self.is_p2p(), self.link) {
            (false, _) => UP,
            (true, Link::Tcp4) => "Listening for incoming TCP connection",
            (true, _) => "link local",
        };
        right.running.wait_for_text(listening, LIMIT).context("the right end does not start")?;
        let running = site.start(left_program, &pair.left, "left.conf", &self.left_config(left_program))?;
        let inside = if self.is_p2p() { "10.78.0.2" } else { "10.77.0.2" }.parse()?;
        let mut left = End { running, ns: &pair.left, inside, ours: self.we_are_left() };
        let result = self.judge(&mut left, &mut right, start);
        result.map_err(|error| anyhow::anyhow!("{error:#}\nleft {}\nright {}", tail(&left), tail(&right)))
    }

    fn judge(&self, left: &mut End<'_>, right: &mut End<'_>, start: Instant) -> Result<Found> {
        left.running.wait_for_text(UP, LIMIT).context("the left end does not come up")?;
        right.running.wait_for_text(UP, LIMIT).context("the right end does not come up")?;
        let up = start.elapsed();
        ping(left, right)?;
        ping(right, left)?;
        let pinged = start.elapsed();

        let before = (left.handshakes(), right.handshakes());
        let (from, to) = if self.we_lead == left.ours { (&*left, &*right) } else { (&*right, &*left) };
        // Stock looks at its counters when it comes to it: where it leads, one transfer may be over before that.
        let mut renewals = 0;
        let mut copies = 0;
        while copies == 0 || (renewals < 2 && start.elapsed() - pinged < RENEWED_WITHIN) {
            transfer(from.ns, to.ns, to.inside, TRANSFER, LIMIT).context("64 MiB by TCP")?;
            copies += 1;
            renewals = (left.handshakes() - before.0).min(right.handshakes() - before.1);
        }
        let copied = start.elapsed();
        ensure!(
            renewals > 1,
            "keys were renewed {renewals} times in {copies} transfers, twice at least is wanted"
        );
        for end in [&*left, &*right] {
            let log = end.running.stdout();
            ensure!(log.contains(self.cipher), "{} is not in the log of {}", self.cipher, end.name());
        }

        left.running.signal(15)?;
        self.wait_for_notice(&right.running).context("the exit was not noticed")?;
        let gone = start.elapsed();
        Ok(Found {
            tls: tls(if left.ours { left } else { right })?,
            up,
            ping: pinged - up,
            copy: copied - pinged,
            left: gone - copied,
            renewals,
        })
    }

    /// Waits until the log says that the other end left. Whoever heard nothing would say it after 60 s.
    fn wait_for_notice(&self, right: &Running) -> Result<()> {
        let notices: &[&str] = match self.link {
            Link::Tcp4 => &["Connection reset, restarting", "[soft,connection-reset]"],
            // A server keeps a client that left for some seconds, and says before and after.
            _ => &["exit message received by peer", "[soft,remote-exit]"],
        };
        wait_for(notices[0], Duration::from_secs(10), || {
            let log = right.stdout();
            notices.iter().any(|notice| log.contains(notice)).then_some(())
        })
    }

    fn left_config(&self, program: &Program) -> String {
        let (proto, address) = match self.link {
            Link::Udp4 => ("udp4", "10.10.1.2"),
            Link::Udp6 => ("udp6", "fd00:0:0:1::2"),
            Link::Tcp4 => ("tcp4-client", "10.10.1.2"),
        };
        let mut config = self.common(program, 1);
        config += &format!("proto {proto}\nremote {address} 1194\ncert client1.crt\nkey client1.key\n");
        config +=
            if self.is_p2p() { "tls-client\nifconfig 10.78.0.2 10.78.0.1\n" } else { "client\nnobind\n" };
        config += "remote-cert-tls server\n";
        if self.link != Link::Tcp4 {
            config += "explicit-exit-notify 1\n";
        }
        config
    }

    fn right_config(&self, program: &Program) -> String {
        let proto = match self.link {
            Link::Udp4 => "udp4",
            Link::Udp6 => "udp6",
            Link::Tcp4 => "tcp4-server",
        };
        let mut config = self.common(program, 0);
        config += &format!("proto {proto}\ncert server.crt\nkey server.key\ndh none\n");
        config += if self.is_p2p() {
            "tls-server\nifconfig 10.78.0.1 10.78.0.2\n"
        } else {
            "topology subnet\nserver 10.77.0.0 255.255.255.0\n"
        };
        config += "remote-cert-tls client\n";
        config
    }

    /// What both ends have. `direction` is that of the key of tls-auth.
    fn common(&self, program: &Program, direction: u8) -> String {
        let is_right = direction == 0;
        let mut config = String::from("dev tun\nca ca.crt\nkeepalive 20 60\nverb 3\n");
        let is_ours = matches!(program, Program::Ours(_));
        if !is_ours && program.knows_dco() {
            config += "disable-dco\n";
        }
        if self.version == 0 {
            // No defaults that would do: its list lacks ChaCha20, and peers do not negotiate.
            config += &format!("data-ciphers {0}\n", self.cipher);
            if self.is_p2p() {
                config += &format!("cipher {0}\n", self.cipher);
            }
        } else if is_right {
            config += &format!("data-ciphers {}\n", self.cipher);
        }
        config += &match (is_ours, self.we_lead) {
            (true, true) => format!("reneg-bytes {RENEW_AFTER}\n"),
            // Once two seconds have passed without a control packet, stock looks at its counters every 15 s only, or
            // by its clock.
            (false, false) => format!("reneg-bytes {RENEW_AFTER}\nreneg-sec 4\n"),
            // It forgets the key before the last with its next soft reset: let ours be off that one by then.
            (true, false) => "reneg-sec 6\n".to_owned(),
            (false, true) => String::new(),
        };
        config += &match self.wrap {
            Wrap::None => String::new(),
            Wrap::TlsAuth => format!("tls-auth static.key {direction}\nauth SHA256\n"),
            Wrap::TlsCrypt => "tls-crypt static.key\n".to_owned(),
            Wrap::TlsCryptV2 => {
                format!("tls-crypt-v2 {}\n", if is_right { "v2-server.key" } else { "v2-client.key" })
            }
        };
        config
    }
}

impl End<'_> {
    fn name(&self) -> &'static str {
        if self.ours { "ours" } else { "stock" }
    }

    /// TLS handshakes that its log tells of.
    fn handshakes(&self) -> usize {
        self.running.stdout().matches("Control Channel: TLS").count()
    }
}

fn ping(from: &End<'_>, to: &End<'_>) -> Result<()> {
    let to = to.inside.to_string();
    from.ns
        .run("ping", &["-c", "1", "-w", "10", &to])
        .with_context(|| format!("ping from {}", from.name()))?;
    Ok(())
}

/// TLS version and key exchange group, as our log names them.
fn tls(ours: &End<'_>) -> Result<String> {
    let log = ours.running.stdout();
    let line = log.split("Control Channel: ").nth(1).and_then(|rest| rest.lines().next());
    let words: Vec<&str> = line.context("no Control Channel line")?.split(", ").collect();
    let [version, _, group] = words.as_slice() else { anyhow::bail!("a strange Control Channel line") };
    Ok(format!("{version}, {}", group.trim_start_matches("group ")))
}

fn tail(end: &End<'_>) -> String {
    let log = end.running.stdout() + &end.running.stderr();
    let dull = ["VERIFY", "EKU", "peer info", "key usage"];
    let lines: Vec<&str> = log.lines().filter(|line| !dull.iter().any(|word| line.contains(word))).collect();
    format!("({})\n{}", end.name(), lines[lines.len().saturating_sub(40)..].join("\n"))
}
