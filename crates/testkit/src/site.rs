//! A folder from which both ends of a tunnel run: certificates, keys, scripts, configuration files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::{Netns, Pki, Program, Role, Running, TempDir, run};

/// The folder; it goes away with its guard.
///
/// | file | what |
/// |---|---|
/// | `ca.crt` | the authority |
/// | `server.crt`, `server.key` | TLS server |
/// | `client1.…`, `client2.…` | TLS clients |
/// | `static.key` | for tls-auth and tls-crypt |
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
}

impl Site {
    /// Makes the folder with all files of the table.
    ///
    /// # Errors
    /// When the folder or a certificate cannot be made.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let dir = TempDir::new(label)?;
        let names = [("server", Role::Server), ("client1", Role::Client), ("client2", Role::Client)];
        Pki::new()?.write(&dir, &names)?;
        dir.write("static.key", static_key(7))?;
        Ok(Self { dir })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        self.dir.write(name, text)
    }

    /// Reads a file; one that is not there is empty.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// Writes an executable shell script.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn script(&self, name: &str, body: &str) -> anyhow::Result<()> {
        let path = self.dir.write(name, format!("#!/bin/sh\n{body}\n"))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Makes `v2-server.key` and, with `metadata` (base64) inside, `v2-client.key` for tls-crypt-v2.
    ///
    /// # Errors
    /// When `program` does not make them.
    pub fn tls_crypt_v2(&self, program: &Program, metadata: &str) -> anyhow::Result<()> {
        let server: &[&str] = &["--genkey", "tls-crypt-v2-server", "v2-server.key"];
        let client: &[&str] = &[
            "--tls-crypt-v2",
            "v2-server.key",
            "--genkey",
            "tls-crypt-v2-client",
            "v2-client.key",
            metadata,
        ];
        for arguments in [server, client] {
            let mut command = program.command_outside();
            run(command.current_dir(self.path()).args(arguments), Duration::from_secs(10))?
                .success()
                .context("no keys for tls-crypt-v2")?;
        }
        Ok(())
    }

    /// Writes a configuration file and starts a program with it inside a namespace.
    ///
    /// # Errors
    /// When the file cannot be written or the program not be started.
    pub fn start(&self, program: &Program, ns: &Netns, file: &str, config: &str) -> anyhow::Result<Running> {
        self.write(file, config)?;
        self.start_with(program, ns, &["--config", file])
    }

    /// Starts a program inside a namespace with the given words.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(&self, program: &Program, ns: &Netns, words: &[&str]) -> anyhow::Result<Running> {
        Running::start(program.command(ns).current_dir(self.path()).args(words))
    }
}

/// A static key file; another `seed`, another key.
pub fn static_key(seed: u32) -> String {
    let digits: String = (0..256).map(|byte| format!("{:02x}", byte * seed % 251)).collect();
    format!("-----BEGIN OpenVPN Static key V1-----\n{digits}\n-----END OpenVPN Static key V1-----\n")
}
