//! Options of one client: where they come from, and what wins.
//!
//! Sources in order: the file in `client-config-dir`, the `client-connect` script, the management interface. Later ones
//! override single values and add to lists. Source: OpenVPN server behaviour, "Per-client option sources".

use std::path::PathBuf;

use ovpn_config::model::{ClientOptions, Timers};

use super::names;

/// Where a client's file is looked for, in order; the first that exists counts.
pub(crate) fn config_files(directory: &str, common_name: &str) -> impl Iterator<Item = PathBuf> {
    let own = names::file_in(directory, common_name);
    let default = names::file_in(directory, "DEFAULT");
    own.into_iter().chain(default)
}

/// `ccd-exclusive`: the one file that must exist.
pub(crate) fn exclusive_file(directory: &str, common_name: &str) -> Option<PathBuf> {
    names::file_in(directory, common_name)
}

/// The options of an earlier source overridden by those of a later one.
pub(crate) fn merge(earlier: ClientOptions, later: ClientOptions) -> ClientOptions {
    let mut merged = earlier;
    merged.timers = match merged.timers {
        Some(earlier) => Some(timers(&earlier, &later)),
        None => later.timers.clone(),
    };
    if later.push_reset {
        // Forgets what was to be pushed so far, here too.
        merged.push_reset = true;
        merged.push.clear();
        merged.push_remove.clear();
    }
    let removed = |text: &str| later.push_remove.iter().any(|prefix| text.starts_with(prefix.as_str()));
    merged.push.retain(|item| !removed(&item.text));
    merged.push_remove.extend(later.push_remove);
    merged.push.extend(later.push);
    merged.disable |= later.disable;
    merged.iroutes.extend(later.iroutes);
    merged.iroutes_ipv6.extend(later.iroutes_ipv6);
    merged.ifconfig_push = later.ifconfig_push.or(merged.ifconfig_push);
    merged.ifconfig_ipv6_push = later.ifconfig_ipv6_push.or(merged.ifconfig_ipv6_push);
    merged.timers_given.extend(later.timers_given);
    merged.data_ciphers = later.data_ciphers.or(merged.data_ciphers);
    merged.cipher_fallback = later.cipher_fallback.or(merged.cipher_fallback);
    merged.max_routes = later.max_routes.or(merged.max_routes);
    merged.override_username = later.override_username.or(merged.override_username);
    merged.compression = later.compression.or(merged.compression);
    merged
}

/// The timers of a client: those of the server where it has none of its own. One that the client's options turn off
/// (`ping-restart 0`) is its own, too.
pub(crate) fn timers(server: &Timers, options: &ClientOptions) -> Timers {
    let mut timers = server.clone();
    let Some(own) = &options.timers else { return timers };
    let given = |name| options.timers_given.contains(name);
    if given("ping") {
        timers.ping = own.ping;
    }
    // Restart and exit exclude each other.
    if given("ping-restart") || given("ping-exit") {
        (timers.ping_restart, timers.ping_exit) = (own.ping_restart, own.ping_exit);
    }
    if given("inactive") {
        timers.inactive = own.inactive;
    }
    if given("session-timeout") {
        timers.session_timeout = own.session_timeout;
    }
    timers
}

#[cfg(test)]
mod tests {
    use ovpn_config::model::PushItem;

    use super::*;

    fn pushes(texts: &[&str]) -> ClientOptions {
        let item = |text: &&str| PushItem { text: (*text).to_owned(), span: Default::default() };
        ClientOptions { push: texts.iter().map(item).collect(), ..ClientOptions::default() }
    }

    fn texts(options: &ClientOptions) -> Vec<&str> {
        options.push.iter().map(|item| item.text.as_str()).collect()
    }

    #[test]
    fn files_of_a_client() {
        let files: Vec<_> = config_files("/ccd", "a/b").collect();
        assert_eq!(files, [PathBuf::from("/ccd/a_b"), PathBuf::from("/ccd/DEFAULT")]);
        assert_eq!(config_files("/ccd", "..").count(), 1);
        assert_eq!(exclusive_file("/ccd", ".."), None);
    }

    #[test]
    fn later_sources_override_and_add() {
        let mut earlier = pushes(&["route 10.1.0.0 255.255.0.0", "ping 5"]);
        earlier.iroutes.push("10.9.0.0/16".parse().unwrap());
        earlier.max_routes = Some(7);
        let mut later = pushes(&["echo hello"]);
        later.push_remove.push("route".to_owned());
        later.iroutes.push("10.8.0.0/16".parse().unwrap());
        later.disable = true;
        let merged = merge(earlier.clone(), later.clone());
        assert_eq!(texts(&merged), ["ping 5", "echo hello"]);
        assert_eq!((merged.iroutes.len(), merged.max_routes, merged.disable), (2, Some(7), true));
        later.push_reset = true;
        let merged = merge(earlier, later);
        assert_eq!(texts(&merged), ["echo hello"]);
        assert!(merged.push_reset);
    }

    #[test]
    fn a_client_has_the_servers_timers_but_for_its_own() {
        let seconds = |n| Some(std::time::Duration::from_secs(n));
        let server = Timers { ping: seconds(10), ping_restart: seconds(120), ..Timers::default() };
        let options = |text: &str| {
            let (options, diagnostics, _) =
                ovpn_config::load_client_options("ccd", text.as_bytes(), &ovpn_config::NoFiles);
            assert!(diagnostics.is_empty(), "{diagnostics:?}");
            options
        };
        let both = timers(&server, &options("session-timeout 60\nping 5\n"));
        assert_eq!(
            (both.ping, both.ping_restart, both.session_timeout),
            (seconds(5), seconds(120), seconds(60))
        );
        let both = timers(&server, &options("ping-exit 30\n"));
        assert_eq!((both.ping_restart, both.ping_exit), (None, seconds(30)));
        let both = timers(&server, &options("ping-restart 0\n"));
        assert_eq!((both.ping, both.ping_restart, both.ping_exit), (seconds(10), None, None));
        let merged = merge(options("ping-restart 30\nping 7\n"), options("ping-restart 0\n"));
        let both = timers(&server, &merged);
        assert_eq!((both.ping, both.ping_restart), (seconds(7), None));
    }
}
