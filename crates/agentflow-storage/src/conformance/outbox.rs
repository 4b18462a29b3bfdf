//! Cases of [`crate::outbox::Outbox`].

use agentflow_types::{ErrorKind::Conflict, LetterId, Result, Scope, Timestamp, Value, value};
use uuid::Uuid;

use super::{
    refused,
    sample::{at, change, event, run, stranger, thread},
    suite,
};
use crate::{
    Backend,
    outbox::{Depth, Letter, Posted, Settled},
    record::Change,
};

suite! {
    ($)
    /// Instantiates the cases of the outbox port.
    outbox_conformance:
    a_letter_is_read_back,
    a_letter_comes_with_its_decision_or_not_at_all,
    a_letter_outlives_its_thread,
    a_letter_is_stored_once,
    letters_are_claimed_by_one,
    the_longest_due_letters_come_first,
    a_stale_claim_has_no_say,
    topics_are_apart,
    dead_letters_are_seen_and_revived,
    strangers_see_no_letter,
    old_dead_letters_are_forgotten,
    letters_are_counted,
}

/// The topic of most cases.
const TOPIC: &str = "webhook";

fn letter_id(n: u8) -> LetterId {
    LetterId(Uuid::from_u128(u128::from(n) + (5 << 64)))
}

fn letter(n: u8) -> Letter {
    Letter {
        letter_id: letter_id(n),
        topic: TOPIC.into(),
        created_at: at(n.into()),
        body: value!({"url": "https://example.org", "n": [1, 1.0, null]}),
    }
}

async fn post(backend: &Backend, letters: impl IntoIterator<Item = Letter>) -> Result<()> {
    let letters = letters.into_iter().map(|one| Change::Post(Box::new(one)));
    change(backend, &Scope::local(), 1, letters.collect()).await
}

fn numbers(posted: &[Posted]) -> Vec<u8> {
    let last = |posted: &Posted| posted.letter.letter_id.0.as_bytes()[15];
    posted.iter().map(last).collect()
}

async fn claim(backend: &Backend, now: i64, until: i64, limit: u32) -> Result<Vec<Posted>> {
    let outbox = &backend.outbox;
    outbox.claim(TOPIC, at(now), at(until), limit).await
}

/// Gives up a letter.
async fn kill(backend: &Backend, n: u8, when: i64) -> Result<()> {
    let posted = claim(backend, 100, 200, 100).await?;
    let posted = posted.iter().find(|p| p.letter.letter_id == letter_id(n));
    let attempt = posted.map_or(0, |posted| posted.attempt);
    let dead = Settled::Dead(at(when), "gone".into());
    assert!(backend.outbox.settle(letter_id(n), attempt, dead).await?);
    Ok(())
}

async fn dead(backend: &Backend, scope: &Scope) -> Result<Vec<u8>> {
    let page = backend.outbox.dead(scope, TOPIC, 10, 0).await?;
    assert_eq!(page.total, page.items.len() as u64);
    Ok(numbers(&page.items))
}

/// Every field, at each stage.
pub async fn a_letter_is_read_back(backend: Backend) -> Result<()> {
    post(&backend, [letter(1)]).await?;
    let mut want = Posted {
        letter: letter(1),
        tenant: Scope::local().tenant().to_owned(),
        attempt: 1,
        is_dead: false,
        due_at: at(20),
        error: String::new(),
    };
    assert_eq!(claim(&backend, 9, 20, 10).await?, [want.clone()]);
    let again = Settled::Again(at(30), "no \u{0} answer \u{e9}".into());
    assert!(backend.outbox.settle(letter_id(1), 1, again).await?);
    let second = claim(&backend, 30, 40, 10).await?;
    assert!(second[0].error.starts_with("no "), "{second:?}");
    assert_eq!((second[0].attempt, second[0].due_at), (2, at(40)));
    let given_up = Settled::Dead(at(41), "gone".into());
    assert!(backend.outbox.settle(letter_id(1), 2, given_up).await?);
    (want.attempt, want.due_at, want.is_dead) = (2, at(41), true);
    want.error = "gone".into();
    let found = backend.outbox.dead(&Scope::local(), TOPIC, 10, 0).await?;
    assert_eq!(found.items, [want]);
    Ok(())
}

