//! A TCP proxy that does to connections what networks do: delays, resets, silence, thin pipes.
//!
//! It stands between the code under test and a real server. Everything can be changed while
//! connections run; a [`Schedule`] draws faults from a seed.

use std::{
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

mod schedule;

pub use schedule::{Fault, Schedule, Step};

/// Most bytes that are forwarded at once; small, so that a bandwidth limit is smooth.
const CHUNK_BYTES: usize = 16 * 1024;

/// Shares of a second in which a limited pipe forwards.
const SLICES: u64 = 20;

/// Time for the server to accept; afterwards the client's connection is reset.
const CONNECT: Duration = Duration::from_secs(5);

/// Tries to listen again on the port, each [`REBIND_WAIT`] apart.
const REBIND_TRIES: u32 = 500;

/// Time between two tries to listen.
const REBIND_WAIT: Duration = Duration::from_millis(10);

/// Time for which the server keeps a half-open connection after the client has given up; its
/// keepalive would take longer.
const FORGET: Duration = Duration::from_secs(1);

/// What happens to bytes and new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Delay of each piece of at most 16 KiB in each direction. A question and its answer take
    /// twice as long; a long transfer gets slower too.
    pub latency: Duration,
    /// Bytes a second of each direction of each connection; `None` is no limit.
    pub bytes_per_second: Option<u64>,
    /// Nothing is forwarded, and nothing lost: it goes on when this ends.
    pub stalled: bool,
    /// Nobody listens on the port, as when the server is down.
    pub refusing: bool,
    /// The server.
    pub target: SocketAddr,
}

/// How present connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both sides see an orderly end.
    Close,
    /// Both sides see a reset.
    Reset,
    /// Both sides see nothing, ever.
    HalfOpen,
}

/// What the proxy has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that clients opened.
    pub accepted: u64,
    /// Connections that are open on the clients' side, half-open ones included.
    pub open: u64,
    /// Connections that the server did not accept.
    pub unreachable: u64,
    /// Connections that a fault ended or silenced.
    pub faulted: u64,
    /// Bytes from clients to the server.
    pub bytes_up: u64,
    /// Bytes from the server to clients.
    pub bytes_down: u64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    unreachable: AtomicU64,
    faulted: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// A proxy on a port of its own. Dropping it closes everything.
pub struct Proxy {
    port: u16,
    rules: watch::Sender<Rules>,
    /// Number of the last order to end connections, and how.
    end: watch::Sender<(u64, End)>,
    counters: Arc<Counters>,
    /// Whether the port is open, as the listener's task last set it.
    listening: watch::Receiver<bool>,
    _stop: DropGuard,
    _task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy for the server on `target_port` of the loopback interface.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(target_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (rules, _) = watch::channel(Rules {
            latency: Duration::ZERO,
            bytes_per_second: None,
            stalled: false,
            refusing: false,
            target: (Ipv4Addr::LOCALHOST, target_port).into(),
        });
        let (end, _) = watch::channel((0, End::Close));
        let (listening_sender, listening) = watch::channel(true);
        let stop = CancellationToken::new();
        let counters = Arc::<Counters>::default();
        let front = Front {
            rules: rules.subscribe(),
            end: end.subscribe(),
            counters: counters.clone(),
            listening: listening_sender,
            port,
        };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            // Stopping drops all connections with the front.
            stopped.run_until_cancelled(front.run(listener)).await;
        });
        Ok(Self {
            port,
            rules,
            end,
            counters,
            listening,
            _stop: stop.drop_guard(),
            _task: task,
        })
    }

    /// The port that clients connect to on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The rules now.
    #[must_use]
    pub fn rules(&self) -> Rules {
        *self.rules.borrow()
    }

    /// Changes the rules, for present and new connections; the target is that of new ones.
    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }

    /// Delays each piece in each direction.
    pub fn latency(&self, latency: Duration) {
        self.change(|rules| rules.latency = latency);
    }

    /// Limits each direction of each connection.
    pub fn bandwidth(&self, bytes_per_second: u64) {
        self.change(|rules| rules.bytes_per_second = Some(bytes_per_second));
    }

    /// Forwards nothing until [`Proxy::heal`].
    pub fn stall(&self) {
        self.change(|rules| rules.stalled = true);
    }

    /// Closes the port, as a server that is down; present connections stay. Returns when nobody
    /// can connect any more.
    pub async fn refuse(&self) {
        self.change(|rules| rules.refusing = true);
        let mut listening = self.listening.clone();
        // The sender lives as long as the proxy.
        let _ = listening.wait_for(|listening| !listening).await;
    }

    /// Sends new connections to another server on the loopback interface.
    pub fn switch(&self, target_port: u16) {
        let target = (Ipv4Addr::LOCALHOST, target_port).into();
        self.change(|rules| rules.target = target);
    }

    /// Ends all lasting faults: no delay, no limit, no stall, open port. The target stays, and
    /// half-open connections stay half-open. Returns when clients can connect.
    pub async fn heal(&self) {
        self.change(|rules| {
            *rules = Rules {
                latency: Duration::ZERO,
                bytes_per_second: None,
                stalled: false,
                refusing: false,
                target: rules.target,
            };
        });
        let mut listening = self.listening.clone();
        let _ = listening.wait_for(|listening| *listening).await;
    }

    /// Closes all present connections in order.
    pub fn cut(&self) {
        self.order(End::Close);
    }

    /// Resets all present connections.
    pub fn reset(&self) {
        self.order(End::Reset);
    }

    /// Silences all present connections for ever: neither side hears anything, not even an end,
    /// as when a firewall forgets them.
    pub fn half_open(&self) {
        self.order(End::HalfOpen);
    }

    fn order(&self, how: End) {
        self.end.send_modify(|(number, end)| {
            *number += 1;
            *end = how;
        });
    }

    /// Does what a fault says. Lasting ones last until [`Proxy::heal`].
    pub async fn apply(&self, fault: Fault) {
        match fault {
            Fault::Latency(latency) => self.latency(latency),
            Fault::Bandwidth(limit) => self.bandwidth(limit),
            Fault::Stall => self.stall(),
            Fault::Refuse => self.refuse().await,
            Fault::Cut => self.cut(),
            Fault::Reset => self.reset(),
            Fault::HalfOpen => self.half_open(),
        }
    }

    /// Applies all faults of a schedule, healing after each; returns how many there were.
    pub async fn run(&self, schedule: impl IntoIterator<Item = Step>) -> u64 {
        let mut count = 0;
        for step in schedule {
            self.apply(step.fault).await;
            sleep(step.lasts).await;
            self.heal().await;
            sleep(step.pause).await;
            count += 1;
        }
        count
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let counters = &self.counters;
        Counts {
            accepted: get(&counters.accepted),
            open: get(&counters.open),
            unreachable: get(&counters.unreachable),
            faulted: get(&counters.faulted),
            bytes_up: get(&counters.bytes_up),
            bytes_down: get(&counters.bytes_down),
        }
    }
}

