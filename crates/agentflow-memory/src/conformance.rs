//! What holds over every database: cases that a backend's tests call with a fresh service.

use std::collections::HashSet;

use agentflow_storage::memories::OwnerKind;
use agentflow_types::{Error, Map, Result, Scope, Value};
use tokio::task::JoinSet;

use crate::{Add, Edit, Search, Service, Speech, Which};

const PROJECT: &str = "p";
const WRITERS: usize = 10;
const TENANTS: usize = 100;

fn said(text: &str) -> Add {
    let mut add = Add {
        messages: vec![Speech {
            role: "user".into(),
            content: text.into(),
            name: None,
        }],
        ..Add::default()
    };
    add.owner.set(OwnerKind::User, Some("ada".into()));
    add
}

/// An edit that leaves the mark of a writer.
fn marked(writer: usize) -> Edit {
    Edit {
        metadata: Some([(format!("w{writer}").into(), Value::Bool(true))].into()),
        ..Edit::default()
    }
}

async fn ended(mut work: JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = work.join_next().await {
        done.map_err(|err| Error::bug("a writer panicked").source_err(err))??;
    }
    Ok(())
}

/// Ten writers add to each of a hundred tenants and change what they added: every tenant finds
/// its own, all of it, and the index is what the records say.
///
/// # Errors
/// Whatever a writer gets: none of them may.
///
/// # Panics
/// If something was lost or found where it does not belong.
pub async fn ten_writers_of_a_hundred_tenants_lose_nothing(service: Service) -> Result<()> {
    let mut work = JoinSet::new();
    for writer in 0..WRITERS {
        let service = service.clone();
        work.spawn(async move {
            for tenant in 0..TENANTS {
                let scope = Scope::new(&format!("t{tenant}"), "w");
                let text = format!("tea of tenant{tenant} writer{writer}");
                let added = service.add(&scope, PROJECT, said(&text)).await?;
                let id = added.memories[0].memory_id;
                let edit = marked(writer);
                service.update(&scope, PROJECT, id, &edit).await?;
            }
            Ok(())
        });
    }
    ended(work).await?;
    let filter: Map = [("user_id".into(), Value::str("ada"))].into();
    let search = Search {
        query: "tea".into(),
        which: Which {
            filter,
            ..Which::default()
        },
        top_k: 50,
        threshold: 0.0,
        ..Search::default()
    };
    for tenant in 0..TENANTS {
        let scope = Scope::new(&format!("t{tenant}"), "w");
        let found = service.search(&scope, PROJECT, &search).await?;
        let texts: HashSet<String> = found.into_iter().map(|one| one.memory.text).collect();
        let own = (0..WRITERS).map(|writer| format!("tea of tenant{tenant} writer{writer}"));
        assert_eq!(texts, own.collect::<HashSet<_>>());
    }
    let drift = service.check().await?;
    let records = (WRITERS * TENANTS) as u64;
    assert_eq!(
        (drift.records, drift.missing, drift.orphans),
        (records, 0, 0)
    );
    Ok(())
}

/// Ten writers change one memory at once: each change is there in the end.
///
/// # Errors
/// As above.
///
/// # Panics
/// If a change was lost.
pub async fn writers_of_one_memory_lose_no_update(service: Service) -> Result<()> {
    let scope = Scope::local();
    let added = service.add(&scope, PROJECT, said("tea")).await?;
    let id = added.memories[0].memory_id;
    let mut work = JoinSet::new();
    for writer in 0..WRITERS {
        let (service, scope) = (service.clone(), scope.clone());
        work.spawn(async move {
            let edit = marked(writer);
            service.update(&scope, PROJECT, id, &edit).await.map(drop)
        });
    }
    ended(work).await?;
    let memory = service.get(&scope, PROJECT, id, None).await?;
    assert_eq!(memory.version, 1 + WRITERS as u64);
    assert_eq!(memory.metadata.len(), WRITERS);
    Ok(())
}
