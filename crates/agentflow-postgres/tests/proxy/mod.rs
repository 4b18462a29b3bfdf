//! A proxy that breaks connections on purpose.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// What becomes of what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is passed on.
    Pass,
    /// Nothing is passed on and nobody told: connections look alive.
    Stall,
    /// New connections are closed.
    Refuse,
}

/// Passes connections on to one port.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    _accepts: JoinSet<()>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (mode, heard) = watch::channel(Mode::Pass);
        let open = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let mut accepts = JoinSet::new();
        let list = open.clone();
        accepts.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *heard.borrow() == Mode::Refuse {
                    continue;
                }
                let handle = passing.spawn(pass(client, to, heard.clone()));
                let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                list.retain(|handle| !handle.is_finished());
                list.push(handle);
            }
        });
        Self {
            port,
            mode,
            open,
            _accepts: accepts,
        }
    }

    /// What becomes of what arrives from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Breaks one open connection, the one at `index` if there are so many; whether there was one.
    pub fn reset(&self, index: usize) -> bool {
        let mut list = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|handle| !handle.is_finished());
        if list.is_empty() {
            return false;
        }
        let index = index % list.len();
        list.swap_remove(index).abort();
        true
    }

    /// Breaks all open connections.
    pub fn reset_all(&self) {
        while self.reset(0) {}
    }
}

async fn pass(mut client: TcpStream, to: u16, mut mode: watch::Receiver<Mode>) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
    let Ok(mut server) = TcpStream::connect(address).await else {
        return;
    };
    // Ends with a reset, as a machine that was switched off would answer.
    for socket in [&client, &server] {
        let _ = socket.set_zero_linger();
    }
    loop {
        if *mode.borrow_and_update() == Mode::Stall {
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}
