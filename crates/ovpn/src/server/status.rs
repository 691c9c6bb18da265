//! The status file, versions 1 to 3, as monitoring tools parse it.
//!
//! Version 1 is for people, 2 has a header for each table, 3 is 2 with tabs. Names that contain the separator get `_`
//! for it, so that columns stay where they are. Source: OpenVPN server behaviour, "Status output".

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::routing_table;

/// `status-version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusVersion {
    /// For people.
    V1,
    /// Commas.
    V2,
    /// Tabs.
    V3,
}

impl StatusVersion {
    /// The version with this number.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }
}

/// One client.
#[derive(Debug, Clone)]
pub(crate) struct ClientRow {
    /// `None` until it is authenticated.
    pub(crate) common_name: Option<String>,
    /// Where it connects from.
    pub(crate) real: SocketAddr,
    /// Its tunnel address.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Its tunnel address.
    pub(crate) v6: Option<Ipv6Addr>,
    /// From the client, all layers below ours left out.
    pub(crate) bytes_received: u64,
    /// To the client.
    pub(crate) bytes_sent: u64,
    /// Since when, in unix seconds.
    pub(crate) since: i64,
    /// What it logged in as.
    pub(crate) username: Option<String>,
    /// Its number since the server's start.
    pub(crate) client_id: u64,
    /// Its peer id.
    pub(crate) peer_id: u32,
    /// The data cipher, once negotiated.
    pub(crate) cipher: Option<String>,
}

/// One virtual address or network.
#[derive(Debug, Clone)]
pub(crate) struct RouteRow {
    /// The network; hosts are shown bare.
    pub(crate) net: IpNet,
    /// Its client.
    pub(crate) common_name: String,
    /// Where that client connects from.
    pub(crate) real: SocketAddr,
    /// When it was used last, in unix seconds.
    pub(crate) last_ref: i64,
}

/// All that a status shows.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// The program.
    pub(crate) title: String,
    /// When, in unix seconds.
    pub(crate) now: i64,
    /// Every client.
    pub(crate) clients: Vec<ClientRow>,
    /// Every virtual address.
    pub(crate) routes: Vec<RouteRow>,
    /// Whether the kernel moves the packets.
    pub(crate) dco_enabled: bool,
}

const CLIENT_COLUMNS: &str = "Common Name,Real Address,Virtual Address,Virtual IPv6 Address,Bytes Received,Bytes Sent,\
     Connected Since,Connected Since (time_t),Username,Client ID,Peer ID,Data Channel Cipher";
const ROUTE_COLUMNS: &str = "Virtual Address,Common Name,Real Address,Last Ref,Last Ref (time_t)";
/// Broadcasts are never queued here.
const QUEUE: &str = "Max bcast/mcast queue length,0";

impl Status {
    /// The text. `local` writes unix seconds as `YYYY-MM-DD HH:MM:SS`.
    pub(crate) fn render(&self, version: StatusVersion, local: impl Fn(i64) -> String) -> String {
        match version {
            StatusVersion::V1 => self.for_people(local),
            StatusVersion::V2 => self.for_programs(',', local),
            StatusVersion::V3 => self.for_programs('\t', local),
        }
    }

    fn for_people(&self, local: impl Fn(i64) -> String) -> String {
        let mut table = Table { text: String::new(), separator: ',' };
        table.line("OpenVPN CLIENT LIST");
        table.row(&["Updated", &local(self.now)]);
        table.line("Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since");
        for client in &self.clients {
            table.row(&[
                or_undefined(&client.common_name),
                &real(client.real),
                &client.bytes_received.to_string(),
                &client.bytes_sent.to_string(),
                &local(client.since),
            ]);
        }
        table.line("ROUTING TABLE");
        table.line("Virtual Address,Common Name,Real Address,Last Ref");
        for route in &self.routes {
            let net = routing_table::show(route.net);
            table.row(&[&net, &route.common_name, &real(route.real), &local(route.last_ref)]);
        }
        table.line("GLOBAL STATS");
        table.line(QUEUE);
        table.line("END");
        table.text
    }

    fn for_programs(&self, separator: char, local: impl Fn(i64) -> String) -> String {
        let mut table = Table { text: String::new(), separator };
        // The title is no name: it may be told as it is.
        table.line(&format!("TITLE{separator}{}", self.title));
        table.row(&["TIME", &local(self.now), &self.now.to_string()]);
        table.line(&format!("HEADER,CLIENT_LIST,{CLIENT_COLUMNS}").replace(',', &separator.to_string()));
        for client in &self.clients {
            table.row(&[
                "CLIENT_LIST",
                or_undefined(&client.common_name),
                &real(client.real),
                &client.v4.map(|v4| v4.to_string()).unwrap_or_default(),
                &client.v6.map(|v6| v6.to_string()).unwrap_or_default(),
                &client.bytes_received.to_string(),
                &client.bytes_sent.to_string(),
                &local(client.since),
                &client.since.to_string(),
                or_undefined(&client.username),
                &client.client_id.to_string(),
                &client.peer_id.to_string(),
                client.cipher.as_deref().unwrap_or_default(),
            ]);
        }
        table.line(&format!("HEADER,ROUTING_TABLE,{ROUTE_COLUMNS}").replace(',', &separator.to_string()));
        for route in &self.routes {
            table.row(&[
                "ROUTING_TABLE",
                &routing_table::show(route.net),
                &route.common_name,
                &real(route.real),
                &local(route.last_ref),
                &route.last_ref.to_string(),
            ]);
        }
        table.line(&format!("GLOBAL_STATS,{QUEUE}").replace(',', &separator.to_string()));
        table.row(&["GLOBAL_STATS", "dco_enabled", if self.dco_enabled { "1" } else { "0" }]);
        table.line("END");
        table.text
    }
}

