//! What the interface remembers for programs that connect later: states, log lines, echoes.

use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The states of a tunnel, by the names that programs know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelState {
    Connecting,
    Resolve,
    TcpConnect,
    Wait,
    Auth,
    AuthPending,
    GetConfig,
    AssignIp,
    AddRoutes,
    Connected,
    Reconnecting,
    Exiting,
}

impl TunnelState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "CONNECTING",
            Self::Resolve => "RESOLVE",
            Self::TcpConnect => "TCP_CONNECT",
            Self::Wait => "WAIT",
            Self::Auth => "AUTH",
            Self::AuthPending => "AUTH_PENDING",
            Self::GetConfig => "GET_CONFIG",
            Self::AssignIp => "ASSIGN_IP",
            Self::AddRoutes => "ADD_ROUTES",
            Self::Connected => "CONNECTED",
            Self::Reconnecting => "RECONNECTING",
            Self::Exiting => "EXITING",
        }
    }
}

/// One line of the state history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// Unix time, seconds.
    pub(crate) time: u64,
    pub(crate) state: TunnelState,
    /// `SUCCESS`, the signal that ended a connection, `timeout N`; often empty.
    pub(crate) detail: String,
    pub(crate) tunnel_v4: Option<Ipv4Addr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) tunnel_v6: Option<Ipv6Addr>,
}

impl fmt::Display for Tunnel {
    /// `time,NAME,detail,tunnel v4,remote address,remote port,local address,local port[,tunnel v6]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},", self.time, self.state.name(), self.detail)?;
        if let Some(address) = self.tunnel_v4 {
            write!(f, "{address}")?;
        }
        for end in [self.remote, self.local] {
            match end {
                Some(end) => write!(f, ",{},{}", end.ip(), end.port())?,
                None => f.write_str(",,")?,
            }
        }
        match self.tunnel_v6 {
            Some(address) => write!(f, ",{address}"),
            None => Ok(()),
        }
    }
}

/// How serious a log line is, as one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFlag {
    Informational,
    Fatal,
    Nonfatal,
    Warning,
    Debug,
}

impl LogFlag {
    pub(crate) const fn letter(self) -> char {
        match self {
            Self::Informational => 'I',
            Self::Fatal => 'F',
            Self::Nonfatal => 'N',
            Self::Warning => 'W',
            Self::Debug => 'D',
        }
    }
}

/// The last lines of one kind; older ones fall out.
#[derive(Debug)]
pub(crate) struct History {
    lines: VecDeque<String>,
    capacity: usize,
}

impl History {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { lines: VecDeque::new(), capacity }
    }

    pub(crate) fn push(&mut self, line: String) {
        if self.lines.len() == self.capacity {
            self.lines.pop_front();
        }
        if self.capacity > 0 {
            self.lines.push_back(line);
        }
    }

    /// The newest `n` lines, oldest of them first.
    pub(crate) fn last(&self, n: usize) -> impl Iterator<Item = &str> {
        self.lines.iter().skip(self.lines.len().saturating_sub(n)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(state: TunnelState) -> Tunnel {
        Tunnel {
            time: 1_795_307_097,
            state,
            detail: String::new(),
            tunnel_v4: None,
            remote: None,
            local: None,
            tunnel_v6: None,
        }
    }

    // Lines printed by OpenVPN 2.6.14.
    #[test]
    fn states_print_as_stock_prints_them() {
        assert_eq!(tunnel(TunnelState::Connecting).to_string(), "1795307097,CONNECTING,,,,,,");
        let pending = Tunnel { detail: "timeout 45".into(), ..tunnel(TunnelState::AuthPending) };
        assert_eq!(pending.to_string(), "1795307097,AUTH_PENDING,timeout 45,,,,,");
        let assign = Tunnel {
            tunnel_v4: Some([10, 77, 0, 2].into()),
            tunnel_v6: "fd77::1000".parse().ok(),
            ..tunnel(TunnelState::AssignIp)
        };
        assert_eq!(assign.to_string(), "1795307097,ASSIGN_IP,,10.77.0.2,,,,,fd77::1000");
        let connected = Tunnel {
            detail: "SUCCESS".into(),
            remote: "192.0.2.1:1194".parse().ok(),
            state: TunnelState::Connected,
            ..assign
        };
        assert_eq!(
            connected.to_string(),
            "1795307097,CONNECTED,SUCCESS,10.77.0.2,192.0.2.1,1194,,,fd77::1000"
        );
        let server = Tunnel {
            detail: "SUCCESS".into(),
            tunnel_v4: Some([10, 77, 0, 1].into()),
            local: "192.0.2.1:1194".parse().ok(),
            tunnel_v6: "fd77::1".parse().ok(),
            ..tunnel(TunnelState::Connected)
        };
        assert_eq!(server.to_string(), "1795307097,CONNECTED,SUCCESS,10.77.0.1,,,192.0.2.1,1194,fd77::1");
    }

    #[test]
    fn history_keeps_the_newest() {
        let mut history = History::new(3);
        for n in 0..5 {
            history.push(n.to_string());
        }
        assert_eq!(history.last(2).collect::<Vec<_>>(), ["3", "4"]);
        assert_eq!(history.last(9).collect::<Vec<_>>(), ["2", "3", "4"]);
    }
}
