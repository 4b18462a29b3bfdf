//! Ways by which one tenant could reach another that are not a plain request for its ids.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{
    bodies::Things,
    world::{Tenant, World},
};

fn hides(text: &str, theirs: &Things) {
    assert!(!text.contains(&theirs.marker), "{text}");
}

async fn own_thread(world: &World, ours: &Tenant) -> String {
    let made = world.send(&ours.key, "POST", "/threads", &json!({})).await;
    made.json()["thread_id"].as_str().unwrap().to_owned()
}

/// An assistant of another tenant runs for nobody else, by no way that runs are made.
pub async fn foreign_assistants(world: &World, ours: &Tenant, theirs: &Things) {
    let thread = own_thread(world, ours).await;
    let body = json!({ "assistant_id": theirs.assistant, "input": {} });
    for path in [
        "/runs".to_owned(),
        "/runs/wait".to_owned(),
        "/runs/stream".to_owned(),
        "/runs/crons".to_owned(),
        format!("/threads/{thread}/runs"),
        format!("/threads/{thread}/runs/wait"),
        format!("/threads/{thread}/runs/crons"),
    ] {
        let mut body = body.clone();
        body["schedule"] = json!("0 0 1 1 *");
        let reply = world.send(&ours.key, "POST", &path, &body).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    // The system's assistants are each tenant's own, also by their ids.
    let system = "fe096781-5601-53d2-b2f6-0d3403f7e9ca";
    let reply = world.get(&ours.key, &format!("/assistants/{system}")).await;
    assert_eq!(reply.status, 404);
    let own = world
        .send(&ours.key, "POST", "/assistants/search", &json!({}))
        .await
        .json();
    assert_eq!(own.as_array().unwrap().len(), 2, "{own}");
    let id = own[0]["assistant_id"].as_str().unwrap();
    let patched = world
        .send(
            &ours.key,
            "PATCH",
            &format!("/assistants/{id}"),
            &json!({ "name": "x" }),
        )
        .await;
    assert_eq!(patched.status, 200);
    let default = world
        .get(&world.root, &format!("/assistants/{system}"))
        .await
        .json();
    assert_ne!(default["name"], "x");
}

/// A checkpoint of another tenant's thread is none of ours.
pub async fn foreign_checkpoints(world: &World, ours: &Tenant, theirs: &Things) {
    let thread = own_thread(world, ours).await;
    let input = json!({ "messages": [{ "role": "user", "content": "hello" }] });
    let run = json!({ "assistant_id": "agent", "input": input });
    let path = format!("/threads/{thread}/runs/wait");
    assert_eq!(world.send(&ours.key, "POST", &path, &run).await.status, 200);
    for checkpoint in [
        json!({ "checkpoint_id": theirs.checkpoint }),
        json!({ "thread_id": theirs.thread, "checkpoint_id": theirs.checkpoint, "checkpoint_ns": "" }),
    ] {
        let mut run = run.clone();
        run["checkpoint"] = checkpoint.clone();
        hides(
            &world.send(&ours.key, "POST", &path, &run).await.text,
            theirs,
        );
        let at = format!("/threads/{thread}/state/checkpoint");
        let state = world
            .send(&ours.key, "POST", &at, &json!({ "checkpoint": checkpoint }))
            .await;
        assert_eq!(state.status, 404, "{state:?}");
        let update = json!({ "values": { "messages": [] }, "checkpoint": checkpoint });
        let update = world
            .send(
                &ours.key,
                "POST",
                &format!("/threads/{thread}/state"),
                &update,
            )
            .await;
        hides(&update.text, theirs);
    }
    let state = world
        .get(
            &ours.key,
            &format!("/threads/{thread}/state/{}", theirs.checkpoint),
        )
        .await;
    assert_eq!(state.status, 404);
    let history = format!("/threads/{thread}/history?before={}", theirs.checkpoint);
    hides(&world.get(&ours.key, &history).await.text, theirs);
    let copied = world
        .send(
            &ours.key,
            "POST",
            &format!("/threads/{}/copy", theirs.thread),
            &json!({}),
        )
        .await;
    assert_eq!(copied.status, 409, "as for a thread that does not exist");
}

/// Configuration may name a thread; the run's own one counts.
pub async fn foreign_threads_in_configuration(world: &World, ours: &Tenant, theirs: &Things) {
    let thread = own_thread(world, ours).await;
    let configurable = json!({
        "thread_id": theirs.thread, "checkpoint_id": theirs.checkpoint, "checkpoint_ns": "",
        "langgraph_auth_user_id": "somebody else", "user_id": "somebody else",
    });
    let run = json!({
        "assistant_id": "agent", "config": { "configurable": configurable },
        "input": { "messages": [{ "role": "user", "content": "hello" }] },
    });
    for path in [
        format!("/threads/{thread}/runs/wait"),
        "/runs/wait".to_owned(),
    ] {
        let reply = world.send(&ours.key, "POST", &path, &run).await;
        hides(&reply.text, theirs);
    }
    let runs = world
        .get(&ours.key, &format!("/threads/{thread}/runs"))
        .await
        .json();
    let stored = &runs[0]["kwargs"]["config"]["configurable"];
    assert_eq!(stored["thread_id"], json!(thread));
    assert_eq!(stored["langgraph_auth_user_id"], "user");
    assert_eq!(stored["user_id"], "user");
}

/// Commands of protocol v2 to another tenant's thread.
pub async fn commands(world: &World, ours: &Tenant, theirs: &Things) {
    let path = format!("/threads/{}/commands", theirs.thread);
    for (method, params) in [
        ("run.start", json!({ "assistant_id": "agent", "input": {} })),
        (
            "input.respond",
            json!({ "interrupt_id": "x", "response": 1 }),
        ),
        ("agent.getTree", json!({})),
    ] {
        let command = json!({ "id": 1, "method": method, "params": params });
        let reply = world.send(&ours.key, "POST", &path, &command).await;
        assert_eq!(reply.json()["type"], "error", "{method}: {reply:?}");
        hides(&reply.text, theirs);
    }
}

/// The same over a socket, which stays open and tells nothing.
pub async fn sockets(world: &World, ours: &Tenant, theirs: &Things) {
    let url = world.url.replacen("http", "ws", 1);
    let place = format!("{url}/threads/{}/stream/events", theirs.thread);
    assert!(
        tokio_tungstenite::connect_async(&place).await.is_err(),
        "without a key there is no socket"
    );
    let mut request = place.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("x-api-key", ours.key.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let frames = [
        json!({ "id": 1, "method": "subscription.subscribe", "params": { "channels": ["values", "lifecycle", "messages"] } }),
        json!({ "id": 2, "method": "run.start", "params": { "assistant_id": "agent", "input": {} } }),
        json!({ "id": 3, "method": "agent.getTree", "params": {} }),
    ];
    for frame in frames {
        socket.send(Message::text(frame.to_string())).await.unwrap();
    }
    let mut told = Vec::new();
    let wait = std::time::Duration::from_millis(1500);
    while let Ok(Some(Ok(message))) = tokio::time::timeout(wait, socket.next()).await {
        if let Message::Text(text) = message {
            hides(&text, theirs);
            told.push(serde_json::from_str::<Value>(&text).unwrap());
        }
        if told.len() > 3 {
            break;
        }
    }
    assert_eq!(told.len(), 3, "answers, and no event: {told:?}");
    assert_eq!(
        (&told[1]["type"], &told[2]["type"]),
        (&json!("error"), &json!("error"))
    );
}

/// Streams of another tenant's runs and threads.
pub async fn streams(world: &World, ours: &Tenant, theirs: &Things) {
    let (thread, run) = (&theirs.thread, &theirs.run);
    for path in [
        format!("/threads/{thread}/runs/{run}/stream"),
        format!("/threads/{thread}/runs/{run}/join"),
        format!("/runs/{run}/stream"),
        format!("/runs/{run}/join"),
        format!("/threads/{thread}/stream"),
    ] {
        let reply = world.get(&ours.key, &path).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    let filter = json!({ "channels": ["values", "lifecycle", "messages"], "since": 0 });
    let path = format!("/threads/{thread}/stream/events");
    let reply = world.send(&ours.key, "POST", &path, &filter).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text.contains("event:"), "{reply:?}");
}

/// Items of the same name are two items, and the root of other tenants is out of reach.
pub async fn items(world: &World, ours: &Tenant, theirs: &Tenant, things: &Things) {
    let put = |value: Value| json!({ "namespace": ["shared"], "key": "same", "value": value });
    let mine = put(json!({ "mine": 1 }));
    assert_eq!(
        world
            .send(&ours.key, "PUT", "/store/items", &mine)
            .await
            .status,
        204
    );
    let path = "/store/items?namespace=shared&key=same";
    assert_eq!(
        world.get(&ours.key, path).await.json()["value"],
        json!({ "mine": 1 })
    );
    let there = world.get(&theirs.key, path).await.json();
    assert_eq!(there["value"], json!({ "mark": things.marker }));
    let all = json!({ "namespace_prefix": [], "limit": 1000 });
    hides(
        &world
            .send(&ours.key, "POST", "/store/items/search", &all)
            .await
            .text,
        things,
    );
    let names = world
        .send(
            &ours.key,
            "POST",
            "/store/namespaces",
            &json!({ "limit": 1000 }),
        )
        .await;
    hides(&names.text, things);
    // The default tenant has no label of its own; it must not reach below those of others.
    let label = format!("@tenant:{}", things.tenant);
    for body in [
        json!({ "namespace_prefix": [label] }),
        json!({ "namespace_prefix": [] }),
    ] {
        hides(
            &world
                .send(&world.root, "POST", "/store/items/search", &body)
                .await
                .text,
            things,
        );
    }
    let names = world
        .send(
            &world.root,
            "POST",
            "/store/namespaces",
            &json!({ "limit": 1000 }),
        )
        .await;
    hides(&names.text, things);
    let forged = json!({ "namespace": [label, "shared"], "key": "same", "value": {} });
    let forged = world
        .send(&world.root, "PUT", "/store/items", &forged)
        .await;
    assert_eq!(forged.status, 400, "{forged:?}");
}

/// An admin makes keys only of its own tenant, and sees only its log.
pub async fn keys_of_a_tenant(world: &World, ours: &Tenant, theirs: &Things) {
    let log = world.get(&ours.admin, "/admin/audit?limit=1000").await;
    hides(&log.text, theirs);
    assert!(!log.text.contains(&theirs.key));
    let keys = world
        .get(&ours.admin, "/admin/keys?limit=1000")
        .await
        .json();
    assert_eq!(keys.as_array().unwrap().len(), 2);
    for path in ["/admin/tenants", "/metrics"] {
        assert_eq!(world.get(&ours.admin, path).await.status, 403, "{path}");
    }
}
