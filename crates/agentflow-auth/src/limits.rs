//! Rates and quotas of keys and tenants.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentflow_storage::counter::{Quota, Rate, Taken};
use agentflow_types::{Result, Scope, Timestamp};

use crate::{Auth, Caller};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MICROS: i64 = 86_400_000_000;
/// When somebody may try again who has too many runs or streams.
const SOON: Duration = Duration::from_secs(1);

/// Limits; zero means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute of one key, user or token's holder.
    pub requests_per_minute: u64,
    /// Requests per minute of one tenant.
    pub tenant_requests_per_minute: u64,
    /// Runs of one tenant that wait or execute. Runs that are created at the same instant may
    /// exceed it.
    pub concurrent_runs: u64,
    /// Runs of one tenant per day (UTC).
    pub runs_per_day: u64,
    /// Open streams of one tenant on this server.
    pub open_streams: u64,
}

/// Too much was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// What was too much.
    pub text: String,
    /// When it may be tried again.
    pub retry_after: Duration,
}

/// A place for a stream; given back when it is dropped.
pub struct StreamPlace {
    tenant: String,
    open: Arc<Open>,
}

/// Open streams by tenant.
#[derive(Default)]
pub(crate) struct Open(Mutex<HashMap<String, u64>>);

impl Open {
    /// Takes a place; `None` if there is none.
    pub(crate) fn take(self: &Arc<Self>, tenant: &str, limit: u64) -> Option<StreamPlace> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let many = open.entry(tenant.to_owned()).or_default();
        if limit > 0 && *many >= limit {
            return None;
        }
        *many += 1;
        Some(StreamPlace {
            tenant: tenant.to_owned(),
            open: self.clone(),
        })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(many) = open.get_mut(&self.tenant) {
            *many -= 1;
            if *many == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

impl Auth {
    /// Counts a request.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn meter(&self, caller: &Caller) -> Result<std::result::Result<(), Limited>> {
        let limits = &self.config.limits;
        let own = (limits.requests_per_minute, format!("req:{}", caller.meter));
        let tenant = format!("req:tenant:{}", caller.scope.tenant());
        let tenant = (limits.tenant_requests_per_minute, tenant);
        for (limit, key) in [own, tenant] {
            if limit == 0 {
                continue;
            }
            let rate = Rate {
                limit,
                period: MINUTE,
            };
            // Names of principals may be longer than the key of a counter.
            let key = match key.len() > agentflow_storage::counter::MAX_KEY_BYTES {
                true => agentflow_storage::account::KeyHash::of(&key).text(),
                false => key,
            };
            let taken = self
                .backend
                .counters
                .take(&key, 1, rate, self.now())
                .await?;
            if let Taken::Refused { retry_after, .. } = taken {
                return Ok(Err(Limited {
                    text: format!("Rate limit exceeded: {limit} requests per minute."),
                    retry_after: retry_after.unwrap_or(MINUTE),
                }));
            }
        }
        Ok(Ok(()))
    }

    /// Most runs that a tenant may have at once, if there is a limit.
    #[must_use]
    pub fn concurrent_runs(&self) -> Option<u64> {
        Some(self.config.limits.concurrent_runs).filter(|limit| *limit > 0)
    }

    /// Counts a run that is to be created while `live` others of the tenant wait or execute.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn admit_run(
        &self,
        scope: &Scope,
        live: u64,
    ) -> Result<std::result::Result<(), Limited>> {
        let limits = &self.config.limits;
        if self.concurrent_runs().is_some_and(|limit| live >= limit) {
            return Ok(Err(Limited {
                text: format!(
                    "Quota exceeded: {} runs of this tenant wait or execute.",
                    limits.concurrent_runs
                ),
                retry_after: SOON,
            }));
        }
        if limits.runs_per_day == 0 {
            return Ok(Ok(()));
        }
        let now = self.now();
        let day = now.micros().div_euclid(DAY_MICROS);
        let quota = Quota {
            limit: limits.runs_per_day,
            until: Timestamp((day + 1) * DAY_MICROS),
        };
        let key = format!("runs:{}:{day}", scope.tenant());
        Ok(
            match self.backend.counters.spend(&key, 1, quota, now).await? {
                Taken::Granted { .. } => Ok(()),
                Taken::Refused { retry_after, .. } => Err(Limited {
                    text: format!("Quota exceeded: {} runs per day.", limits.runs_per_day),
                    retry_after: retry_after.unwrap_or(MINUTE),
                }),
            },
        )
    }

    /// A place for a stream of the tenant.
    ///
    /// # Errors
    /// [`Limited`] if there is none.
    pub fn open_stream(&self, scope: &Scope) -> std::result::Result<StreamPlace, Limited> {
        let limit = self.config.limits.open_streams;
        self.streams
            .take(scope.tenant(), limit)
            .ok_or_else(|| Limited {
                text: format!("Quota exceeded: {limit} open streams of this tenant."),
                retry_after: SOON,
            })
    }
}
