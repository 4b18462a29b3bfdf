//! Cases of [`crate::session::Sessions`].

use std::time::Duration;

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    Map, Result, Scope, Timestamp, Value, value,
};

use super::{
    refused,
    sample::{at, map, stranger},
    suite,
};
use crate::{
    Backend,
    session::{MAX_DATA_BYTES, Session, SessionKey, Token},
};

suite! {
    ($)
    /// Instantiates the cases of the sessions port.
    session_conformance:
    a_session_is_read_back,
    a_token_is_used_once,
    an_untouched_session_ends,
    a_touch_renews_the_idle_time,
    a_session_ends_at_its_latest,
    a_clock_that_lags_takes_nothing_away,
    a_deleted_session_is_gone,
    a_principal_is_signed_out_everywhere,
    large_data_is_refused,
    sweeping_leaves_live_sessions,
}

const IDLE: Duration = Duration::from_secs(600);
const LIFE: Duration = Duration::from_secs(3600);

fn key(n: u8) -> SessionKey {
    Token::from_client(&format!("token {n}")).key()
}

fn session(scope: Scope, seconds: i64) -> Session {
    Session::begin(scope, Map::new(), at(seconds), IDLE, LIFE)
}

/// A scope as sessions keep it: without what it may do.
fn ann() -> Scope {
    Scope::new("default", "ann")
}

async fn begin(backend: &Backend, n: u8, scope: Scope, seconds: i64) -> Result<()> {
    backend
        .sessions
        .create(key(n), session(scope, seconds))
        .await
}

async fn is_live(backend: &Backend, n: u8, now: Timestamp) -> Result<bool> {
    Ok(backend.sessions.get(key(n), now).await?.is_some())
}

/// With all it has.
pub async fn a_session_is_read_back(backend: Backend) -> Result<()> {
    let data = map(value!({"roles": ["a", "ü"], "nul": "\u{0}", "n": 1, "f": 1.5, "x": null}));
    let scope = Scope::new("ten ant:1", "user@example.org/ü");
    let begun = Session {
        data,
        ..session(scope, 0)
    };
    backend.sessions.create(key(1), begun.clone()).await?;
    assert_eq!(backend.sessions.get(key(1), at(1)).await?, Some(begun));
    assert_eq!(backend.sessions.get(key(2), at(1)).await?, None);
    Ok(())
}

/// The session that has it stays as it is.
pub async fn a_token_is_used_once(backend: Backend) -> Result<()> {
    begin(&backend, 1, ann(), 0).await?;
    refused(begin(&backend, 1, stranger(), 1).await, Conflict);
    let found = backend.sessions.get(key(1), at(2)).await?;
    assert_eq!(found, Some(session(ann(), 0)));
    Ok(())
}

/// To the microsecond; it cannot be touched afterwards.
pub async fn an_untouched_session_ends(backend: Backend) -> Result<()> {
    begin(&backend, 1, ann(), 0).await?;
    assert!(is_live(&backend, 1, Timestamp(at(600).0 - 1)).await?);
    assert!(!is_live(&backend, 1, at(600)).await?);
    assert_eq!(backend.sessions.touch(key(1), at(600)).await?, None);
    assert_eq!(backend.sessions.touch(key(9), at(600)).await?, None);
    Ok(())
}

/// Reading does not.
pub async fn a_touch_renews_the_idle_time(backend: Backend) -> Result<()> {
    begin(&backend, 1, ann(), 0).await?;
    begin(&backend, 2, ann(), 0).await?;
    assert!(is_live(&backend, 2, at(500)).await?);
    let touched = backend.sessions.touch(key(1), at(500)).await?;
    let expected = Session {
        used_at: at(500),
        ..session(ann(), 0)
    };
    assert_eq!(touched.as_ref(), Some(&expected));
    assert_eq!(
        backend.sessions.get(key(1), at(1099)).await?,
        Some(expected)
    );
    assert!(!is_live(&backend, 1, at(1100)).await?);
    assert!(!is_live(&backend, 2, at(600)).await?);
    Ok(())
}

