//! Options become a [`Config`]: stock's order rules, defaults and helper expansion.
//!
//! ```text
//! items in order ──apply──► Builder (raw values, last one wins; lists add) ──finish──► Config + what is to be said
//!                                             helpers: client, server, server-ipv6, keepalive, tcp-nodelay
//! ```

mod arguments;
mod auth;
mod cipher;
mod device;
mod entry;
mod finish;
mod framing;
mod helpers;
mod management;
mod process;
mod routing;
mod scripts;
mod server;
mod tls;
mod validate;

use std::collections::BTreeMap;

use arguments::{Bad, Opt};
use entry::{Entry, RemoteLine};

use crate::diagnostic::{Class, Diagnostic};
use crate::model::{ClientOptions, Config, Local, Material, Pushed, Rate};
use crate::source::Span;
use crate::statement::{Item, Statement};
use crate::table::{Contexts, Dco};

/// What is collected while options are read in order.
pub(crate) struct Builder {
    config: Config,
    pushed: Pushed,
    client: ClientOptions,
    context: Contexts,
    diagnostics: Vec<Diagnostic>,
    entry: Entry,
    remotes: Vec<RemoteLine>,
    blocks: Vec<Entry>,
    locals: Vec<entry::LocalLine>,
    in_block: bool,
    last: BTreeMap<&'static str, String>,
    flags: Flags,
    ciphers: cipher::Wish,
    keepalive: Option<(u32, u32, Span)>,
    tcp_nodelay: Option<Span>,
    device_name: Option<(String, Span)>,
    device_type: Option<(String, Span)>,
    ifconfig: Option<(std::net::Ipv4Addr, std::net::Ipv4Addr, Span)>,
    pool_flag_nopool: bool,
    proxy_user_pass: Option<Material>,
    /// The option with which compressed packets may come.
    compresses: Option<(&'static str, Span)>,
}

/// Words that decide the role at the end.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    client: bool,
    pull: bool,
    tls_client: bool,
    tls_server: bool,
    mode_server: bool,
    secret: bool,
    plugin: bool,
}

impl Builder {
    pub(crate) fn new(context: Contexts, config: Config) -> Self {
        Self {
            config,
            pushed: Pushed::default(),
            client: ClientOptions::default(),
            context,
            diagnostics: Vec::new(),
            entry: Entry::default(),
            remotes: Vec::new(),
            blocks: Vec::new(),
            locals: Vec::new(),
            in_block: false,
            last: BTreeMap::new(),
            flags: Flags::default(),
            ciphers: cipher::Wish::default(),
            keepalive: None,
            tcp_nodelay: None,
            device_name: None,
            device_type: None,
            ifconfig: None,
            pool_flag_nopool: false,
            proxy_user_pass: None,
            compresses: None,
        }
    }

    /// Applies everything that was read.
    pub(crate) fn apply(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Option(statement) => self.option(statement),
                Item::Connection { span, options } => self.block(*span, options),
            }
        }
    }

    /// The pushed settings, the changed configuration, and what is to be said.
    pub(crate) fn into_pushed(mut self) -> (Config, Pushed, Vec<Diagnostic>) {
        self.merge_pushed();
        (self.config, self.pushed, self.diagnostics)
    }

    /// One client's options, and what is to be said.
    pub(crate) fn into_client(mut self) -> (ClientOptions, Vec<Diagnostic>) {
        self.finish_client();
        (self.client, self.diagnostics)
    }

    fn block(&mut self, span: Span, options: &[Statement]) {
        self.config.given.entry("connection").or_default().push(span);
        let outer = self.entry.clone();
        let outer_remotes = std::mem::take(&mut self.remotes);
        self.in_block = true;
        for statement in options {
            self.option(statement);
        }
        self.in_block = false;
        let inner = std::mem::replace(&mut self.entry, outer);
        let mut remotes = std::mem::replace(&mut self.remotes, outer_remotes);
        match (remotes.pop(), remotes.is_empty()) {
            (Some(remote), true) => self.blocks.push(inner.with_remote(remote)),
            (Some(second), false) => self.diagnostics.push(
                Diagnostic::new(
                    Class::Error,
                    "remote",
                    Some(second.span),
                    "this <connection> block has a second remote",
                )
                .help("write one block per remote"),
            ),
            (None, _) => self.diagnostics.push(
                Diagnostic::new(
                    Class::Error,
                    "connection",
                    Some(span),
                    "this <connection> block has no remote",
                )
                .help("add `remote HOST PORT` to it"),
            ),
        }
    }

    fn option(&mut self, statement: &Statement) {
        let spec = statement.spec;
        let mut diagnostics = std::mem::take(&mut self.diagnostics);
        let mut opt = Opt::new(statement, &mut diagnostics);
        if !self.in_block {
            self.repeated(&mut opt);
            if !self.blocks.is_empty()
                && spec.contexts.contains(Contexts::CONNECTION)
                && spec.name != "remote"
            {
                opt.say(
                    Class::Ignored,
                    format!("`{}` stands after a <connection> block and does not change it", spec.name),
                    "put it before the first block, or into the blocks",
                );
            }
        }
        // A bad value has been reported by the one who read it.
        let _: Result<(), Bad> = self.dispatch(&mut opt);
        self.diagnostics = diagnostics;
        self.config.given.entry(spec.name).or_default().push(statement.span);
    }

    fn dispatch(&mut self, o: &mut Opt<'_>) -> Result<(), Bad> {
        let _ = entry::apply(self, o)?
            || device::apply(self, o)?
            || routing::apply(self, o)?
            || framing::apply(self, o)?
            || tls::apply(self, o)?
            || cipher::apply(self, o)?
            || auth::apply(self, o)?
            || server::apply(self, o)?
            || scripts::apply(self, o)?
            || process::apply(self, o)?
            || management::apply(self, o)?
            || Self::by_table(o);
        Ok(())
    }

    /// Options that only have a row in the table: what it says about them is all there is.
    fn by_table(o: &mut Opt<'_>) -> bool {
        let spec = o.spec();
        match spec.dco {
            Dco::Refused => {
                o.say(Class::Unsupported, format!("`{}` is not supported", spec.name), spec.instead);
            }
            _ if !spec.removed.is_empty() || (spec.dco == Dco::NoEffect && !spec.instead.is_empty()) => {
                o.say(Class::Ignored, format!("`{}` has no effect", spec.name), spec.instead);
            }
            _ => {}
        }
        true
    }

    /// Says so when a single-valued option changes its mind.
    fn repeated(&mut self, o: &mut Opt<'_>) {
        let spec = o.spec();
        if spec.list || spec.name == "config" || spec.name == "setenv" || spec.name == "ignore-unknown-option"
        {
            return;
        }
        let now = o.written();
        if let Some(before) = self.last.insert(spec.name, now.clone()) {
            // `tls-auth [inline] 1` with its block, and the like: both count.
            if before != now && !before.contains("[inline]") {
                o.say(
                    Class::Advice,
                    format!("`{}` is given again; this one counts", spec.name),
                    "remove the other one",
                );
            }
        }
    }
}

fn rate(o: &mut Opt<'_>) -> Result<Rate, Bad> {
    let count = o.number(0, 1..=u32::MAX)?;
    let per = o.seconds(1, 1)?;
    Ok(Rate { count, per })
}

fn listen_default() -> Vec<Local> {
    vec![Local::default()]
}
