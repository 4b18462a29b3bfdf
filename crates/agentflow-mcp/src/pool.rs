//! One client for each source.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    client::Client,
    source::{Limits, Source},
};

/// Clients by source. Clones share them.
#[derive(Clone, Default)]
pub struct Pool(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Guards the map; held for one look.
    clients: Mutex<HashMap<Source, Arc<Client>>>,
    limits: Limits,
}

impl Pool {
    /// A pool without clients.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A pool with limits for servers of which nothing else is said.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            ..Inner::default()
        }))
    }

    /// Limits of servers of which nothing else is said.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The client of a source; nothing is connected yet.
    #[must_use]
    pub fn client(&self, source: Source) -> Arc<Client> {
        let mut clients = self.lock();
        let made = |source: &Source| Arc::new(Client::new(source.clone()));
        clients.entry(source).or_insert_with_key(made).clone()
    }

    /// Ends all connections and waits until all programs are gone.
    pub async fn close(&self) {
        let clients: Vec<Arc<Client>> = self.lock().drain().map(|(_, client)| client).collect();
        let closing: Vec<_> = clients
            .into_iter()
            .map(|client| tokio::spawn(async move { client.close().await }))
            .collect();
        for one in closing {
            // A panic there was reported; the others still end.
            let _ = one.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Arc<Client>>> {
        self.0
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
