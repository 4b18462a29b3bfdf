//! What a caller learns when the connection breaks around a commit.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use agentflow_storage::{
    conformance::{
        refused,
        sample::{change, event, run, seed, thread, thread_id},
    },
    record::{Change, Thread, ThreadStatus},
};
use agentflow_types::{ErrorKind::Uncertain, Result, Scope};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

mod support;
use support::{Database, Way};

/// Passes connections on to a server, and once armed swallows the answer to a commit.
struct Swallow {
    address: SocketAddr,
    armed: Arc<AtomicBool>,
}

impl Swallow {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let armed = Arc::new(AtomicBool::new(false));
        let arm = armed.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server)
                    .await
                    .expect("the server listens");
                tokio::spawn(pass(client, server, arm.clone()));
            }
        });
        Self { address, armed }
    }
}

/// Both directions of one connection, until one of them ends.
async fn pass(client: TcpStream, server: TcpStream, armed: Arc<AtomicBool>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let muted = Arc::new(AtomicBool::new(false));
    let mute = muted.clone();
    let asks = copy(from_client, to_server, move |bytes| {
        let commit = bytes.windows(7).any(|word| word == b"COMMIT\0");
        if commit && armed.swap(false, SeqCst) {
            mute.store(true, SeqCst);
        }
        true
    });
    // The connection ends with the first answer after the commit was passed on, which by then
    // was executed or is about to be: the server has all of it.
    let answers = copy(from_server, to_client, move |_| !muted.load(SeqCst));
    tokio::select! {
        () = asks => {}
        () = answers => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut go_on: impl FnMut(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !go_on(&buffer[..count]) || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_commit_is_uncertain() -> Result<()> {
    let database = Database::create().await;
    let swallow = Swallow::start(database.address(Way::Pooled)).await;
    let plain = database.open(Way::Direct).await.backend();
    let shaky = support::open(database.options_at(swallow.address))
        .await
        .backend();
    seed(&plain, thread(1), vec![run(1, 1)]).await?;
    let busy = Thread {
        status: ThreadStatus::Busy,
        ..thread(1)
    };
    let changes = || vec![Change::PutThread(Box::new(busy.clone()))];
    change(&shaky, &Scope::local(), 1, changes()).await?;

    swallow.armed.store(true, SeqCst);
    refused(
        change(&shaky, &Scope::local(), 1, changes()).await,
        Uncertain,
    );
    swallow.armed.store(true, SeqCst);
    refused(
        shaky
            .events
            .append(thread_id(1), vec![event(1, 1)], None)
            .await,
        Uncertain,
    );

    // The pool goes on with another connection.
    change(&shaky, &Scope::local(), 1, changes()).await?;
    let last = plain.events.last_seq(thread_id(1)).await?;
    shaky
        .events
        .append(thread_id(1), vec![event(last + 1, 1)], None)
        .await
}
