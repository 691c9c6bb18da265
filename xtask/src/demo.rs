//! `cargo xtask demo`: a tunnel between two network namespaces, made, shown and removed in one go.
//!
//! ```text
//!   namespace "client"                          namespace "server"
//!   ovpn client demo.ovpn ── veth 192.0.2.2/24 ⇄ 192.0.2.1/24 ── ovpn server
//!        tun 10.8.0.2  ═════════════ tunnel ═════════════ 10.8.0.1 tun
//! ```
//!
//! As root it uses network namespaces of its own; without root it first enters a user namespace, where that is
//! allowed. Nothing outside the two namespaces and one temporary folder is touched.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, is_root, output, root, run};
use crate::tools;

const SERVER: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";
const TUNNEL_SERVER: &str = "10.8.0.1";
const TRANSFER_PORT: u16 = 5001;
/// Length of one measured transfer.
const TRANSFER: Duration = Duration::from_secs(3);
const ENTERED: &str = "OVPN_DEMO_IN_USER_NAMESPACE";

/// Builds a release and shows the demonstration.
pub(crate) fn demo() -> Result<()> {
    if std::env::var_os(ENTERED).is_none() {
        tools::ensure(tools::DEMO)?;
        run(cargo().args(["build", "--release", "--package", "ovpn"]))?;
        if !is_root() {
            return enter_user_namespace();
        }
    }
    let started = Instant::now();
    step(if std::env::var_os(ENTERED).is_some() {
        "running without root, in a user namespace"
    } else {
        "running as root, in network namespaces of its own"
    });
    let net = Net::up()?;
    let folder = Folder::new()?;
    let ovpn = root().join("target/release/ovpn");

    step("making certificates, a server configuration and a profile");
    let pki = folder.0.join("server");
    run(Command::new(&ovpn).args(["init", "--endpoint", SERVER, "--dir"]).arg(&pki).stdout(Stdio::null()))?;
    let profile = folder.0.join("demo.ovpn");
    let text = output(Command::new(&ovpn).args(["profile", "add", "demo", "--dir"]).arg(&pki))?;
    fs::write(&profile, text)?;

    step("starting the server: ovpn server");
    let mut server = Daemon::start(net.exec(&net.server, &ovpn).arg("server").arg(pki.join("server.conf")))?;
    server.wait_for("Initialization Sequence Completed")?;
    step("starting the client: ovpn client demo.ovpn");
    let mut client = Daemon::start(net.exec(&net.client, &ovpn).arg("client").arg(&profile))?;
    client.wait_for("Initialization Sequence Completed")?;
    for line in client.interesting() {
        println!("    {line}");
    }

    step("ping through the tunnel");
    let ping =
        output(net.exec(&net.client, Path::new("ping")).args(["-c", "5", "-i", "0.2", "-q", TUNNEL_SERVER]))?;
    println!("    {}", ping.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default());

    step("one TCP stream, without and with the tunnel");
    let plain = net.transfer(SERVER, "without tunnel")?;
    let tunnel = net.transfer(TUNNEL_SERVER, "through tunnel")?;
    println!(
        "    {:.2} Gbit/s through the tunnel, encrypted; {:.2} Gbit/s over the same path without it ({:.0} %)",
        tunnel / 1e9,
        plain / 1e9,
        100.0 * tunnel / plain
    );
    drop(client);
    drop(server);
    drop(net);
    step(&format!("all removed again; {:.1} s in all", started.elapsed().as_secs_f64()));
    Ok(())
}

fn step(text: &str) {
    println!("\n▸ {text}");
}

/// Starts this program again as root of a new user namespace.
fn enter_user_namespace() -> Result<()> {
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !may {
        bail!(
            "this system gives no user namespace to users: run the demo with `sudo -E env \"PATH=$PATH\" cargo xtask demo`"
        );
    }
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--", "sh", "-c"])
        // `ip netns` keeps its names in /run, which is not ours to write to.
        .arg("mount -t tmpfs none /run && exec \"$0\" demo")
        .arg(std::env::current_exe()?)
        .env(ENTERED, "1")
        .exec();
    bail!(
        "cannot enter a user namespace ({error}); run the demo with sudo, or allow unprivileged user namespaces"
    )
}

