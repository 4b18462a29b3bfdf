//! Schedules that create runs.

use std::{str::FromStr, sync::Arc, time::Duration};

use agentflow_storage::{
    cron::{Cron, CronQuery},
    page::{Page, PageQuery},
};
use agentflow_types::{
    CronId, Error, ErrorKind, Map, Result, Rights, Scope, ThreadId, Timestamp, Value, from_value,
};

use super::Service;
use crate::{
    config::{CreateRun, RunThread, reported},
    machine::Firing,
};

/// Crons fired per round.
const DUE: u32 = 100;

/// How late a firing may be without counting as missed.
const MISSED_AFTER: Duration = Duration::from_secs(60);

/// What happens to firings whose time passed while no server could fire them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedFirings {
    /// All that a cron missed make one run.
    #[default]
    Once,
    /// They make no run.
    Skip,
    /// Each makes a run.
    All,
}

/// A new cron.
#[derive(Clone, Debug, Default)]
pub struct CreateCron {
    /// Assistant id or graph id.
    pub assistant: String,
    /// Thread for all runs; `None` for a new one each time.
    pub thread_id: Option<ThreadId>,
    /// Cron expression.
    pub schedule: String,
    /// IANA zone; UTC if absent.
    pub timezone: Option<String>,
    /// No firing after this.
    pub end_time: Option<Timestamp>,
    /// `delete` or `keep`, without a thread.
    pub on_run_completed: Option<String>,
    /// Input, config, metadata, … of the runs.
    pub payload: Map,
    /// Metadata.
    pub metadata: Map,
    /// Whether it fires.
    pub enabled: bool,
}

/// Changes of a cron; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct PatchCron {
    /// Cron expression.
    pub schedule: Option<String>,
    /// IANA zone.
    pub timezone: Option<String>,
    /// End; `Some(None)` clears it.
    pub end_time: Option<Option<Timestamp>>,
    /// `delete` or `keep`.
    pub on_run_completed: Option<String>,
    /// Parts of the payload, replaced key by key.
    pub payload: Map,
    /// Metadata, merged.
    pub metadata: Option<Map>,
    /// Whether it fires.
    pub enabled: Option<bool>,
}

/// The first firing after `after`; `None` if there is none before `end`.
///
/// # Errors
/// `Unprocessable` for a bad expression or zone.
fn next_firing(
    schedule: &str,
    timezone: Option<&str>,
    after: Timestamp,
    end: Option<Timestamp>,
) -> Result<Option<Timestamp>> {
    let bad = |what: &'static str, text: &str| Error::unprocessable(what).with("value", text);
    let cron = croner::Cron::from_str(schedule)
        .map_err(|err| bad("invalid cron schedule", schedule).source_err(err))?;
    let zone = timezone.unwrap_or("UTC");
    let zone: chrono_tz::Tz = zone.parse().map_err(|_| bad("unknown time zone", zone))?;
    let from = chrono::DateTime::from_timestamp_micros(after.micros())
        .ok_or_else(|| Error::bug("the clock is outside the calendar"))?;
    let next = cron
        .find_next_occurrence(&from.with_timezone(&zone), false)
        .ok();
    let next = next.map(|moment| Timestamp(moment.timestamp_micros()));
    Ok(next.filter(|next| end.is_none_or(|end| *next <= end)))
}

impl Service {
    /// Creates a cron.
    ///
    /// # Errors
    /// `NotFound` for assistant or thread, `Unprocessable` for schedule or zone.
    pub async fn create_cron(&self, scope: &Scope, create: CreateCron) -> Result<Cron> {
        let assistant = self.resolve_assistant(scope, &create.assistant).await?;
        if let Some(thread) = create.thread_id {
            self.get_thread(scope, thread).await?;
        }
        self.check_webhook(create.payload.get("webhook").and_then(Value::as_str))?;
        let now = self.now();
        let zone = create.timezone.as_deref();
        let next = next_firing(&create.schedule, zone, now, create.end_time)?;
        let cron = Cron {
            cron_id: CronId::mint(),
            assistant_id: assistant.assistant_id,
            thread_id: create.thread_id,
            on_run_completed: create.on_run_completed,
            end_time: create.end_time,
            schedule: create.schedule,
            timezone: create.timezone,
            created_at: now,
            updated_at: now,
            user_id: None,
            payload: create.payload,
            next_run_date: next,
            metadata: create.metadata,
            enabled: create.enabled,
            rights: Rights::of(scope),
        };
        self.backend.crons.put(scope, cron.clone()).await?;
        Ok(cron)
    }