/// The side that listens.
struct Front {
    rules: watch::Receiver<Rules>,
    end: watch::Receiver<(u64, End)>,
    counters: Arc<Counters>,
    listening: watch::Sender<bool>,
    port: u16,
}

impl Front {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            let refusing = self.rules.borrow_and_update().refusing;
            if refusing {
                listener = None;
            } else if listener.is_none() {
                listener = bind(self.port).await;
            }
            self.listening.send_replace(listener.is_some());
            tokio::select! {
                changed = self.rules.changed() => if changed.is_err() { return },
                Some(stream) = accept(listener.as_ref()) => {
                    let connection = self.connection();
                    connections.spawn(connection.run(stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn connection(&self) -> Connection {
        let mut end = self.end.clone();
        end.mark_unchanged();
        let counters = self.counters.clone();
        counters.accepted.fetch_add(1, Ordering::SeqCst);
        counters.open.fetch_add(1, Ordering::SeqCst);
        Connection {
            rules: self.rules.clone(),
            end,
            open: Open(counters),
        }
    }
}

/// The next client; never, if nobody listens.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        None => pending().await,
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
    }
}

/// Listens again on a port that was given up a moment ago.
async fn bind(port: u16) -> Option<TcpListener> {
    for _ in 0..REBIND_TRIES {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Some(listener);
        }
        sleep(REBIND_WAIT).await;
    }
    None
}

/// Counts a connection as open while it lives.
struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Connection {
    rules: watch::Receiver<Rules>,
    end: watch::Receiver<(u64, End)>,
    open: Open,
}

impl Connection {
    async fn run(mut self, mut client: TcpStream) {
        let target = self.rules.borrow().target;
        let Ok(Ok(mut server)) = timeout(CONNECT, TcpStream::connect(target)).await else {
            let counters = &self.open.0;
            counters.unreachable.fetch_add(1, Ordering::SeqCst);
            let _ = client.set_zero_linger();
            return;
        };
        // Pieces go out as they come in; the delays are ours.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let how = {
            let (client_in, client_out) = client.split();
            let (server_in, server_out) = server.split();
            let counters = &self.open.0;
            let up = pump(
                client_in,
                server_out,
                self.rules.clone(),
                &counters.bytes_up,
            );
            let down = pump(
                server_in,
                client_out,
                self.rules.clone(),
                &counters.bytes_down,
            );
            tokio::select! {
                // Both directions end by themselves, or one breaks.
                _ = async { tokio::try_join!(up, down) } => return,
                changed = self.end.changed() => match changed {
                    Ok(()) => self.end.borrow_and_update().1,
                    Err(_) => return,
                },
            }
        };
        self.open.0.faulted.fetch_add(1, Ordering::SeqCst);
        match how {
            End::Close => {}
            End::Reset => {
                let _ = client.set_zero_linger();
                let _ = server.set_zero_linger();
            }
            End::HalfOpen => silence(&mut client, &mut server).await,
        }
    }
}

/// Answers neither side until the client has given up, and the server for [`FORGET`] longer.
///
/// What they send is taken and thrown away: to them it looks like a full network.
async fn silence(client: &mut TcpStream, server: &mut TcpStream) {
    let mut waste = vec![0; CHUNK_BYTES];
    while client.read(&mut waste).await.is_ok_and(|count| count > 0) {}
    let server_ends = async { while server.read(&mut waste).await.is_ok_and(|count| count > 0) {} };
    // Whichever comes first: the time or the server's end.
    let _ = timeout(FORGET, server_ends).await;
}

/// Forwards one direction until its end or an error.
async fn pump(
    mut from: tcp::ReadHalf<'_>,
    mut to: tcp::WriteHalf<'_>,
    mut rules: watch::Receiver<Rules>,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let limit = rules.borrow().bytes_per_second;
        let most = limit.map_or(CHUNK_BYTES, |limit| {
            let slice = usize::try_from(limit / SLICES).unwrap_or(CHUNK_BYTES);
            slice.clamp(1, CHUNK_BYTES)
        });
        let count = from.read(&mut chunk[..most]).await?;
        let latency = rules.borrow().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        if rules.wait_for(|rules| !rules.stalled).await.is_err() {
            return Ok(());
        }
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..count]).await?;
        bytes.fetch_add(count as u64, Ordering::SeqCst);
        if let Some(limit) = limit {
            sleep(Duration::from_secs_f64(count as f64 / limit.max(1) as f64)).await;
        }
    }
}