/// However often it is touched.
pub async fn a_session_ends_at_its_latest(backend: Backend) -> Result<()> {
    begin(&backend, 1, ann(), 0).await?;
    for seconds in (500..3600).step_by(500) {
        assert!(backend.sessions.touch(key(1), at(seconds)).await?.is_some());
    }
    assert!(is_live(&backend, 1, at(3599)).await?);
    assert!(!is_live(&backend, 1, at(3600)).await?);
    assert_eq!(backend.sessions.touch(key(1), at(3600)).await?, None);
    Ok(())
}

/// The later touch counts, in whatever order they come.
pub async fn a_clock_that_lags_takes_nothing_away(backend: Backend) -> Result<()> {
    begin(&backend, 1, ann(), 0).await?;
    backend.sessions.touch(key(1), at(500)).await?;
    let touched = backend.sessions.touch(key(1), at(400)).await?;
    assert_eq!(touched.map(|session| session.used_at), Some(at(500)));
    assert!(is_live(&backend, 1, at(1099)).await?);
    Ok(())
}

/// For good: its token may be used again by nobody but a new session.
pub async fn a_deleted_session_is_gone(backend: Backend) -> Result<()> {
    begin(&backend, 1, ann(), 0).await?;
    begin(&backend, 2, ann(), 0).await?;
    assert!(backend.sessions.delete(key(1)).await?);
    assert!(!backend.sessions.delete(key(1)).await?);
    assert!(!is_live(&backend, 1, at(1)).await?);
    assert_eq!(backend.sessions.touch(key(1), at(1)).await?, None);
    assert!(is_live(&backend, 2, at(1)).await?);
    begin(&backend, 1, stranger(), 2).await?;
    assert_eq!(backend.sessions.delete_all(&ann()).await?, 1);
    assert!(is_live(&backend, 1, at(3)).await?);
    Ok(())
}

/// Others of the tenant, and the same name in another tenant, stay.
pub async fn a_principal_is_signed_out_everywhere(backend: Backend) -> Result<()> {
    let ann = Scope::new("t", "ann");
    let others = [
        Scope::new("t", "bob"),
        Scope::new("t2", "ann"),
        Scope::new("ta", "nn"),
        Scope::new("t", "Ann"),
    ];
    for n in 1..=3 {
        begin(&backend, n, ann.clone(), 0).await?;
    }
    for (n, other) in (4..).zip(others) {
        begin(&backend, n, other, 0).await?;
    }
    assert_eq!(backend.sessions.delete_all(&ann).await?, 3);
    assert_eq!(backend.sessions.delete_all(&ann).await?, 0);
    for n in 1..=7 {
        assert_eq!(is_live(&backend, n, at(1)).await?, n > 3, "{n}");
    }
    begin(&backend, 1, ann.clone(), 1).await?;
    assert!(is_live(&backend, 1, at(2)).await?);
    assert_eq!(backend.sessions.delete_all(&ann).await?, 1);
    Ok(())
}

/// And what fits is kept.
pub async fn large_data_is_refused(backend: Backend) -> Result<()> {
    // `{"x":"…"}`
    let sized = |bytes: usize| Session {
        data: map(value!({"x": "a".repeat(bytes - 8)})),
        ..session(ann(), 0)
    };
    let large = backend.sessions.create(key(1), sized(MAX_DATA_BYTES + 1));
    refused(large.await, Invalid);
    assert!(!is_live(&backend, 1, at(1)).await?);
    backend
        .sessions
        .create(key(1), sized(MAX_DATA_BYTES))
        .await?;
    let found = backend.sessions.get(key(1), at(1)).await?;
    let length = |session: &Session| session.data.get("x").and_then(Value::as_str).map(str::len);
    assert_eq!(found.as_ref().and_then(length), Some(MAX_DATA_BYTES - 8));
    Ok(())
}

/// A few at a time, or none where they go by themselves.
pub async fn sweeping_leaves_live_sessions(backend: Backend) -> Result<()> {
    for n in 1..=3 {
        begin(&backend, n, ann(), 0).await?;
    }
    begin(&backend, 4, stranger(), 0).await?;
    begin(&backend, 5, ann(), 10).await?;
    assert_eq!(backend.sessions.sweep(at(599), 9).await?, 0);
    let mut swept = Vec::new();
    for _ in 0..3 {
        swept.push(backend.sessions.sweep(at(600), 3).await?);
    }
    assert!(swept == [3, 1, 0] || swept == [0, 0, 0], "{swept:?}");
    assert!(is_live(&backend, 5, at(600)).await?);
    Ok(())
}
