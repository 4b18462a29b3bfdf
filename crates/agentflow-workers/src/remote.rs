//! Workers of other machines: nobody here starts them, and nobody replaces them.

use std::sync::Arc;

use agentflow_types::Error;

use crate::{
    listen::RemoteDoor,
    peer::{self, Peer},
    pool::{Arrival, BACKOFF, Pool},
};

impl Pool {
    /// Where workers of other machines connect.
    pub(crate) fn remote_address(&self) -> Option<std::net::SocketAddr> {
        self.remote.as_ref().and_then(RemoteDoor::address)
    }

    /// Takes in workers of other machines, which proved who they are by their certificate.
    pub(crate) async fn accept_remote(self: Arc<Self>) {
        let Some(door) = &self.remote else { return };
        loop {
            let shaking = tokio::select! {
                accepted = door.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let Ok(shaking) = shaking else {
                tokio::time::sleep(BACKOFF.0).await;
                continue;
            };
            let pool = self.clone();
            self.tasks.spawn(async move {
                let greeted = async {
                    let (mut reading, writing) = shaking
                        .await
                        .map_err(|err| Error::denied("no handshake").source_err(err))?;
                    let hello = peer::hello(&mut reading).await?;
                    Ok::<_, Error>(Arrival {
                        hello,
                        reading,
                        writing,
                    })
                };
                match greeted.await {
                    Ok(arrival) => pool.adopt(arrival).await,
                    Err(err) => tracing::warn!(error = ?err, "a remote worker is refused"),
                }
            });
        }
    }

    /// Works with a worker of another machine until it is gone.
    async fn adopt(self: Arc<Self>, arrival: Arrival) {
        let peer = Peer::welcome(arrival.hello, arrival.writing, &self.welcome).await;
        // Ends with the connection.
        tokio::spawn(peer.clone().serve(arrival.reading, self.services.clone()));
        let loaded = tokio::select! {
            loaded = tokio::time::timeout(self.config.start_timeout, peer.ready()) => loaded,
            () = self.stop.cancelled() => return peer.died("the server stops".into()),
        };
        match loaded {
            Ok(Ok(loaded)) => self.warn(loaded),
            _ => return peer.died("the remote worker was not ready in time".into()),
        }
        tracing::info!(worker = peer.told, "a remote worker is ready");
        self.state().ready.push(peer.clone());
        self.changed.notify_waiters();
        let why = tokio::select! {
            () = peer.link.closed().cancelled() => "the connection to the worker was lost",
            () = self.stalled(&peer) => "the worker did not answer in time",
            () = peer.replace.notified() => "the worker goes on with what was cancelled",
            () = self.stop.cancelled() => "the server stops",
        };
        self.remove(&peer);
        if !peer.link.closed().is_cancelled() {
            tokio::select! {
                () = Self::idle(&peer) => {}
                () = tokio::time::sleep(self.config.drain) => {}
            }
        }
        tracing::warn!(worker = peer.told, "{why}");
        peer.died(why.into());
        self.changed.notify_waiters();
    }
}
