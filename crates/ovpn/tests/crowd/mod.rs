//! Many clients in one process: control channels alone, each on a socket of its own, a thread a core.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_control::{
    ClientParams, Credentials, Event, Link, Now, Session, SessionParams, SystemRandom, TlsClient, Wrapping,
};
use ovpn_sys::poll::{Interest, Poller};

/// How often clocks are looked at; retransmissions are that late at most.
const TICK: Duration = Duration::from_millis(20);

/// Who connects, and where to.
pub(crate) struct Crowd<'a> {
    pub(crate) params: Arc<ClientParams>,
    pub(crate) server: SocketAddr,
    pub(crate) count: usize,
    pub(crate) credentials: &'a (dyn Fn(usize) -> Option<Credentials> + Sync),
}

/// What each of them goes by. `limit`: how long a handshake may take.
pub(crate) fn params(tls: TlsClient, wrapping: Wrapping, limit: Duration) -> Arc<ClientParams> {
    let mut session = SessionParams::new(Link::UdpV4, wrapping);
    session.timing.hand_window = limit;
    Arc::new(ClientParams {
        session,
        tls,
        version: "2.7.0".into(),
        peer_info: Vec::new(),
        tun_mtu_max: 1600,
        pull_filters: Vec::new(),
    })
}

struct Client {
    socket: UdpSocket,
    session: Session,
    up: Option<Duration>,
}

impl Crowd<'_> {
    /// Connects all of them at once, in the namespace of the caller, and tells `came_up` of each that is up. How long
    /// each took.
    ///
    /// # Panics
    /// When one fails, or is not up after `limit`.
    pub(crate) fn connect(&self, limit: Duration, came_up: &(dyn Fn(usize) + Sync)) -> Vec<Duration> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, self.count);
        let part = self.count.div_ceil(threads);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let of = |thread: usize| thread * part..((thread + 1) * part).min(self.count);
            let parts: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || self.connect_part(of(thread), start, limit, came_up)))
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        })
    }

    fn connect_part(
        &self,
        numbers: Range<usize>,
        start: Instant,
        limit: Duration,
        came_up: &(dyn Fn(usize) + Sync),
    ) -> Vec<Duration> {
        let first = numbers.start;
        let poller = Poller::new().unwrap();
        let mut clients: Vec<Client> = numbers.map(|number| self.client(number)).collect();
        for (place, client) in clients.iter_mut().enumerate() {
            poller.add(&client.socket, place as u64, Interest::Read).unwrap();
            client.work(start);
        }
        let (mut ready, mut buffer, mut looked) = (Vec::new(), [0; 2048], Instant::now());
        let mut missing = clients.len();
        while missing > 0 {
            assert!(start.elapsed() < limit, "{missing} clients of a thread are not up");
            poller.wait(&mut ready, Some(TICK)).unwrap();
            let mut busy: Vec<usize> = ready.iter().map(|ready| ready.token as usize).collect();
            for &place in &busy {
                let client = &mut clients[place];
                while let Ok(len) = client.socket.recv(&mut buffer) {
                    let _ = client.session.handle_packet(Now::system(), &buffer[..len]);
                }
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                for (place, client) in clients.iter_mut().enumerate() {
                    if client.session.poll_timeout().is_some_and(|(at, _)| at <= looked) {
                        client.session.handle_timeout(Now::system());
                        busy.push(place);
                    }
                }
            }
            for place in busy {
                if clients[place].work(start) {
                    missing -= 1;
                    came_up(first + place);
                }
            }
        }
        clients.into_iter().filter_map(|client| client.up).collect()
    }

    fn client(&self, number: usize) -> Client {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(self.server).unwrap();
        socket.set_nonblocking(true).unwrap();
        let credentials = (self.credentials)(number);
        let params = Arc::clone(&self.params);
        let session = Session::client(params, credentials, Box::new(SystemRandom), Now::system()).unwrap();
        Client { socket, session, up: None }
    }
}

impl Client {
    /// Sends what is to be sent; whether this client has just come up.
    fn work(&mut self, start: Instant) -> bool {
        let before = self.up;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Established(_) => self.up = Some(start.elapsed()),
                Event::Failed(failure) => panic!("{failure}"),
                Event::AuthFailed(reason) => panic!("{reason:?}"),
                _ => {}
            }
        }
        while let Some(packet) = self.session.poll_transmit() {
            let _ = self.socket.send(&packet);
        }
        before.is_none() && self.up.is_some()
    }
}
