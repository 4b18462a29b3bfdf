//! What the database said a moment ago, so that not every request asks it again.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use agentflow_storage::account::{ApiKey, KeyHash, User};
use agentflow_types::UserId;

/// Most answers of one kind that are remembered; then all are forgotten.
const MAX_ANSWERS: usize = 10_000;

/// Answers of one kind. What is not there is never remembered: an outsider could ask for
/// anything.
struct Answers<K, V> {
    life: Duration,
    /// Held for one look or one change. Each entry is whole after any panic.
    known: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash, V: Clone> Answers<K, V> {
    fn new(life: Duration) -> Self {
        Self {
            life,
            known: Mutex::default(),
        }
    }

    fn get(&self, key: &K) -> Option<V> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, value) = known.get(key)?;
        (at.elapsed() < self.life).then(|| value.clone())
    }

    fn put(&self, key: K, value: V) {
        if self.life.is_zero() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ANSWERS {
            known.clear();
        }
        known.insert(key, (Instant::now(), value));
    }

    fn clear(&self) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Keys, users and tenants that were let in.
pub(crate) struct Recent {
    keys: Answers<KeyHash, (String, ApiKey)>,
    users: Answers<(String, UserId), User>,
    tenants: Answers<String, ()>,
}

impl Recent {
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            keys: Answers::new(life),
            users: Answers::new(life),
            tenants: Answers::new(life),
        }
    }

    pub(crate) fn key(&self, hash: KeyHash) -> Option<(String, ApiKey)> {
        self.keys.get(&hash)
    }

    pub(crate) fn put_key(&self, tenant: &str, key: &ApiKey) {
        self.keys.put(key.hash, (tenant.to_owned(), key.clone()));
    }

    pub(crate) fn user(&self, tenant: &str, id: UserId) -> Option<User> {
        self.users.get(&(tenant.to_owned(), id))
    }

    pub(crate) fn put_user(&self, tenant: &str, user: &User) {
        let key = (tenant.to_owned(), user.user_id);
        self.users.put(key, user.clone());
    }

    /// Whether the tenant is known to be let in.
    pub(crate) fn tenant(&self, tenant: &str) -> bool {
        self.tenants.get(&tenant.to_owned()).is_some()
    }

    pub(crate) fn put_tenant(&self, tenant: &str) {
        self.tenants.put(tenant.to_owned(), ());
    }

    /// Forgets everything, after a change.
    pub(crate) fn clear(&self) {
        self.keys.clear();
        self.users.clear();
        self.tenants.clear();
    }
}
