//! Reads the arguments of one option; a bad value is reported with its place.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::diagnostic::{Class, Diagnostic};
use crate::lexer;
use crate::model::{Command, Material};
use crate::source::Span;
use crate::statement::{Arg, Statement};
use crate::table::OptionSpec;

/// A value was wrong and has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad;

/// One option with its arguments and a place for complaints.
pub(super) struct Opt<'a> {
    statement: &'a Statement,
    out: &'a mut Vec<Diagnostic>,
}

impl<'a> Opt<'a> {
    pub(super) fn new(statement: &'a Statement, out: &'a mut Vec<Diagnostic>) -> Self {
        Self { statement, out }
    }

    pub(super) fn name(&self) -> &'static str {
        self.statement.spec.name
    }

    pub(super) fn spec(&self) -> &'static OptionSpec {
        self.statement.spec
    }

    pub(super) fn span(&self) -> Span {
        self.statement.span
    }

    pub(super) fn args(&self) -> &'a [Arg] {
        &self.statement.args
    }

    pub(super) fn count(&self) -> usize {
        self.statement.args.len()
    }

    /// Everything after the name, as one text.
    pub(super) fn written(&self) -> String {
        self.statement.args.iter().map(|a| a.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn get(&self, at: usize) -> Option<&'a str> {
        self.statement.args.get(at).map(|a| a.text.as_str())
    }

    pub(super) fn is(&self, at: usize, word: &str) -> bool {
        self.get(at) == Some(word)
    }

    fn arg(&self, at: usize) -> Span {
        self.statement.args.get(at).map_or(self.statement.span, |a| a.span)
    }

    /// Says something about the option.
    pub(super) fn say(&mut self, class: Class, message: impl Into<String>, help: impl Into<String>) {
        self.out.push(Diagnostic::new(class, self.name(), Some(self.span()), message).help(help));
    }

    /// Reports an argument.
    pub(super) fn bad(&mut self, at: usize, message: impl Into<String>, help: impl Into<String>) -> Bad {
        let span = self.arg(at);
        self.out.push(Diagnostic::new(Class::Error, self.name(), Some(span), message).help(help));
        Bad
    }

    fn wrong(&mut self, at: usize, what: &str) -> Bad {
        let shown = self.get(at).map_or_else(|| "nothing".to_owned(), |t| format!("\"{}\"", short(t)));
        let help = format!("write `{}`", self.spec().synopsis());
        let name = self.name();
        self.bad(at, format!("`{name}` wants {what} here, not {shown}"), help)
    }

    pub(super) fn text(&mut self, at: usize) -> Result<String, Bad> {
        match self.get(at) {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.wrong(at, "a word")),
        }
    }

    pub(super) fn number<T>(&mut self, at: usize, range: RangeInclusive<T>) -> Result<T, Bad>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        match self.get(at).and_then(|t| t.parse::<T>().ok()).filter(|n| range.contains(n)) {
            Some(n) => Ok(n),
            None => Err(self.wrong(at, &format!("a number from {} to {}", range.start(), range.end()))),
        }
    }

    /// Whole seconds, at least `least`.
    pub(super) fn seconds(&mut self, at: usize, least: u64) -> Result<Duration, Bad> {
        self.number(at, least..=u64::from(u32::MAX)).map(Duration::from_secs)
    }

    /// Whole seconds; zero means off.
    pub(super) fn timer(&mut self, at: usize) -> Result<Option<Duration>, Bad> {
        Ok(Some(self.seconds(at, 0)?).filter(|d| !d.is_zero()))
    }

    pub(super) fn port(&mut self, at: usize) -> Result<u16, Bad> {
        match self.get(at) {
            Some("openvpn") => Ok(1194),
            Some("https") => Ok(443),
            Some("http") => Ok(80),
            Some("domain") => Ok(53),
            _ => self.number(at, 0..=u16::MAX),
        }
    }

    pub(super) fn word<T: Copy>(&mut self, at: usize, words: &[(&str, T)]) -> Result<T, Bad> {
        let got = self.get(at);
        if let Some((_, value)) = words.iter().find(|(w, _)| got == Some(*w)) {
            return Ok(*value);
        }
        let list: Vec<String> = words.iter().map(|(w, _)| format!("`{w}`")).collect();
        Err(self.wrong(at, &format!("one of {}", list.join(", "))))
    }

    pub(super) fn ipv4(&mut self, at: usize) -> Result<Ipv4Addr, Bad> {
        self.get(at).and_then(|t| t.parse().ok()).ok_or(Bad).map_err(|_| self.wrong(at, "an IPv4 address"))
    }

    pub(super) fn ipv6(&mut self, at: usize) -> Result<Ipv6Addr, Bad> {
        self.get(at).and_then(|t| t.parse().ok()).ok_or(Bad).map_err(|_| self.wrong(at, "an IPv6 address"))
    }

    /// A netmask, as prefix length.
    pub(super) fn mask(&mut self, at: usize) -> Result<u8, Bad> {
        let mask = self.get(at).and_then(|t| t.parse::<Ipv4Addr>().ok());
        mask.and_then(|m| ipnet::ipv4_mask_to_prefix(m).ok())
            .ok_or(Bad)
            .map_err(|_| self.wrong(at, "a netmask such as 255.255.255.0"))
    }

    /// Network and mask that fit each other.
    pub(super) fn network(&mut self, at: usize) -> Result<Ipv4Net, Bad> {
        let address = self.ipv4(at)?;
        let prefix = self.mask(at + 1)?;
        let net = Ipv4Net::new(address, prefix).map_err(|_| Bad)?;
        if net.network() != address {
            let name = self.name();
            let message = format!("`{name}`: {address} is no network of this mask");
            return Err(self.bad(at, message, format!("write {} {}", net.network(), net.netmask())));
        }
        Ok(net)
    }

    /// `ADDR/BITS`; a bare address counts as a host.
    pub(super) fn net6(&mut self, at: usize) -> Result<Ipv6Net, Bad> {
        let text = self.get(at).unwrap_or_default();
        let net = match text.split_once('/') {
            Some((address, bits)) => {
                address.parse().ok().and_then(|a| Ipv6Net::new(a, bits.parse().ok()?).ok())
            }
            None => text.parse::<Ipv6Addr>().ok().map(Ipv6Net::from),
        };
        net.ok_or(Bad).map_err(|_| self.wrong(at, "an IPv6 network such as fd00::/64"))
    }

    /// The file or inline block at argument 0; `None` for the old word `[inline]`, whose block follows.
    pub(super) fn material(&mut self, at: usize) -> Result<Option<Material>, Bad> {
        match self.args().get(at) {
            Some(arg) if arg.inline => Ok(Some(Material::Inline(arg.text.clone()))),
            Some(arg) if arg.text == "[inline]" || arg.text == "[[INLINE]]" => Ok(None),
            Some(arg) if arg.text.is_empty() => Err(self.wrong(at, "the name of a file")),
            Some(arg) => Ok(Some(Material::Path(arg.text.clone()))),
            None => Err(self.wrong(at, "the name of a file")),
        }
    }

    /// A command line: split by the language's own rules.
    pub(super) fn command(&mut self, at: usize) -> Result<Option<Command>, Bad> {
        let text = self.text(at)?;
        match lexer::tokens(&text) {
            Ok(tokens) if tokens.is_empty() => Ok(None),
            Ok(tokens) => {
                let argv = tokens.into_iter().map(|t| t.text).collect();
                Ok(Some(Command { argv, span: self.span() }))
            }
            Err(error) => {
                let message = format!("the command of `{}` cannot be split: {error}", self.name());
                Err(self.bad(at, message, "quote each word of it that has blanks"))
            }
        }
    }

    pub(super) fn address(&mut self, at: usize) -> Result<IpAddr, Bad> {
        self.get(at).and_then(|t| t.parse().ok()).ok_or(Bad).map_err(|_| self.wrong(at, "an address"))
    }
}

/// A text cut to what fits into a sentence.
pub(super) fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 60 {
        line.to_owned()
    } else {
        line.chars().take(57).chain("...".chars()).collect()
    }
}
