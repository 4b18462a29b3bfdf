//! The protocol over a WebSocket: commands and subscriptions in, answers and events out.

use std::sync::Arc;

use agentflow_types::{Value, from_value};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Filter,
    command::{Caller, Envelope, Refusal, answer, encode},
    trunk::{Trunk, Wanted},
};
use crate::{
    AppState,
    queue::{Sender, queue},
};

/// Close code of a server that stops.
const GOING_AWAY: u16 = 1001;
/// Close code of a server that cannot read the log for now.
const AGAIN_LATER: u16 = 1013;
/// Close code of a client that does not read: 4000 plus HTTP's request timeout.
const STALLED: u16 = 4408;

/// Serves one socket until either side closes it.
pub(crate) async fn serve(app: AppState, caller: Caller, socket: WebSocket) {
    let (mut sink, mut incoming) = socket.split();
    let (tx, mut outgoing) = queue(app.limits.frames, app.limits.stream_bytes);
    let mut session = Session::new(&app, caller, tx);
    let mut heartbeat = tokio::time::interval(app.limits.heartbeat);
    heartbeat.reset();
    let close = loop {
        let message = tokio::select! {
            () = app.closing.cancelled() => break Some(GOING_AWAY),
            // A subscription that ends in silence would look like a thread without news.
            () = session.broken.cancelled() => break Some(AGAIN_LATER),
            Some(text) = outgoing.recv() => Message::text(text),
            received = incoming.next() => match received {
                Some(Ok(Message::Text(text))) => {
                    Message::text(session.frame(text.as_bytes()).await.to_string())
                }
                Some(Ok(Message::Binary(bytes))) => {
                    Message::text(session.frame(&bytes).await.to_string())
                }
                // The library answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
            },
            _ = heartbeat.tick() => Message::Ping(bytes::Bytes::new()),
        };
        if send(&app, &mut sink, message).await.is_err() {
            break Some(STALLED);
        }
    };
    if let Some(code) = close {
        let frame = CloseFrame {
            code,
            reason: "".into(),
        };
        // The other side may be gone already.
        let _ = send(&app, &mut sink, Message::Close(Some(frame))).await;
    }
}

/// Sends within the time that a client may leave things unread.
async fn send(
    app: &AppState,
    sink: &mut SplitSink<WebSocket, Message>,
    message: Message,
) -> Result<(), ()> {
    match tokio::time::timeout(app.limits.stall, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

/// One socket's subscriptions.
struct Session {
    app: AppState,
    caller: Arc<Caller>,
    wanted: Arc<Wanted>,
    /// Feeds them.
    feeding: JoinHandle<()>,
    minted: u64,
    /// Fires when the log cannot be read further.
    broken: CancellationToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

impl Session {
    fn new(app: &AppState, caller: Caller, tx: Sender<String>) -> Self {
        let (caller, wanted) = (Arc::new(caller), Arc::<Wanted>::default());
        let trunk = Trunk::new(app.clone(), caller.clone(), wanted.clone(), tx);
        let broken = CancellationToken::new();
        let breaks = broken.clone();
        let feeding = app.tasks.spawn(async move {
            if let Err(err) = trunk.feed().await {
                tracing::warn!(error = %err, "subscriptions were broken off");
                breaks.cancel();
            }
        });
        Self {
            app: app.clone(),
            caller,
            wanted,
            feeding,
            minted: 0,
            broken,
        }
    }

    /// The answer to one frame.
    async fn frame(&mut self, bytes: &[u8]) -> Json {
        let parsed = crate::extract::decode::<Value>(bytes, self.app.limits.depth);
        let envelope = match parsed.map_err(|_| ()).as_ref().map(Envelope::parse) {
            Ok(Ok(envelope)) => envelope,
            Ok(Err(refusal)) => return refusal,
            Err(()) => {
                return json!({
                    "type": "error", "id": null, "error": "invalid_argument",
                    "message": "Frames must be JSON.",
                });
            }
        };
        match envelope.method.as_str() {
            "subscription.subscribe" => {
                let result = self.subscribe(&envelope.params);
                encode(envelope.id, result)
            }
            "subscription.unsubscribe" => {
                let result = self.unsubscribe(&envelope.params);
                encode(envelope.id, result)
            }
            // Subscriptions live with their socket; a client subscribes anew with `since`.
            "subscription.reconnect" => encode(envelope.id, Ok(json!({ "restored": false }))),
            _ => answer(&self.app, &self.caller, envelope).await,
        }
    }

    fn subscribe(&mut self, params: &Value) -> Result<Json, Refusal> {
        let wrong = |text: String| Refusal::new("invalid_argument", text);
        let filter: Filter = from_value(params).map_err(|err| wrong(err.message().to_owned()))?;
        filter.check().map_err(wrong)?;
        let id = format!("sub-{}", self.minted + 1);
        let most = self.app.limits.subscriptions;
        if !self.wanted.add(&id, filter, most) {
            return Err(wrong(format!("at most {most} subscriptions are allowed")));
        }
        self.minted += 1;
        Ok(json!({ "subscription_id": id, "replayed_events": 0 }))
    }

    fn unsubscribe(&mut self, params: &Value) -> Result<Json, Refusal> {
        let id = params
            .get("subscription_id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if self.wanted.remove(id) {
            return Ok(json!({}));
        }
        let text = format!("No subscription '{id}' on this socket.");
        Err(Refusal::new("no_such_subscription", text))
    }
}
