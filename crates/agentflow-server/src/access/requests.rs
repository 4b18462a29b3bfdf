//! The log of requests about memories: the newest ones, in the memory of this server.
//!
//! It says what was asked of which path, never with which body, query or secret.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentflow_auth::Means;
use agentflow_types::{Clock, Scope, SystemClock, Timestamp};
use http::{Method, StatusCode};
use uuid::Uuid;

/// Most entries, of all tenants together. One more takes the place of the oldest of the tenant
/// that has the most, so that nobody's requests drive another tenant's out.
const MAX_ENTRIES: usize = 10_000;
/// Most bytes of a path or a principal's name.
const MAX_BYTES: usize = 256;

/// A request that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    pub(crate) principal: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Until the answer began.
    pub(crate) latency: Duration,
    /// How its sender was let in.
    pub(crate) means: &'static str,
    pub(crate) at: Timestamp,
}

/// The newest requests.
#[derive(Default)]
pub(crate) struct Requests {
    /// Held for one push or one page.
    log: Mutex<Log>,
}

/// Requests by tenant, each one's newest last.
#[derive(Default)]
struct Log {
    tenants: HashMap<String, VecDeque<Entry>>,
    /// Entries of all tenants.
    count: usize,
}

impl Log {
    fn push(&mut self, tenant: &str, entry: Entry) {
        if self.count >= MAX_ENTRIES {
            self.drop_oldest_of_most();
        }
        match self.tenants.get_mut(tenant) {
            Some(entries) => entries.push_back(entry),
            None => {
                self.tenants.insert(tenant.to_owned(), [entry].into());
            }
        }
        self.count += 1;
    }

    /// Looks through all tenants, of which there are no more than entries.
    fn drop_oldest_of_most(&mut self) {
        let most = self.tenants.iter_mut();
        let Some((tenant, entries)) = most.max_by_key(|(_, entries)| entries.len()) else {
            return;
        };
        entries.pop_front();
        self.count -= 1;
        if entries.is_empty() {
            let tenant = tenant.clone();
            self.tenants.remove(&tenant);
        }
    }
}

/// The word for how somebody was let in; `None` for people at a console, who would fill the log
/// by looking at it.
fn word(means: Option<&Means>) -> Option<&'static str> {
    match means {
        None => Some("disabled"),
        Some(Means::Key(_)) => Some("api_key"),
        Some(Means::Bootstrap) => Some("admin_api_key"),
        Some(Means::Token) => Some("bearer"),
        Some(Means::Access { .. } | Means::Session { .. }) => None,
    }
}

fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A request whose answer is awaited.
pub(crate) struct Begun {
    method: Method,
    path: String,
    at: std::time::Instant,
}

impl Begun {
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        Self {
            method: method.clone(),
            path: short(path),
            at: std::time::Instant::now(),
        }
    }
}

impl Requests {
    /// Notes the end of a request.
    pub(crate) fn note(
        &self,
        begun: Begun,
        scope: &Scope,
        means: Option<&Means>,
        status: StatusCode,
    ) {
        let Some(means) = word(means) else { return };
        let entry = Entry {
            id: Uuid::now_v7(),
            principal: short(scope.principal()),
            method: begun.method,
            path: begun.path,
            status: status.as_u16(),
            latency: begun.at.elapsed(),
            means,
            at: SystemClock.now(),
        };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(scope.tenant(), entry);
    }

    /// Entries of a tenant, the newest first.
    pub(crate) fn page(&self, tenant: &str, limit: usize, offset: usize) -> Vec<Entry> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let own = log.tenants.get(tenant).into_iter().flatten().rev();
        own.skip(offset).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_shown_to_their_tenant() {
        let log = Requests::default();
        let other = Scope::new("acme", "ada");
        let begun = Begun::new(&Method::POST, "/search");
        log.note(begun, &other, Some(&Means::Bootstrap), StatusCode::OK);
        for n in 0..MAX_ENTRIES + 5 {
            let path = format!("/memories/{n}{}", "x".repeat(300));
            let begun = Begun::new(&Method::GET, &path);
            log.note(begun, &Scope::local(), None, StatusCode::OK);
        }
        let held: Vec<usize> = {
            let log = log.log.lock().unwrap();
            ["default", "acme"]
                .map(|name| log.tenants[name].len())
                .into()
        };
        assert_eq!(held, [MAX_ENTRIES - 1, 1]);
        let newest = log.page("default", 2, 0);
        assert!(
            newest[0]
                .path
                .starts_with(&format!("/memories/{}x", MAX_ENTRIES + 4))
        );
        assert_eq!((newest.len(), newest[0].path.len()), (2, MAX_BYTES));
        let next = log.page("default", 1, 1);
        assert_eq!(next[0].id, newest[1].id);
        let theirs = log.page("acme", 9, 0);
        assert_eq!((theirs.len(), theirs[0].means), (1, "admin_api_key"));
        assert!(log.page("acme", 9, 1).is_empty());
    }
}
