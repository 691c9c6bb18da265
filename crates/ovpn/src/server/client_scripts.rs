//! `client-connect`, `client-disconnect`, `learn-address` and `tls-verify`: the scripts around a client's life.
//!
//! Source: OpenVPN server behaviour, "Per-client option sources", "Certificate checks".

use std::time::Duration;

use ipnet::IpNet;
use ovpn_config::model::{ClientOptions, Command, ScriptSecurity};
use ovpn_config::{NoFiles, load_client_options};

use super::routing_table;
use super::temp_file::TempFile;
use crate::environment::Environment;
use crate::script::Script;

/// What all of them need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runner<'a> {
    /// `script-security`.
    pub(crate) security: ScriptSecurity,
    /// `tmp-dir`.
    pub(crate) tmp_dir: Option<&'a str>,
}

impl Runner<'_> {
    /// `client-connect`: the script's last argument is a file for options of this client. With a 2 in
    /// `client_connect_deferred_file` it decides later. `None`: the client is refused (the reason is logged).
    pub(crate) async fn client_connect(
        self,
        command: &Command,
        mut environment: Environment,
    ) -> Option<ClientOptions> {
        let make = |prefix| TempFile::create(self.tmp_dir, prefix, b"");
        let (config, deferred) = match (make("cc"), make("ccr")) {
            (Ok(config), Ok(deferred)) => (config, deferred),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!("no file for the client-connect script: {error}");
                return None;
            }
        };
        environment.set("client_connect_config_file", config.path().display());
        environment.set("client_connect_deferred_file", deferred.path().display());
        let arguments = vec![config.path().display().to_string()];
        if !self.run("client-connect", command, arguments, &environment).await {
            return None;
        }
        let mut pause = Duration::from_millis(50);
        while deferred.read().first() == Some(&b'2') {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        if deferred.read().first() == Some(&b'0') {
            tracing::warn!("the client-connect script refused the client");
            return None;
        }
        let name = format!("client-connect {}", command.argv.first().map_or("", String::as_str));
        let (options, diagnostics, sources) = load_client_options(&name, &config.read(), &NoFiles);
        for diagnostic in diagnostics {
            tracing::warn!("{}", diagnostic.one_line(&sources));
        }
        Some(options)
    }

    /// `client-disconnect`.
    pub(crate) async fn client_disconnect(self, command: &Command, environment: &Environment) {
        self.run("client-disconnect", command, Vec::new(), environment).await;
    }

    /// `learn-address add|update ADDR CN`: whether the address may be used.
    pub(crate) async fn learn_address(
        self,
        command: &Command,
        net: IpNet,
        common_name: &str,
        known: bool,
        environment: &Environment,
    ) -> bool {
        let operation = if known { "update" } else { "add" };
        let arguments = vec![operation.to_owned(), routing_table::show(net), common_name.to_owned()];
        self.run("learn-address", command, arguments, environment).await
    }

    /// `learn-address delete ADDR`.
    pub(crate) async fn forget_address(self, command: &Command, net: IpNet, environment: &Environment) {
        let arguments = vec!["delete".to_owned(), routing_table::show(net)];
        self.run("learn-address", command, arguments, environment).await;
    }

    /// `tls-verify DEPTH SUBJECT` for one certificate: whether it is accepted.
    pub(crate) async fn tls_verify(
        self,
        command: &Command,
        depth: usize,
        subject: &str,
        environment: &Environment,
    ) -> bool {
        let arguments = vec![depth.to_string(), subject.to_owned()];
        self.run("tls-verify", command, arguments, environment).await
    }

    /// `tls-crypt-v2-verify`: whether a client's key may be used; `metadata` is type byte and content.
    pub(crate) async fn tls_crypt_v2_verify(
        self,
        command: &Command,
        metadata: &[u8],
        mut environment: Environment,
    ) -> bool {
        let (kind, content) = metadata.split_first().map_or((0, metadata), |(kind, rest)| (*kind, rest));
        let file = match TempFile::create(self.tmp_dir, "tls_crypt_v2_metadata", content) {
            Ok(file) => file,
            Err(error) => {
                tracing::error!("no file for the client key's metadata: {error}");
                return false;
            }
        };
        environment.set("metadata_type", kind);
        environment.set("metadata_file", file.path().display());
        self.run("tls-crypt-v2-verify", command, Vec::new(), &environment).await
    }

    async fn run(
        self,
        what: &'static str,
        command: &Command,
        arguments: Vec<String>,
        environment: &Environment,
    ) -> bool {
        match (Script { what, command, arguments, environment }).run(self.security).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: Runner<'_> = Runner { security: ScriptSecurity::Scripts, tmp_dir: None };

    fn shell(script: &str) -> Command {
        let argv = ["/bin/sh", "-c", script, "x"].map(str::to_owned).to_vec();
        Command { argv, span: Default::default() }
    }

    async fn connect(script: &str) -> Option<ClientOptions> {
        RUNNER.client_connect(&shell(script), Environment::default()).await
    }

    #[tokio::test]
    async fn client_connect_writes_options() {
        let options =
            connect("echo 'push \"echo hello\"' >$1; echo 'iroute 10.9.0.0 255.255.0.0' >>$1").await;
        let options = options.unwrap();
        assert_eq!(options.push[0].text, "echo hello");
        assert_eq!(options.iroutes, ["10.9.0.0/16".parse().unwrap()]);
        assert!(connect("exit 1").await.is_none());
        assert!(connect("echo disable >$1").await.unwrap().disable);
        assert!(connect("echo 'remote evil.example' >$1").await.is_some(), "wrong lines are left out");
    }

    #[tokio::test]
    async fn client_connect_may_decide_later() {
        let later = "printf 2 >$client_connect_deferred_file
            (sleep 0.2; echo 'push \"echo late\"' >$client_connect_config_file
             printf 1 >$client_connect_deferred_file) >/dev/null & exit 0";
        assert_eq!(connect(later).await.unwrap().push[0].text, "echo late");
        assert!(connect("printf 0 >$client_connect_deferred_file").await.is_none());
    }

    #[tokio::test]
    async fn addresses_are_announced() {
        let learn = shell(r#"test "$1 $2 $3 $#" = "add 10.77.0.2 al ice 3""#);
        let env = Environment::default();
        let net: IpNet = "10.77.0.2/32".parse().unwrap();
        assert!(RUNNER.learn_address(&learn, net, "al ice", false, &env).await);
        assert!(!RUNNER.learn_address(&learn, net, "al ice", true, &env).await);
        let verify = shell(r#"test "$1 $2" = "1 CN=CA" && test "$script_type" = tls-verify"#);
        assert!(RUNNER.tls_verify(&verify, 1, "CN=CA", &env).await);
        let metadata = shell(r#"test "$metadata_type" = 0 && test "$(cat $metadata_file)" = hello"#);
        assert!(RUNNER.tls_crypt_v2_verify(&metadata, b"\0hello", env).await);
    }
}
