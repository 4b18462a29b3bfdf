//! Cases of jobs and notes.

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    JobId, Result, Scope, value,
};

use super::{apply, job_id, memory, numbers, of_project, put};
use crate::{
    Backend,
    conformance::{
        refused,
        sample::{at, map, stranger},
    },
    memories::{Change, Job, JobQuery, JobStatus, MAX_IDS, Note, NoteQuery},
};

pub(super) fn job(n: u8, lane: &str) -> Job {
    Job {
        job_id: job_id(n),
        project: "p".into(),
        kind: "ADD".into(),
        lane: lane.into(),
        status: JobStatus::Pending,
        payload: map(value!({"n": n})),
        results: vec![],
        error: String::new(),
        attempt: 0,
        due_at: at(n.into()),
        created_at: at(n.into()),
        updated_at: at(n.into()),
        started_at: None,
        completed_at: None,
    }
}

pub(super) fn note(n: u8, key: &str) -> Note {
    Note {
        project: "p".into(),
        kind: "webhook".into(),
        key: key.into(),
        version: 1,
        body: map(value!({"n": n})),
        is_deleted: false,
        created_at: at(n.into()),
        updated_at: at(n.into()),
    }
}

/// And again when its time is over.
pub async fn a_job_is_claimed_once(backend: Backend) -> Result<()> {
    apply(&backend, vec![Change::InsertJob(Box::new(job(1, "l")))]).await?;
    refused(
        apply(&backend, vec![Change::InsertJob(Box::new(job(1, "l")))]).await,
        Conflict,
    );
    let memories = &backend.memories;
    assert!(memories.claim_jobs(at(0), at(10), 5).await?.is_empty());
    let claimed = memories.claim_jobs(at(1), at(10), 5).await?;
    let wanted = Job {
        status: JobStatus::Running,
        attempt: 1,
        due_at: at(10),
        started_at: Some(at(1)),
        ..job(1, "l")
    };
    assert_eq!(claimed[0].tenant, Scope::local().tenant());
    assert_eq!(claimed[0].job, wanted);
    let stored = memories.job(&Scope::local(), job_id(1)).await?;
    assert_eq!(stored, Some(wanted));
    assert!(memories.claim_jobs(at(9), at(20), 5).await?.is_empty());
    let again = memories.claim_jobs(at(10), at(20), 5).await?;
    assert_eq!(
        (again[0].job.attempt, again[0].job.started_at),
        (2, Some(at(1)))
    );
    Ok(())
}

/// Lanes of two tenants are two.
pub async fn a_lane_is_worked_off_in_order(backend: Backend) -> Result<()> {
    for (n, lane) in [(1, "a"), (2, "a"), (3, "b")] {
        apply(&backend, vec![Change::InsertJob(Box::new(job(n, lane)))]).await?;
    }
    let theirs = vec![Change::InsertJob(Box::new(job(4, "a")))];
    backend.memories.apply(&stranger(), theirs).await?;
    let claimed = backend.memories.claim_jobs(at(9), at(20), 9).await?;
    let ids: Vec<JobId> = claimed.iter().map(|claimed| claimed.job.job_id).collect();
    assert_eq!(ids, [job_id(1), job_id(3), job_id(4)]);
    assert!(
        backend
            .memories
            .claim_jobs(at(9), at(20), 9)
            .await?
            .is_empty()
    );
    let done = Job {
        status: JobStatus::Succeeded,
        ..claimed[0].job.clone()
    };
    apply(&backend, vec![Change::PutJob(Box::new(done))]).await?;
    let claimed = backend.memories.claim_jobs(at(9), at(20), 9).await?;
    assert_eq!(claimed[0].job.job_id, job_id(2));
    Ok(())
}

