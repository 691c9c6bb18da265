//! The scenarios of the kernel's selftest tool: bash scripts, run with our program under the tool's name.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{TempDir, run};

/// Where and how the scripts are run.
#[derive(Debug, Clone, Copy)]
pub struct Scenarios<'a> {
    /// The folder with the scripts.
    pub scripts: &'a Path,
    /// Our program.
    pub program: &'a Path,
    /// `engine` or `kernel`.
    pub driver: &'a str,
    /// How many clients there are where the script does not say: 6, of which the first three come over IPv4, or fewer.
    pub peers: u8,
    /// Time limit of one script.
    pub limit: Duration,
}

impl Scenarios<'_> {
    /// Runs one script; every stage that it announces must have passed.
    ///
    /// # Errors
    /// With all that it printed.
    pub fn run(&self, script: &str) -> Result<()> {
        let dir = TempDir::new("scenario")?;
        let tool = dir.path().join("ovpn-cli");
        // The kernel knows a process by the name it was started with; a link keeps that name.
        symlink(self.program, &tool)?;
        let mut command = Command::new("bash");
        command.arg(self.scripts.join(script)).env("OVPN_CLI", &tool).env("OVPN_DRIVER", self.driver);
        command.env("NUM_PEERS", self.peers.to_string());
        // It ends by itself before that, and cleans up.
        command.env("OVPN_TEST_LIMIT", self.limit.as_secs().to_string()).env("TMPDIR", dir.path());
        let output = run(&mut command, self.limit + Duration::from_secs(20))?;
        let text = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.status.success(), "{script}: {}\n{text}", output.status);
        let plan = output.stdout.lines().find_map(|line| line.strip_prefix("1..")).context("no plan")?;
        let passed = output.stdout.lines().filter(|line| line.starts_with("ok ")).count();
        ensure!(plan.trim().parse() == Ok(passed), "{script}: not every stage passed\n{text}");
        println!("{script}\n{}", output.stdout.trim_end());
        Ok(())
    }

    /// The names of all scripts there are, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.scripts)? {
            names.extend(entry?.file_name().into_string());
        }
        names.retain(|name| name.starts_with("test") && name.ends_with(".sh"));
        names.sort();
        Ok(names)
    }
}

/// A test for each script, and one that none is left out. `$scenarios` gives the [`Scenarios`]; attributes before it
/// go to each test.
#[macro_export]
macro_rules! scenarios {
    ($(#[$attribute:meta])* $scenarios:path) => {
        $crate::scenarios! { @all [$(#[$attribute])*] $scenarios;
            base: "test.sh",
            tcp: "test-tcp.sh",
            float: "test-float.sh",
            chachapoly: "test-chachapoly.sh",
            large_mtu: "test-large-mtu.sh",
            symmetric_id: "test-symmetric-id.sh",
            symmetric_id_tcp: "test-symmetric-id-tcp.sh",
            symmetric_id_float: "test-symmetric-id-float.sh",
            mark: "test-mark.sh",
            close_socket: "test-close-socket.sh",
            close_socket_tcp: "test-close-socket-tcp.sh",
            multihome: "test-multihome.sh",
        }
    };
    (@all $attributes:tt $scenarios:path; $($name:ident: $script:literal,)*) => {
        $($crate::scenarios! { @one $attributes $name { $scenarios().run($script).unwrap() } })*
        $crate::scenarios! { @one $attributes every_script_is_run {
            let mut run = vec![$($script.to_owned()),*];
            run.sort();
            assert_eq!($scenarios().names().unwrap(), run);
        } }
    };
    (@one [$(#[$attribute:meta])*] $name:ident $body:block) => {
        #[test]
        $(#[$attribute])*
        fn $name() $body
    };
}