/// The outbox is part of the decision's transaction.
pub async fn a_letter_comes_with_its_decision_or_not_at_all(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let put = |n| Change::PutThread(Box::new(thread(n)));
    let first = vec![put(1), Change::Append(vec![event(1, 1)])];
    change(&backend, &scope, 1, first).await?;
    let refused_later = vec![
        Change::Post(Box::new(letter(1))),
        Change::PutRun(Box::new(run(1, 1))),
        Change::Append(vec![event(1, 1)]),
    ];
    refused(change(&backend, &scope, 1, refused_later).await, Conflict);
    assert_eq!(numbers(&claim(&backend, 9, 20, 10).await?), [0_u8; 0]);
    let accepted = vec![
        Change::PutRun(Box::new(run(1, 1))),
        Change::Post(Box::new(letter(1))),
        Change::Append(vec![event(2, 1)]),
    ];
    change(&backend, &scope, 1, accepted).await?;
    assert_eq!(numbers(&claim(&backend, 9, 20, 10).await?), [1]);
    Ok(())
}

/// Also in the decision that removes it.
pub async fn a_letter_outlives_its_thread(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let put = Change::PutThread(Box::new(thread(1)));
    let with = vec![put, Change::Post(Box::new(letter(1)))];
    change(&backend, &scope, 1, with).await?;
    let without = vec![Change::DeleteThread, Change::Post(Box::new(letter(2)))];
    change(&backend, &scope, 1, without).await?;
    assert_eq!(numbers(&claim(&backend, 9, 20, 10).await?), [1, 2]);
    Ok(())
}

/// A decision that is repeated because its answer was lost changes nothing.
pub async fn a_letter_is_stored_once(backend: Backend) -> Result<()> {
    post(&backend, [letter(1)]).await?;
    assert_eq!(claim(&backend, 9, 20, 10).await?.len(), 1);
    let other = Letter {
        body: Value::Null,
        ..letter(1)
    };
    post(&backend, [other]).await?;
    assert_eq!(claim(&backend, 9, 20, 10).await?, []);
    let again = claim(&backend, 20, 30, 10).await?;
    assert_eq!((again[0].attempt, &again[0].letter), (2, &letter(1)));
    Ok(())
}

/// Callers at the same time share the letters; after a claim's time they are handed out again.
pub async fn letters_are_claimed_by_one(backend: Backend) -> Result<()> {
    post(&backend, (1..=20).map(letter)).await?;
    let callers = (0..8).map(|_| {
        let backend = backend.clone();
        tokio::spawn(async move { claim(&backend, 50, 60, 3).await })
    });
    let mut seen = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        let claimed = caller
            .await
            .map_err(|err| agentflow_types::Error::bug("a caller panicked").source_err(err))??;
        assert!(claimed.len() <= 3);
        seen.extend(numbers(&claimed));
    }
    loop {
        let rest = claim(&backend, 50, 60, 3).await?;
        if rest.is_empty() {
            break;
        }
        seen.extend(numbers(&rest));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=20).collect::<Vec<u8>>());
    assert_eq!(claim(&backend, 59, 70, 100).await?, []);
    assert_eq!(claim(&backend, 60, 70, 100).await?.len(), 20);
    Ok(())
}

/// And none comes before its time.
pub async fn the_longest_due_letters_come_first(backend: Backend) -> Result<()> {
    post(&backend, [letter(3), letter(1), letter(2)]).await?;
    assert_eq!(numbers(&claim(&backend, 0, 20, 10).await?), [0_u8; 0]);
    assert_eq!(numbers(&claim(&backend, 2, 20, 1).await?), [1]);
    assert_eq!(numbers(&claim(&backend, 2, 20, 10).await?), [2]);
    assert_eq!(numbers(&claim(&backend, 3, 20, 10).await?), [3]);
    Ok(())
}

/// Whoever was too slow changes nothing, whatever it says.
pub async fn a_stale_claim_has_no_say(backend: Backend) -> Result<()> {
    post(&backend, [letter(1)]).await?;
    assert_eq!(claim(&backend, 5, 6, 1).await?[0].attempt, 1);
    assert_eq!(claim(&backend, 6, 9, 1).await?[0].attempt, 2);
    let outbox = &backend.outbox;
    let said = [
        Settled::Delivered,
        Settled::Again(at(1), String::new()),
        Settled::Dead(at(1), String::new()),
    ];
    for settled in said {
        assert!(!outbox.settle(letter_id(1), 1, settled).await?);
    }
    assert_eq!(claim(&backend, 8, 9, 1).await?, []);
    assert!(outbox.settle(letter_id(1), 2, Settled::Delivered).await?);
    assert!(!outbox.settle(letter_id(1), 2, Settled::Delivered).await?);
    assert_eq!(claim(&backend, 99, 100, 1).await?, []);
    Ok(())
}