/// Its memories are stored with it, or not at all.
pub async fn only_the_last_attempt_ends_a_job(backend: Backend) -> Result<()> {
    apply(&backend, vec![Change::InsertJob(Box::new(job(1, "l")))]).await?;
    let pending = vec![Change::PutJob(Box::new(job(1, "l")))];
    refused(apply(&backend, pending).await, Conflict);
    let first = backend.memories.claim_jobs(at(1), at(2), 1).await?;
    let second = backend.memories.claim_jobs(at(2), at(9), 1).await?;
    let end = |job: &Job, n| {
        let done = Job {
            status: JobStatus::Succeeded,
            results: vec![value!({"id": "x"})],
            completed_at: Some(at(3)),
            ..job.clone()
        };
        vec![put(memory(n)), Change::PutJob(Box::new(done))]
    };
    refused(apply(&backend, end(&first[0].job, 1)).await, Conflict);
    apply(&backend, end(&second[0].job, 2)).await?;
    refused(apply(&backend, end(&second[0].job, 3)).await, Conflict);
    assert_eq!(numbers(&backend, &of_project()).await?, [2]);
    let job = backend.memories.job(&Scope::local(), job_id(1)).await?;
    let job = job.map(|job| (job.status, job.results, job.completed_at));
    let wanted = (JobStatus::Succeeded, vec![value!({"id": "x"})], Some(at(3)));
    assert_eq!(job, Some(wanted));
    assert!(
        backend
            .memories
            .claim_jobs(at(90), at(99), 9)
            .await?
            .is_empty()
    );
    Ok(())
}

/// By who holds it only.
pub async fn a_claimed_job_is_kept_by_renewing_it(backend: Backend) -> Result<()> {
    apply(&backend, vec![Change::InsertJob(Box::new(job(1, "l")))]).await?;
    let memories = &backend.memories;
    assert!(!memories.renew_job(job_id(1), 0, at(50)).await?);
    memories.claim_jobs(at(1), at(2), 1).await?;
    assert!(memories.renew_job(job_id(1), 1, at(50)).await?);
    assert!(!memories.renew_job(job_id(1), 2, at(50)).await?);
    assert!(memories.claim_jobs(at(49), at(60), 1).await?.is_empty());
    assert_eq!(memories.claim_jobs(at(50), at(60), 1).await?.len(), 1);
    Ok(())
}

/// Of one project, kind, status.
pub async fn jobs_come_newest_first(backend: Backend) -> Result<()> {
    let mut jobs = [job(1, "a"), job(2, "b"), job(3, "c"), job(4, "d")];
    jobs[1].kind = "DELETE_ALL".into();
    jobs[3].project = "q".into();
    for job in jobs {
        apply(&backend, vec![Change::InsertJob(Box::new(job))]).await?;
    }
    backend.memories.claim_jobs(at(1), at(9), 1).await?;
    let all = JobQuery {
        project: "p".into(),
        limit: 10,
        ..JobQuery::default()
    };
    let adds = JobQuery {
        kind: Some("ADD".into()),
        ..all.clone()
    };
    let running = JobQuery {
        status: Some(JobStatus::Running),
        ..all.clone()
    };
    let second = JobQuery {
        limit: 1,
        offset: 1,
        ..all.clone()
    };
    for (query, wanted, total) in [
        (all, vec![3, 2, 1], 3),
        (adds, vec![3, 1], 2),
        (running, vec![1], 1),
        (second, vec![2], 3),
    ] {
        let found = backend.memories.jobs(&Scope::local(), &query).await?;
        let ids: Vec<JobId> = found.items.iter().map(|job| job.job_id).collect();
        let wanted: Vec<JobId> = wanted.into_iter().map(job_id).collect();
        assert_eq!((ids, found.total), (wanted, total), "{query:?}");
    }
    Ok(())
}

/// Nor end them.
pub async fn strangers_see_no_jobs(backend: Backend) -> Result<()> {
    apply(&backend, vec![Change::InsertJob(Box::new(job(1, "l")))]).await?;
    let theirs = stranger();
    assert_eq!(backend.memories.job(&theirs, job_id(1)).await?, None);
    let query = JobQuery {
        project: "p".into(),
        limit: 10,
        ..JobQuery::default()
    };
    assert_eq!(backend.memories.jobs(&theirs, &query).await?.total, 0);
    let claimed = backend.memories.claim_jobs(at(1), at(9), 1).await?;
    let end = vec![Change::PutJob(Box::new(claimed[0].job.clone()))];
    refused(backend.memories.apply(&theirs, end).await, Conflict);
    Ok(())
}

