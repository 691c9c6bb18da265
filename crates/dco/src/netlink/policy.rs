//! Strict reading of attributes: what the kernel's netlink policies refuse is refused here, with its errno.
//!
//! | fault | errno |
//! |---|---|
//! | an attribute that the operation does not take, bytes left over | EINVAL |
//! | an integer of the wrong size, a nest without its flag (or the flag without nest) | EINVAL |
//! | an integer out of range; bytes too long, or not of their one length | ERANGE |

use ovpn_sys::netlink::message::{Attribute, Attributes, Malformed};

use crate::{Error, ErrorKind, Result};

/// What an attribute must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// `u32`, at most this.
    U32(u32),
    /// `u64`.
    U64,
    /// Network-order `u16`, not 0.
    Port,
    /// Four bytes, in the kernel a network-order `u32`.
    Ipv4,
    /// Bytes of exactly this number.
    Exact(usize),
    /// At most this many bytes.
    AtMost(usize),
    /// Attributes by another table.
    Nest(Table),
}

/// The attributes that a place takes.
pub(crate) type Table = &'static [(u16, Rule)];

/// Attributes that have passed their table.
#[derive(Debug, Clone)]
pub(crate) struct Checked<'a> {
    attributes: Vec<Attribute<'a>>,
}

/// Checks attributes and everything nested in them.
pub(crate) fn check<'a>(attributes: Attributes<'a>, table: Table) -> Result<Checked<'a>> {
    let mut checked = Checked { attributes: Vec::new() };
    for attribute in attributes {
        let attribute = attribute?;
        let kind = attribute.kind;
        let Some((_, rule)) = table.iter().find(|(number, _)| *number == kind) else {
            return Err(invalid(format!("attribute {kind} is not taken here")));
        };
        if attribute.nested != matches!(rule, Rule::Nest(_)) {
            return Err(invalid(format!("attribute {kind}: nesting flag is wrong")));
        }
        let length = attribute.payload.len();
        match *rule {
            Rule::U32(most) => {
                sized(&attribute, 4)?;
                let value = attribute.u32()?;
                if value > most {
                    return Err(range(format!("attribute {kind}: {value} is more than {most}")));
                }
            }
            Rule::U64 => sized(&attribute, 8)?,
            Rule::Ipv4 => sized(&attribute, 4)?,
            Rule::Port => {
                sized(&attribute, 2)?;
                if attribute.be16()? == 0 {
                    return Err(range(format!("attribute {kind}: port 0")));
                }
            }
            Rule::Exact(exact) if length != exact => {
                return Err(range(format!("attribute {kind}: {length} bytes instead of {exact}")));
            }
            Rule::AtMost(most) if length > most => {
                return Err(range(format!("attribute {kind}: more than {most} bytes")));
            }
            Rule::Exact(_) | Rule::AtMost(_) => {}
            Rule::Nest(inner) => {
                check(attribute.attributes(), inner)?;
            }
        }
        // of an attribute that comes twice the last one counts
        checked.attributes.retain(|other| other.kind != kind);
        checked.attributes.push(attribute);
    }
    Ok(checked)
}

impl<'a> Checked<'a> {
    pub(crate) fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.kind == kind).copied()
    }

    pub(crate) fn has(&self, kind: u16) -> bool {
        self.find(kind).is_some()
    }

    pub(crate) fn u32(&self, kind: u16) -> Result<Option<u32>> {
        Ok(self.find(kind).map(|attribute| attribute.u32()).transpose()?)
    }

    /// A nest's content, which was checked before.
    pub(crate) fn nest(&self, kind: u16) -> Result<Option<Self>> {
        let Some(nest) = self.find(kind) else { return Ok(None) };
        let attributes = nest.attributes().collect::<std::result::Result<Vec<_>, _>>()?;
        // the last one of each kind counts
        let mut checked = Checked { attributes: Vec::new() };
        for attribute in attributes {
            checked.attributes.retain(|other| other.kind != attribute.kind);
            checked.attributes.push(attribute);
        }
        Ok(Some(checked))
    }
}

pub(crate) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, detail)
}

pub(crate) fn missing(what: &str) -> Error {
    invalid(format!("attribute {what} is missing"))
}

fn range(detail: String) -> Error {
    Error::new(ErrorKind::OutOfRange, detail)
}

fn sized(attribute: &Attribute<'_>, length: usize) -> Result<()> {
    if attribute.payload.len() == length {
        return Ok(());
    }
    Err(invalid(format!(
        "attribute {}: {} bytes instead of {length}",
        attribute.kind,
        attribute.payload.len()
    )))
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        invalid(malformed.to_string())
    }
}