/// A dispatcher gets only what it can deliver.
pub async fn topics_are_apart(backend: Backend) -> Result<()> {
    let other = Letter {
        topic: "index".into(),
        ..letter(2)
    };
    post(&backend, [letter(1), other]).await?;
    assert_eq!(numbers(&claim(&backend, 9, 20, 10).await?), [1]);
    let index = backend.outbox.claim("index", at(9), at(20), 10).await?;
    assert_eq!(numbers(&index), [2]);
    assert_eq!(backend.outbox.depth("index").await?.waiting, 1);
    Ok(())
}

/// One more attempt for a revived one; a discarded one is gone.
pub async fn dead_letters_are_seen_and_revived(backend: Backend) -> Result<()> {
    let (scope, outbox) = (Scope::local(), &backend.outbox);
    post(&backend, [letter(1), letter(2), letter(3)]).await?;
    let given_up = |when| Settled::Dead(at(when), "gone".into());
    claim(&backend, 9, 20, 10).await?;
    for (n, when) in [(1, 12), (2, 11), (3, 13)] {
        assert!(outbox.settle(letter_id(n), 1, given_up(when)).await?);
    }
    assert_eq!(dead(&backend, &scope).await?, [3, 1, 2]);
    let page = outbox.dead(&scope, TOPIC, 1, 1).await?;
    assert_eq!((numbers(&page.items), page.total), (vec![1], 3));
    assert_eq!(claim(&backend, 999, 1000, 10).await?, []);
    assert!(!outbox.settle(letter_id(1), 1, Settled::Delivered).await?);

    assert!(outbox.revive(&scope, letter_id(1), at(50)).await?);
    assert!(!outbox.revive(&scope, letter_id(1), at(50)).await?);
    assert_eq!(claim(&backend, 49, 60, 10).await?, []);
    assert_eq!(claim(&backend, 50, 60, 10).await?[0].attempt, 2);
    assert!(outbox.discard(&scope, letter_id(2)).await?);
    assert!(!outbox.discard(&scope, letter_id(2)).await?);
    assert!(!outbox.discard(&scope, letter_id(1)).await?);
    assert_eq!(dead(&backend, &scope).await?, [3]);
    Ok(())
}

/// Nor can they touch it.
pub async fn strangers_see_no_letter(backend: Backend) -> Result<()> {
    let other = stranger();
    post(&backend, [letter(1)]).await?;
    kill(&backend, 1, 9).await?;
    assert_eq!(dead(&backend, &other).await?, [0_u8; 0]);
    assert!(!backend.outbox.revive(&other, letter_id(1), at(1)).await?);
    assert!(!backend.outbox.discard(&other, letter_id(1)).await?);
    assert_eq!(dead(&backend, &Scope::local()).await?, [1]);
    Ok(())
}

/// Those that wait are not, however old.
pub async fn old_dead_letters_are_forgotten(backend: Backend) -> Result<()> {
    post(&backend, (1..=4).map(letter)).await?;
    kill(&backend, 1, 10).await?;
    let outbox = &backend.outbox;
    for (n, when) in [(2, 10), (3, 20)] {
        let dead = Settled::Dead(at(when), String::new());
        assert!(outbox.settle(letter_id(n), 1, dead).await?);
    }
    assert_eq!(outbox.forget(at(15), 1).await?, 1);
    assert_eq!(outbox.forget(at(15), 9).await?, 1);
    assert_eq!(outbox.forget(at(15), 9).await?, 0);
    assert_eq!(dead(&backend, &Scope::local()).await?, [3]);
    assert_eq!(outbox.depth(TOPIC).await?.waiting, 1);
    Ok(())
}

/// With the age of the oldest.
pub async fn letters_are_counted(backend: Backend) -> Result<()> {
    assert_eq!(backend.outbox.depth(TOPIC).await?, Depth::default());
    post(&backend, [letter(1), letter(2), letter(3)]).await?;
    kill(&backend, 1, 9).await?;
    let want = Depth {
        waiting: 2,
        dead: 1,
        oldest: Some(Timestamp(at(2).0)),
    };
    assert_eq!(backend.outbox.depth(TOPIC).await?, want);
    Ok(())
}
