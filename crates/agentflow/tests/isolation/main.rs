//! Two tenants on one server: every operation of one with the other's ids, filters and cursors.
//!
//! The operations come from the server's own description, so a new one fails here until it says
//! what it is to be asked with. Each is asked twice: with the other tenant's things, and with
//! things that do not exist. The answers must be the same, so that nobody even learns what is
//! there; and afterwards the other tenant's things are as they were.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bodies;
mod crossing;
mod world;

use std::collections::BTreeMap;

use serde_json::Value;

use bodies::{Ask, Things, asks};
use world::{Reply, Store, Tenant, World};

/// The tests on every store.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Store::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Store::Postgres).await;
            })*
        }
    };
}

on_every_store! {
    no_operation_reaches_another_tenant,
    nothing_crosses_by_way_of_runs_states_streams_or_items,
    a_shut_tenant_is_shut_at_once,
}

/// Answers that are alike for what exists and what does not, by what they mean.
fn verdict(reply: &Reply) -> &'static str {
    match reply.status {
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        422 | 400 => "refused as malformed",
        501 => "not offered",
        200..300 => "empty, or only what is one's own",
        _ => "other",
    }
}

async fn no_operation_reaches_another_tenant(store: Store) {
    let world = World::start(store).await;
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let their_things = theirs.fill(&world).await;
    ours.fill(&world).await;
    let before = theirs.everything(&world, &their_things).await;
    let api = world.get(&ours.key, "/openapi.json").await.json();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut operations = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if !["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                continue;
            }
            operations += 1;
            for ask in asks(method, path, methods[method]["requestBody"].is_object()) {
                let seen = crossed(&world, &ours, &their_things, &ask).await;
                *counts.entry(seen).or_default() += 1;
            }
        }
    }
    println!(
        "{store:?}: {operations} operations, {} requests: {counts:?}",
        counts.values().sum::<u32>()
    );
    assert!(operations > 80, "{operations}");
    assert!(!counts.contains_key("other"), "{counts:?}");
    let after = theirs.everything(&world, &their_things).await;
    for ((what, was), (_, is)) in before.iter().zip(&after) {
        assert_eq!(was, is, "{what} changed");
    }
    world.stop().await;
}

/// Asks with another tenant's things and with nobody's; the answers must not differ.
async fn crossed(world: &World, ours: &Tenant, theirs: &Things, ask: &Ask) -> &'static str {
    let nobodys = theirs.invented();
    let foreign = world.ask(&ours.admin, ask, theirs).await;
    let missing = world.ask(&ours.admin, ask, &nobodys).await;
    let line = format!("{} {}", ask.method, ask.path);
    assert!(
        foreign.status < 500 || foreign.status == 501,
        "{line}: {foreign:?}"
    );
    assert!(
        !foreign.text.contains(theirs.marker.as_str()) || ask.echoes,
        "{line} shows what is another tenant's: {}",
        foreign.text
    );
    if ask.chooses_id {
        // An id that is taken cannot be had; nothing else is said about it.
        assert_eq!(foreign.status, 409, "{line}: {foreign:?}");
    } else {
        let (seen, want) = (theirs.hidden(&foreign.text), nobodys.hidden(&missing.text));
        assert_eq!(
            (foreign.status, seen),
            (missing.status, want),
            "{line} tells what exists from what does not"
        );
    }
    verdict(&foreign)
}

async fn nothing_crosses_by_way_of_runs_states_streams_or_items(store: Store) {
    let world = World::start(store).await;
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let things = theirs.fill(&world).await;
    crossing::foreign_assistants(&world, &ours, &things).await;
    crossing::foreign_checkpoints(&world, &ours, &things).await;
    crossing::foreign_threads_in_configuration(&world, &ours, &things).await;
    crossing::commands(&world, &ours, &things).await;
    crossing::sockets(&world, &ours, &things).await;
    crossing::streams(&world, &ours, &things).await;
    crossing::items(&world, &ours, &theirs, &things).await;
    crossing::keys_of_a_tenant(&world, &ours, &things).await;
    world.stop().await;
}

async fn a_shut_tenant_is_shut_at_once(store: Store) {
    let world = World::start(store).await;
    let ours = world.tenant("ours").await;
    assert_eq!(world.get(&ours.key, "/auth/me").await.status, 200);
    let shut = serde_json::json!({ "enabled": false });
    let line = ("PATCH", "/admin/tenants/ours");
    assert_eq!(
        world.send(&world.root, line.0, line.1, &shut).await.status,
        200
    );
    let refused = world.get(&ours.key, "/auth/me").await;
    assert_eq!(
        (refused.status, refused.json()["detail"].clone()),
        (403, Value::from("The tenant is shut."))
    );
    world.stop().await;
}