/// Over its end too.
pub async fn a_note_changes_by_versions(backend: Backend) -> Result<()> {
    let put = async |note: Note| apply(&backend, vec![Change::PutNote(Box::new(note))]).await;
    let read = async || {
        backend
            .memories
            .note(&Scope::local(), "p", "webhook", "k")
            .await
    };
    let first = note(1, "k");
    let second = Note {
        version: 2,
        body: map(value!({"nul": "\0"})),
        updated_at: at(9),
        ..first.clone()
    };
    refused(put(second.clone()).await, Conflict);
    put(first.clone()).await?;
    refused(put(first.clone()).await, Conflict);
    put(second.clone()).await?;
    assert_eq!(read().await?, Some(second.clone()));
    let gone = Note {
        version: 3,
        is_deleted: true,
        ..second
    };
    put(gone.clone()).await?;
    assert_eq!(read().await?, None);
    refused(put(first).await, Conflict);
    let anew = Note {
        version: 4,
        is_deleted: false,
        ..gone
    };
    put(anew.clone()).await?;
    assert_eq!(read().await?, Some(anew));
    let theirs = backend
        .memories
        .note(&stranger(), "p", "webhook", "k")
        .await?;
    assert_eq!(theirs, None);
    Ok(())
}

/// Those that exist, of one tenant, project and kind.
pub async fn notes_are_read_by_their_keys(backend: Backend) -> Result<()> {
    let gone = Note {
        version: 2,
        is_deleted: true,
        ..note(3, "gone")
    };
    let elsewhere = Note {
        project: "q".into(),
        ..note(1, "y")
    };
    for note in [
        note(1, "a"),
        note(2, "b"),
        note(2, "c"),
        note(3, "gone"),
        gone,
        elsewhere,
    ] {
        apply(&backend, vec![Change::PutNote(Box::new(note))]).await?;
    }
    let keys = ["a", "c", "gone", "y", "never"].map(str::to_owned);
    let of = async |scope: Scope, keys: &[String]| {
        let memories = &backend.memories;
        let found = memories.notes_of(&scope, "p", "webhook", keys).await?;
        let mut found: Vec<String> = found.into_iter().map(|note| note.key).collect();
        found.sort_unstable();
        Ok::<_, agentflow_types::Error>(found)
    };
    assert_eq!(of(Scope::local(), &keys).await?, ["a", "c"]);
    assert!(of(stranger(), &keys).await?.is_empty());
    let many = vec![String::new(); MAX_IDS + 1];
    refused(of(Scope::local(), &many).await, Invalid);
    Ok(())
}

/// Of one project and kind.
pub async fn notes_come_in_order_of_creation(backend: Backend) -> Result<()> {
    let other = Note {
        kind: "export".into(),
        ..note(1, "x")
    };
    let elsewhere = Note {
        project: "q".into(),
        ..note(1, "y")
    };
    for note in [note(2, "b"), note(1, "c"), note(2, "a"), other, elsewhere] {
        apply(&backend, vec![Change::PutNote(Box::new(note))]).await?;
    }
    let mut query = NoteQuery {
        project: "p".into(),
        kind: "webhook".into(),
        limit: 2,
        offset: 0,
    };
    for (offset, wanted) in [(0, vec!["c", "a"]), (2, vec!["b"])] {
        query.offset = offset;
        let found = backend.memories.notes(&Scope::local(), &query).await?;
        let keys: Vec<&str> = found.items.iter().map(|note| note.key.as_str()).collect();
        assert_eq!((keys, found.total), (wanted, 3));
    }
    assert_eq!(backend.memories.notes(&stranger(), &query).await?.total, 0);
    Ok(())
}