struct Table {
    text: String,
    separator: char,
}

impl Table {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn row(&mut self, fields: &[&str]) {
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.text.push(self.separator);
            }
            self.text
                .extend(field.chars().map(|c| if c == self.separator || c.is_control() { '_' } else { c }));
        }
        self.text.push('\n');
    }
}

fn or_undefined(name: &Option<String>) -> &str {
    name.as_deref().filter(|name| !name.is_empty()).unwrap_or("UNDEF")
}

/// `ip:port`, an IPv4-mapped address as the IPv4 address that it is.
fn real(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        let real: SocketAddr = "[::ffff:192.0.2.2]:59167".parse().unwrap();
        let client = ClientRow {
            common_name: Some("al ice".to_owned()),
            real,
            v4: Some("10.77.0.2".parse().unwrap()),
            v6: Some("fd77::1000".parse().unwrap()),
            bytes_received: 1595,
            bytes_sent: 2640,
            since: 1795307100,
            username: Some("al ice".to_owned()),
            client_id: 0,
            peer_id: 0,
            cipher: Some("AES-256-GCM".to_owned()),
        };
        let newcomer = ClientRow {
            common_name: None,
            real: "[2001:db8::1]:5".parse().unwrap(),
            v4: None,
            v6: None,
            username: None,
            client_id: 1,
            peer_id: 1,
            cipher: None,
            ..client.clone()
        };
        let route = |net: &str| RouteRow {
            net: net.parse().unwrap(),
            common_name: "al ice".to_owned(),
            real,
            last_ref: 1795307101,
        };
        Status {
            title: "OpenVPN, compatible".to_owned(),
            now: 1795307103,
            clients: vec![client, newcomer],
            routes: vec![route("10.77.0.2/32"), route("10.1.0.0/16"), route("fd77::1000/128")],
            dco_enabled: false,
        }
    }

    /// Local time of the recorded sample.
    fn local(time: i64) -> String {
        format!("2026-11-22 00:25:{:02}", time - 1795307100)
    }

    #[test]
    fn version_1() {
        let expected = "OpenVPN CLIENT LIST
Updated,2026-11-22 00:25:03
Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since
al ice,192.0.2.2:59167,1595,2640,2026-11-22 00:25:00
UNDEF,[2001:db8::1]:5,1595,2640,2026-11-22 00:25:00
ROUTING TABLE
Virtual Address,Common Name,Real Address,Last Ref
10.77.0.2,al ice,192.0.2.2:59167,2026-11-22 00:25:01
10.1.0.0/16,al ice,192.0.2.2:59167,2026-11-22 00:25:01
fd77::1000,al ice,192.0.2.2:59167,2026-11-22 00:25:01
GLOBAL STATS
Max bcast/mcast queue length,0
END
";
        assert_eq!(sample().render(StatusVersion::V1, local), expected);
    }

    #[test]
    fn versions_2_and_3() {
        let expected = "TITLE,OpenVPN, compatible
TIME,2026-11-22 00:25:03,1795307103
HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,Bytes Received,Bytes Sent,\
Connected Since,Connected Since (time_t),Username,Client ID,Peer ID,Data Channel Cipher
CLIENT_LIST,al ice,192.0.2.2:59167,10.77.0.2,fd77::1000,1595,2640,2026-11-22 00:25:00,1795307100,al ice,0,0,AES-256-GCM
CLIENT_LIST,UNDEF,[2001:db8::1]:5,,,1595,2640,2026-11-22 00:25:00,1795307100,UNDEF,1,1,
HEADER,ROUTING_TABLE,Virtual Address,Common Name,Real Address,Last Ref,Last Ref (time_t)
ROUTING_TABLE,10.77.0.2,al ice,192.0.2.2:59167,2026-11-22 00:25:01,1795307101
ROUTING_TABLE,10.1.0.0/16,al ice,192.0.2.2:59167,2026-11-22 00:25:01,1795307101
ROUTING_TABLE,fd77::1000,al ice,192.0.2.2:59167,2026-11-22 00:25:01,1795307101
GLOBAL_STATS,Max bcast/mcast queue length,0
GLOBAL_STATS,dco_enabled,0
END
";
        assert_eq!(sample().render(StatusVersion::V2, local), expected);
        let tabs = expected.replace(',', "\t").replace("OpenVPN\t compatible", "OpenVPN, compatible");
        assert_eq!(sample().render(StatusVersion::V3, local), tabs);
    }

    #[test]
    fn names_cannot_shift_columns() {
        let mut status = sample();
        status.clients[0].common_name = Some("a,b\nEND".to_owned());
        let text = status.render(StatusVersion::V2, local);
        assert!(text.contains("CLIENT_LIST,a_b_END,192.0.2.2:59167,"), "{text}");
    }
}
