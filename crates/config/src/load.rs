//! The doors: a file, a command line, pushed options, one client's file.

use crate::build::Builder;
use crate::diagnostic::{Class, Diagnostic};
use crate::model::{ClientOptions, Config, PullFilterAction, Pushed};
use crate::source::Sources;
use crate::statement::{NoFiles, Parsed, Parser, Reader};
use crate::table::Contexts;

/// A configuration that was read, with everything to be said about it. Look at [`Loaded::refused`] before using it.
#[derive(Debug)]
pub struct Loaded {
    /// The typed result; complete even where something was wrong (the wrong options are left out).
    pub config: Config,
    /// What is to be said, in the order of reading.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts, for showing places.
    pub sources: Sources,
    /// Options that print something and exit (`version`, `show-ciphers`, `genkey` …) with their arguments, in order.
    pub standalone: Vec<(&'static str, Vec<String>)>,
}

impl Loaded {
    /// Whether the configuration is wrong or asks for what is not done here.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.diagnostics.iter().any(|d| d.class.refuses())
    }

    /// Whether a tunnel can be started from it.
    #[must_use]
    pub fn ready(&self) -> bool {
        !self.diagnostics.iter().any(|d| d.class.prevents_start())
    }

    /// Adds what somebody else found, in its place.
    pub fn add(&mut self, more: Vec<Diagnostic>) {
        self.diagnostics.extend(more);
        in_order(&mut self.diagnostics);
    }

    /// What keeps it from starting.
    pub fn obstacles(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.class.prevents_start())
    }
}

/// Reads one file through `reader`.
#[must_use]
pub fn load_file(name: &str, reader: &dyn Reader) -> Loaded {
    let mut parser = Parser::new(Contexts::FILE, reader);
    parser.file(name);
    loaded(parser.finish())
}

/// Reads a text that is already here; includes go through `reader`.
#[must_use]
pub fn load_text(name: &str, text: &[u8], reader: &dyn Reader) -> Loaded {
    let mut parser = Parser::new(Contexts::FILE, reader);
    parser.text(name, text);
    loaded(parser.finish())
}

/// Reads a command line (without the program's name), files it names included.
#[must_use]
pub fn load_command_line<S: AsRef<str>>(words: &[S], reader: &dyn Reader) -> Loaded {
    let mut parser = Parser::new(Contexts::FILE, reader);
    parser.command_line(words);
    loaded(parser.finish())
}

fn loaded(parsed: Parsed) -> Loaded {
    let standalone = parsed
        .items
        .iter()
        .filter_map(|item| match item {
            crate::statement::Item::Option(s) if s.spec.contexts == Contexts::CMDLINE => {
                Some((s.spec.name, s.args.iter().map(|a| a.text.clone()).collect()))
            }
            _ => None,
        })
        .collect();
    let mut builder = Builder::new(Contexts::FILE, Config::default());
    builder.apply(&parsed.items);
    let (config, said) = builder.into_config();
    let mut diagnostics = parsed.diagnostics;
    diagnostics.extend(said);
    // Where a line could not be read, what seems to be missing may be on it.
    if diagnostics.iter().any(|d| d.class == Class::Error) {
        diagnostics.retain(|d| d.class != Class::Incomplete || d.span.is_some());
    }
    in_order(&mut diagnostics);
    Loaded { config, diagnostics, sources: parsed.sources, standalone }
}

/// In the order of reading; what concerns the whole comes last.
fn in_order(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|d| d.span.map_or((1, d.class as u32, 0), |s| (0, s.source.0, s.line)));
}

/// Pushed options, applied to a client's configuration.
#[derive(Debug)]
pub struct PushResult {
    /// The configuration with the options applied: addresses, routes, DNS, timers, MTU.
    pub config: Config,
    /// What only a server says: peer-id, cipher, flags, token.
    pub pushed: Pushed,
    /// Options that were left out by `pull-filter ignore`.
    pub filtered: Vec<String>,
    /// The first option that `pull-filter reject` hits: the connection must restart.
    pub rejected: Option<String>,
    /// What was wrong; none of it is fatal by itself.
    pub diagnostics: Vec<Diagnostic>,
    /// For showing places.
    pub sources: Sources,
}

impl Config {
    /// Applies options a server pushed, in order, after `pull-filter` and `route-nopull`.
    ///
    /// The receiver must be the configuration as loaded, not one that pushed options were applied to before, except for
    /// PUSH_UPDATE messages, which build on the last result.
    #[must_use]
    pub fn apply_pushed<S: AsRef<str>>(&self, options: &[S]) -> PushResult {
        let (mut filtered, mut rejected, mut kept) = (Vec::new(), None, Vec::new());
        for option in options {
            let text = option.as_ref().trim_start();
            let rule = self.routing.pull_filters.iter().find(|f| text.starts_with(f.text.as_str()));
            match rule.map(|f| f.action) {
                Some(PullFilterAction::Ignore) => filtered.push(text.to_owned()),
                Some(PullFilterAction::Reject) => {
                    rejected.get_or_insert_with(|| text.to_owned());
                }
                Some(PullFilterAction::Accept) | None if self.kept_by_nopull(text) => kept.push(text),
                _ => filtered.push(text.to_owned()),
            }
        }
        let mut parser = Parser::new(Contexts::PUSHED, &NoFiles);
        parser.options("[PUSH-OPTIONS]", &kept);
        let parsed = parser.finish();
        let mut base = self.clone();
        // `given` is to tell what was pushed only where the caller asks for it by the result's own map.
        if kept.iter().any(|t| t.starts_with("dns ")) {
            base.routing.dns.servers.retain(|s| {
                !kept
                    .iter()
                    .any(|t| t.split_whitespace().nth(2).and_then(|n| n.parse().ok()) == Some(s.priority))
            });
        }
        let mut builder = Builder::new(Contexts::PUSHED, base);
        builder.apply(&parsed.items);
        let (config, pushed, said) = builder.into_pushed();
        let mut diagnostics = parsed.diagnostics;
        diagnostics.extend(said);
        PushResult { config, pushed, filtered, rejected, diagnostics, sources: parsed.sources }
    }

    /// `route-nopull` keeps routes and DNS out.
    fn kept_by_nopull(&self, text: &str) -> bool {
        const CLASSES: [&str; 9] = [
            "route",
            "route-ipv6",
            "route-metric",
            "redirect-gateway",
            "redirect-private",
            "dhcp-option",
            "dns",
            "block-outside-dns",
            "client-nat",
        ];
        let name = text.split_whitespace().next().unwrap_or_default();
        !self.routing.nopull || !CLASSES.contains(&name)
    }
}

/// Reads the options of one client of a server: a ccd file, what a client-connect script wrote, or a management text. Wrong
/// lines are reported and left out; the rest counts.
#[must_use]
pub fn load_client_options(
    name: &str,
    text: &[u8],
    reader: &dyn Reader,
) -> (ClientOptions, Vec<Diagnostic>, Sources) {
    let mut parser = Parser::new(Contexts::CLIENT, reader);
    parser.text(name, text);
    let parsed = parser.finish();
    let mut builder = Builder::new(Contexts::CLIENT, Config::default());
    builder.apply(&parsed.items);
    let (options, said) = builder.into_client();
    let mut diagnostics = parsed.diagnostics;
    diagnostics.extend(said);
    (options, diagnostics, parsed.sources)
}
