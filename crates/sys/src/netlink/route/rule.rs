//! Rules: which routing table a packet is looked up in.

use ipnet::IpNet;

use super::super::Result;
use super::super::message::{Attributes, Malformed, MessageBuilder, NLM_F_CREATE, NLM_F_EXCL, u32_at};
use super::{AF_INET, AF_INET6, Rtnetlink};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const HEADER_LEN: usize = 12;

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;

/// A rule that leads to a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    /// A rule for IPv6, else for IPv4.
    pub v6: bool,
    /// Destination.
    pub to: Option<IpNet>,
    /// Source.
    pub from: Option<IpNet>,
    /// Packet mark and mask.
    pub mark: Option<(u32, u32)>,
    /// It holds for packets that do not fit it.
    pub invert: bool,
    /// Routes of the table with a prefix of at most this length do not count.
    pub suppress_prefix_length: Option<u32>,
    /// Priority; smaller ones come first.
    pub priority: Option<u32>,
    /// The table.
    pub table: u32,
}

impl Rtnetlink {
    /// Adds a rule.
    ///
    /// # Errors
    /// `EEXIST` where there is the same one.
    pub fn rule_add(&self, rule: &Rule) -> Result<()> {
        let request = request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
        self.socket.request(request).map_err(|e| e.during(format!("add rule for table {}", rule.table)))?;
        Ok(())
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// `ENOENT` where there is none.
    pub fn rule_del(&self, rule: &Rule) -> Result<()> {
        let request = request(RTM_DELRULE, 0, rule);
        self.socket
            .request(request)
            .map_err(|e| e.during(format!("delete rule for table {}", rule.table)))?;
        Ok(())
    }

    /// Reads all rules, both families.
    ///
    /// # Errors
    /// What the system says.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut header = [0; HEADER_LEN];
            header[0] = family;
            let replies = match self.socket.dump(MessageBuilder::new(RTM_GETRULE, 0).header(&header)) {
                Ok(replies) => replies,
                Err(error) if error.errno() == libc::EAFNOSUPPORT => continue,
                Err(error) => return Err(error.during("read all rules")),
            };
            for reply in &replies {
                let (header, attributes) = reply.after_header(HEADER_LEN)?;
                rules.push(parse(header, attributes)?);
            }
        }
        Ok(rules)
    }
}

fn request(kind: u16, flags: u16, rule: &Rule) -> MessageBuilder {
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    // family │ destination length │ source length │ TOS │ table │ 0 │ 0 │ action │ flags 4
    let mut header = [
        if rule.v6 { AF_INET6 } else { AF_INET },
        length(rule.to),
        length(rule.from),
        0,
        u8::try_from(rule.table).unwrap_or(0),
        0,
        0,
        FR_ACT_TO_TBL,
        0,
        0,
        0,
        0,
    ];
    if rule.invert {
        header[8..].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
    }
    MessageBuilder::new(kind, flags).header(&header).with(|a| {
        if let Some(to) = rule.to {
            a.ip(FRA_DST, to.network());
        }
        if let Some(from) = rule.from {
            a.ip(FRA_SRC, from.network());
        }
        if let Some((mark, mask)) = rule.mark {
            a.u32(FRA_FWMARK, mark).u32(FRA_FWMASK, mask);
        }
        if let Some(length) = rule.suppress_prefix_length {
            a.u32(FRA_SUPPRESS_PREFIXLEN, length);
        }
        if let Some(priority) = rule.priority {
            a.u32(FRA_PRIORITY, priority);
        }
        a.u32(FRA_TABLE, rule.table);
    })
}

fn parse(header: &[u8], attributes: Attributes<'_>) -> std::result::Result<Rule, Malformed> {
    let &[family, to_length, from_length, _, table, ..] = header else {
        return Err(Malformed("rule header is cut"));
    };
    let mut rule = Rule {
        v6: family == AF_INET6,
        table: table.into(),
        invert: u32_at(header, 8) & FIB_RULE_INVERT != 0,
        ..Rule::default()
    };
    let net = |address, length| IpNet::new(address, length).map_err(|_| Malformed("prefix length"));
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            FRA_DST => rule.to = Some(net(attribute.ip()?, to_length)?),
            FRA_SRC => rule.from = Some(net(attribute.ip()?, from_length)?),
            FRA_PRIORITY => rule.priority = Some(attribute.u32()?),
            FRA_FWMARK => mark = Some(attribute.u32()?),
            FRA_FWMASK => mask = attribute.u32()?,
            FRA_TABLE => rule.table = attribute.u32()?,
            // the kernel tells "none" as all ones
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefix_length = Some(attribute.u32()?).filter(|&length| length != u32::MAX);
            }
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    Ok(rule)
}
