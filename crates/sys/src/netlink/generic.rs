//! Generic netlink: finding a family by name.
//!
//! ```text
//!  nlmsghdr(type = family id) │ command 1 │ version 1 │ reserved 2 │ attributes …
//! ```

use std::collections::HashMap;

use super::message::{Attribute, Malformed, MessageBuilder};
use super::socket::{Protocol, Socket, Subscription};
use super::{Error, Result};

/// Length of the generic header, bytes.
pub const GENERIC_HEADER_LEN: usize = 4;

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_CMD_GETPOLICY: u8 = 10;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_VERSION: u16 = 3;
const CTRL_ATTR_OPS: u16 = 6;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_POLICY: u16 = 8;
const CTRL_ATTR_OP_ID: u16 = 1;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// A family that the kernel has (looking it up loads its module, where it is allowed to).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Message type of its requests.
    pub id: u16,
    /// Its version.
    pub version: u8,
    /// Numbers of its operations (requests, not notifications).
    pub operations: Vec<u8>,
    /// Its multicast groups by name.
    pub groups: HashMap<String, u32>,
}

/// A generic netlink header.
pub const fn header(command: u8, version: u8) -> [u8; GENERIC_HEADER_LEN] {
    [command, version, 0, 0]
}

impl Family {
    /// Looks a family up; `None` where the kernel has none of that name.
    ///
    /// # Errors
    /// What the system says otherwise.
    pub fn lookup(socket: &Socket, name: &str) -> Result<Option<Self>> {
        let request = MessageBuilder::new(GENL_ID_CTRL, 0).header(&header(CTRL_CMD_GETFAMILY, 1)).with(|a| {
            a.string(CTRL_ATTR_FAMILY_NAME, name);
        });
        let replies = match socket.request(request) {
            Ok(replies) => replies,
            Err(error) if error.errno() == libc::ENOENT => return Ok(None),
            Err(error) => return Err(error.during(format!("look up generic netlink family {name}"))),
        };
        let Some(reply) = replies.first() else { return Ok(None) };
        Ok(Some(Self::parse(reply.after_header(GENERIC_HEADER_LEN)?.1)?))
    }

    fn parse<'a>(
        attributes: impl Iterator<Item = std::result::Result<Attribute<'a>, Malformed>>,
    ) -> std::result::Result<Self, Malformed> {
        let mut family = Self { id: 0, version: 0, operations: Vec::new(), groups: HashMap::new() };
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                CTRL_ATTR_FAMILY_ID => family.id = attribute.u16()?,
                CTRL_ATTR_VERSION => family.version = u8::try_from(attribute.u32()?).unwrap_or(u8::MAX),
                CTRL_ATTR_OPS => {
                    for operation in attribute.attributes() {
                        for field in operation?.attributes() {
                            let field = field?;
                            if field.kind == CTRL_ATTR_OP_ID {
                                family.operations.extend(u8::try_from(field.u32()?));
                            }
                        }
                    }
                }
                CTRL_ATTR_MCAST_GROUPS => {
                    for group in attribute.attributes() {
                        let (mut name, mut id) = (None, None);
                        for field in group?.attributes() {
                            let field = field?;
                            match field.kind {
                                CTRL_ATTR_MCAST_GRP_NAME => name = Some(field.string()?.to_owned()),
                                CTRL_ATTR_MCAST_GRP_ID => id = Some(field.u32()?),
                                _ => {}
                            }
                        }
                        family.groups.extend(name.zip(id));
                    }
                }
                _ => {}
            }
        }
        if family.id == 0 { Err(Malformed("a family without id")) } else { Ok(family) }
    }

    /// The largest attribute number that some policy of the family knows (its newest attribute). The nests of one
    /// family share the numbering of policies, so this tells features apart only by number.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the kernel does not tell policies (before 5.10), and what the system says otherwise.
    pub fn largest_attribute(&self, socket: &Socket) -> Result<u16> {
        let request = MessageBuilder::new(GENL_ID_CTRL, 0).header(&header(CTRL_CMD_GETPOLICY, 1)).with(|a| {
            a.u16(CTRL_ATTR_FAMILY_ID, self.id);
        });
        let mut largest = 0;
        for reply in socket.dump(request)? {
            for attribute in reply.after_header(GENERIC_HEADER_LEN)?.1 {
                let attribute = attribute?;
                if attribute.kind != CTRL_ATTR_POLICY {
                    continue;
                }
                // policy number, then attribute number, then its type and limits
                for policy in attribute.attributes() {
                    for entry in policy?.attributes() {
                        largest = largest.max(entry?.kind);
                    }
                }
            }
        }
        Ok(largest)
    }

    /// Begins a request of this family.
    pub fn request(&self, command: u8) -> MessageBuilder {
        MessageBuilder::new(self.id, 0).header(&header(command, self.version))
    }

    /// Subscribes to one of its multicast groups.
    ///
    /// # Errors
    /// `ENOENT` where it has no such group.
    pub fn subscribe(&self, group: &str) -> Result<Subscription> {
        let number = self
            .groups
            .get(group)
            .ok_or_else(|| Error::new(libc::ENOENT, format!("the family has no group {group}")))?;
        Subscription::open(Protocol::Generic, &[*number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_controller_itself_and_nothing_else() {
        let socket = Socket::open(Protocol::Generic).unwrap();
        let family = Family::lookup(&socket, "nlctrl").unwrap().unwrap();
        assert_eq!(family.id, GENL_ID_CTRL);
        assert!(family.operations.contains(&CTRL_CMD_GETFAMILY));
        assert!(family.groups.contains_key("notify"));
        family.subscribe("notify").unwrap();
        assert_eq!(family.subscribe("nothing").unwrap_err().errno(), libc::ENOENT);
        assert!(family.largest_attribute(&socket).unwrap() >= CTRL_ATTR_FAMILY_NAME);
        assert_eq!(Family::lookup(&socket, "no-such-family").unwrap(), None);
    }
}