    /// The cron.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_cron(&self, scope: &Scope, id: CronId) -> Result<Cron> {
        let found = self.backend.crons.get(scope, id).await?;
        found.ok_or_else(|| Error::not_found(format!("Cron with ID {id} not found")))
    }

    /// Changes a cron; the next firing is computed anew. Its runs may do no more from then on
    /// than both who made it and who changes it.
    ///
    /// # Errors
    /// `NotFound`; `Unprocessable` for schedule or zone.
    pub async fn update_cron(&self, scope: &Scope, id: CronId, patch: PatchCron) -> Result<Cron> {
        self.check_webhook(patch.payload.get("webhook").and_then(Value::as_str))?;
        let mut cron = self.get_cron(scope, id).await?;
        cron.schedule = patch.schedule.unwrap_or(cron.schedule);
        cron.timezone = patch.timezone.or(cron.timezone);
        cron.end_time = patch.end_time.unwrap_or(cron.end_time);
        cron.on_run_completed = patch.on_run_completed.or(cron.on_run_completed);
        cron.enabled = patch.enabled.unwrap_or(cron.enabled);
        cron.payload.extend(patch.payload);
        cron.metadata.extend(patch.metadata.unwrap_or_default());
        cron.updated_at = self.now();
        cron.rights = cron.rights.and(&Rights::of(scope));
        let zone = cron.timezone.as_deref();
        cron.next_run_date = next_firing(&cron.schedule, zone, cron.updated_at, cron.end_time)?;
        self.backend.crons.put(scope, cron.clone()).await?;
        Ok(cron)
    }

    /// Removes a cron.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_cron(&self, scope: &Scope, id: CronId) -> Result<()> {
        match self.backend.crons.delete(scope, id).await? {
            true => Ok(()),
            false => Err(Error::not_found(format!("Cron with ID {id} not found"))),
        }
    }

    /// One page of crons.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn search_crons(
        &self,
        scope: &Scope,
        query: &CronQuery,
        page: &PageQuery,
    ) -> Result<Page<Cron>> {
        self.backend.crons.search(scope, query, page).await
    }

    /// Creates the runs of crons that are due, each in one transaction with the cron's next date:
    /// however many servers look, and whenever one of them stops, a firing has one run.
    ///
    /// # Errors
    /// Errors of the backend; a cron whose run is refused is logged and goes on.
    pub async fn fire_crons(self: &Arc<Self>) -> Result<()> {
        let now = self.now();
        for (scope, cron) in self.backend.crons.due(now, DUE).await? {
            let Some(expected) = cron.next_run_date else {
                continue;
            };
            let was_missed = now.since(expected) > MISSED_AFTER;
            let after = match self.config.missed {
                MissedFirings::All => expected,
                MissedFirings::Once | MissedFirings::Skip => now,
            };
            let zone = cron.timezone.as_deref();
            let next = next_firing(&cron.schedule, zone, after, cron.end_time).unwrap_or_default();
            let fired = match was_missed && self.config.missed == MissedFirings::Skip {
                true => Err(Error::denied("the firing was missed")),
                false => {
                    let firing = Firing {
                        cron_id: cron.cron_id,
                        expected,
                        next,
                    };
                    let scope = scope.with_rights(&cron.rights);
                    self.create_fired(&scope, run_of(&cron), firing).await
                }
            };
            if let Err(err) = fired {
                self.pass_over(&cron, expected, next, err).await?;
            }
        }
        Ok(())
    }

    /// Goes on with a cron that did not fire.
    async fn pass_over(
        &self,
        cron: &Cron,
        expected: Timestamp,
        next: Option<Timestamp>,
        why: Error,
    ) -> Result<()> {
        if matches!(why.kind(), ErrorKind::Busy | ErrorKind::Uncertain) {
            // It is due until the database says that it fired.
            tracing::warn!(cron_id = %cron.cron_id, error = %why, "a cron fires later");
            return Ok(());
        }
        let crons = &self.backend.crons;
        // False if another server fired it, which is no news.
        if crons.advance(cron.cron_id, expected, next).await? {
            tracing::warn!(cron_id = %cron.cron_id, error = %why, "a cron did not fire");
        }
        Ok(())
    }
}

/// The run that a firing creates.
fn run_of(cron: &Cron) -> CreateRun {
    let thread = match (cron.thread_id, cron.on_run_completed.as_deref()) {
        (Some(id), _) => RunThread::Existing(id),
        (None, Some("keep")) => RunThread::Kept,
        (None, _) => RunThread::Temporary,
    };
    let part = |key: &str| cron.payload.get(key).cloned().unwrap_or_default();
    let map = |key: &str| part(key).as_map().cloned().unwrap_or_default();
    let mut run = CreateRun::new(&cron.assistant_id.text(), thread);
    run.input = part("input");
    run.command = part("command");
    run.config = map("config");
    run.context = map("context");
    run.metadata = map("metadata");
    run.metadata
        .insert("cron_id".into(), Value::str(cron.cron_id.text()));
    run.interrupt_before = part("interrupt_before");
    run.interrupt_after = part("interrupt_after");
    run.multitask = from_value(&part("multitask_strategy")).unwrap_or(run.multitask);
    let words: Vec<String> = from_value(&part("stream_mode")).unwrap_or_default();
    if !words.is_empty() {
        run.modes = reported(words.iter().map(String::as_str));
        run.stream_mode = words;
    }
    let flag = |key: &str| part(key).as_bool().unwrap_or(false);
    run.subgraphs = flag("stream_subgraphs");
    run.resumable = flag("stream_resumable");
    run.durability = from_value(&part("durability")).unwrap_or_default();
    run.webhook = part("webhook").as_str().map(str::to_owned);
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_shift_firings() {
        let midnight: Timestamp = "2026-07-01T00:00:00+00:00".parse().unwrap();
        let at = |zone: Option<&str>| {
            next_firing("0 9 * * *", zone, midnight, None)
                .unwrap()
                .unwrap()
                .to_string()
        };
        assert_eq!(at(None), "2026-07-01T09:00:00.000000+00:00");
        assert_eq!(
            at(Some("Europe/Berlin")),
            "2026-07-01T07:00:00.000000+00:00"
        );
        assert!(next_firing("nonsense", None, midnight, None).is_err());
        assert!(next_firing("0 9 * * *", Some("Mars/Base"), midnight, None).is_err());
        let end = "2026-07-01T08:00:00+00:00".parse().unwrap();
        assert_eq!(
            next_firing("0 9 * * *", None, midnight, Some(end)).unwrap(),
            None
        );
    }
}