/// A folder that goes when we go.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("ovpn-demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two namespaces joined by a veth pair.
struct Net {
    server: String,
    client: String,
}

impl Net {
    fn up() -> Result<Self> {
        let pid = std::process::id();
        let net = Self { server: format!("ovpn-demo-{pid}-s"), client: format!("ovpn-demo-{pid}-c") };
        let ip = |args: &str| run(Command::new("ip").args(args.split(' ')));
        let (s, c) = (&net.server, &net.client);
        ip(&format!("netns add {s}"))?;
        ip(&format!("netns add {c}"))?;
        ip(&format!("-n {s} link add veth0 type veth peer name veth0 netns {c}"))?;
        for (ns, address) in [(s, SERVER), (c, CLIENT)] {
            ip(&format!("-n {ns} link set lo up"))?;
            ip(&format!("-n {ns} address add {address}/24 dev veth0"))?;
            ip(&format!("-n {ns} link set veth0 up"))?;
        }
        Ok(net)
    }

    fn exec(&self, namespace: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }

    /// Sends to `address` for a while, with a progress bar; bits per second.
    fn transfer(&self, address: &str, label: &str) -> Result<f64> {
        let me = std::env::current_exe()?;
        let mut receiver = self.exec(&self.server, &me).arg("demo-receive").stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(receiver.stdout.take().context("no output")?).lines();
        lines.next().context("the receiver did not start")??;
        let sender = self.exec(&self.client, &me).args(["demo-send", address, label]).status()?;
        let received = lines.next().context("the receiver counted nothing")??;
        receiver.wait()?;
        if !sender.success() {
            bail!("sending to {address} failed");
        }
        Ok(received.trim().parse()?)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for ns in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

/// Counts what one connection brings; prints "ready", then bits per second.
pub(crate) fn receive() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", TRANSFER_PORT))?;
    println!("ready");
    let (mut stream, _) = listener.accept()?;
    let (start, mut buffer, mut bytes) = (Instant::now(), vec![0; 1 << 18], 0u64);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            n => bytes += n as u64,
        }
    }
    println!("{}", bytes as f64 * 8.0 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Sends for [`TRANSFER`], showing how far it is.
pub(crate) fn send(address: &str, label: &str) -> Result<()> {
    let mut stream = TcpStream::connect((address, TRANSFER_PORT))?;
    let (start, buffer, mut bytes, mut shown) = (Instant::now(), vec![0; 1 << 18], 0u64, 0);
    while start.elapsed() < TRANSFER {
        bytes += stream.write(&buffer)? as u64;
        let elapsed = start.elapsed();
        let tenth = elapsed.as_millis() / 100;
        if tenth != shown {
            shown = tenth;
            let done = ((elapsed.as_secs_f64() / TRANSFER.as_secs_f64()).min(1.0) * 30.0) as usize;
            let rate = bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e9;
            print!("\r    {label:<15} [{}{}] {rate:6.2} Gbit/s ", "█".repeat(done), " ".repeat(30 - done));
            std::io::stdout().flush()?;
        }
    }
    println!();
    Ok(())
}

/// A program that runs until it is dropped; its output is kept.
struct Daemon {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    seen: Vec<String>,
}

impl Daemon {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, output, seen: Vec::new() })
    }

    fn wait_for(&mut self, text: &str) -> Result<()> {
        let mut line = String::new();
        while self.output.read_line(&mut line)? > 0 {
            self.seen.push(line.trim_end().to_owned());
            if line.contains(text) {
                return Ok(());
            }
            line.clear();
        }
        bail!("it ended before it said '{text}':\n{}", self.seen.join("\n"))
    }

    /// The lines that tell what was negotiated and what carries the data.
    fn interesting(&self) -> impl Iterator<Item = &str> {
        const WORDS: [&str; 3] = ["Data plane:", "Control Channel:", "Data Channel:"];
        self.seen.iter().map(String::as_str).filter(|line| WORDS.iter().any(|word| line.contains(word)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The shell's own `kill`: a small system has no program of that name.
        let _ = Command::new("sh").args(["-c", "kill $0", &self.child.id().to_string()]).status();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
