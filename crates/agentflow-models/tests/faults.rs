//! The three clients when the server misbehaves in every way it can.

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use agentflow_models::{ChatEvent, Kind, Limits, Provider};
use agentflow_testkit::{Fault, ModelServer, Outcome, Reply, Script, When, ports};
use agentflow_types::{Error, ErrorKind};
use futures_util::StreamExt;
use support::{Api, Client, Mode, ask, ask_until, each, each_mode, limits, request};
use tokio_util::sync::CancellationToken;

/// Longer than any of these cases takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks with a script; the error and the number of requests that it took.
async fn refused(api: Api, mode: Mode, script: Script) -> (Error, usize) {
    let (server, client) = support::start(api, script).await;
    let error = ask(&client, request("x"), mode)
        .await
        .expect_err("the script refuses");
    (error, server.requests().len())
}

#[tokio::test]
async fn busy_servers_are_asked_again() {
    each_mode(async |api, mode| {
        for status in [408, 409, 429, 500, 502, 503, 504, 529] {
            let script = Script::replies([Reply::status(status).times(2), Reply::text("ok")]);
            let (server, client) = support::start(api, script).await;
            assert_eq!(ask(&client, request("x"), mode).await.unwrap().1.text, "ok");
            assert_eq!(server.requests().len(), 3, "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn attempts_run_out() {
    each_mode(async |api, mode| {
        for (status, kind) in [
            (429, ErrorKind::Busy),
            (503, ErrorKind::Busy),
            (500, ErrorKind::Failed),
            (408, ErrorKind::Uncertain),
        ] {
            let reply = Reply {
                error: Some("too many cooks".into()),
                ..Reply::status(status)
            };
            let (error, requests) = refused(api, mode, Script::replies([reply])).await;
            assert_eq!((error.kind(), requests), (kind, 3));
            let shown = error.to_string();
            assert!(shown.contains("too many cooks"), "{shown}");
            assert!(shown.contains("attempts: 3"), "{shown}");
            assert!(shown.contains("request_id: req-2"), "{shown}");
        }
    })
    .await;
}

#[tokio::test]
async fn refusals_are_final() {
    each_mode(async |api, mode| {
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (403, ErrorKind::Denied),
            (404, ErrorKind::Invalid),
            (413, ErrorKind::Invalid),
            (307, ErrorKind::Failed),
        ] {
            let (error, requests) =
                refused(api, mode, Script::replies([Reply::status(status)])).await;
            assert_eq!((error.kind(), requests), (kind, 1), "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirect() {
    each_mode(async |api, mode| {
        let other = ModelServer::start(Script::default()).await.unwrap();
        let mut reply = Reply::status(307);
        reply.headers.insert(
            "location".into(),
            format!("{}/v1/chat/completions", other.url()),
        );
        let (error, requests) = refused(api, mode, Script::replies([reply])).await;
        assert_eq!((error.kind(), requests), (ErrorKind::Failed, 1));
        assert!(other.requests().is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_server_says_how_long_to_wait() {
    each_mode(async |api, mode| {
        let script = Script::replies([Reply::status(429).retry_after("0.2"), Reply::text("ok")]);
        let server = ModelServer::start(script).await.unwrap();
        let patient = Limits {
            backoff_max: Duration::from_secs(5),
            ..limits()
        };
        let client = Client::new(api, &server, |p| p.limits(patient.clone()));
        let began = Instant::now();
        ask(&client, request("x"), mode).await.unwrap();
        assert!(
            began.elapsed() >= Duration::from_millis(200),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(server.requests().len(), 2);

        // Asked for more patience than there is, the client gives up at once.
        let script = Script::replies([Reply::status(429).retry_after("3600")]);
        let (error, requests) = refused(api, mode, script).await;
        assert_eq!((error.kind(), requests), (ErrorKind::Busy, 1));
        assert!(
            error.to_string().contains("retry_after_ms: 3600000"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_asked_again_and_then_busy() {
    let port = ports::free().unwrap();
    for kind in [Kind::OpenAi, Kind::Anthropic, Kind::Ollama] {
        let provider = Provider::new(kind)
            .at(format!("http://user:pw@127.0.0.1:{port}"))
            .limits(limits());
        let client = Client::of(provider);
        let error = ask(&client, request("x"), Mode::Stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        let shown = format!("{error:?}");
        assert!(shown.contains("attempts: 3"), "{shown}");
        assert!(!shown.contains("pw"), "{shown}");
    }
}

#[tokio::test]
async fn connections_lost_before_the_first_piece_are_made_again() {
    each_mode(async |api, mode| {
        let mut faults = vec![Fault::Reset { after: None }, Fault::Break { after: 0 }];
        faults.push(Fault::Reset { after: Some(0) });
        if mode == Mode::Whole {
            faults.push(Fault::Break { after: 1 });
            faults.push(Fault::Reset { after: Some(1) });
        } else {
            faults.push(Fault::End { after: 0 });
        }
        for fault in faults {
            let script = Script::replies([
                Reply::text("a b").fault(fault.clone()).times(2),
                Reply::text("ok"),
            ]);
            let (server, client) = support::start(api, script).await;
            let answer = ask(&client, request("x"), mode).await.unwrap().1;
            assert_eq!(
                (answer.text.as_str(), server.requests().len()),
                ("ok", 3),
                "{fault:?}"
            );

            let script = Script::replies([Reply::text("a b").fault(fault.clone())]);
            let (error, requests) = refused(api, mode, script).await;
            assert_eq!(
                (error.kind(), requests),
                (ErrorKind::Failed, 3),
                "{fault:?}"
            );
        }
    })
    .await;
}

/// Frames before the first text, by wire format.
fn head(api: Api) -> usize {
    match api {
        Api::OpenAi => 1,
        Api::Anthropic => 3,
        Api::Ollama => 0,
    }
}

#[tokio::test]
async fn a_stream_that_breaks_later_ends_with_an_error() {
    each(async |api| {
        let after = head(api) + 2;
        for fault in [
            Fault::Break { after },
            Fault::Reset { after: Some(after) },
            Fault::End { after },
            Fault::Malformed { after },
        ] {
            let script = Script::replies([Reply::text("a b c d").fault(fault.clone())]);
            let (server, client) = support::start(api, script).await;
            let stream = client
                .chat()
                .stream(request("x"), CancellationToken::new())
                .await;
            let events: Vec<_> = stream.unwrap().collect().await;
            let texts = events
                .iter()
                .filter(|e| matches!(e, Ok(ChatEvent::Text(_))))
                .count();
            assert_eq!(texts, 2, "{fault:?} {events:?}");
            assert_eq!(events.len(), 3, "{fault:?} {events:?}");
            let error = events[2].as_ref().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed, "{fault:?}");
            assert_eq!(server.requests().len(), 1, "{fault:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_an_error() {
    each_mode(async |api, mode| {
        let fault = match mode {
            Mode::Stream => Fault::Malformed { after: 0 },
            Mode::Whole => Fault::Truncated,
        };
        let script = Script::replies([Reply::text("a b").fault(fault)]);
        let (error, requests) = refused(api, mode, script).await;
        assert_eq!((error.kind(), requests), (ErrorKind::Failed, 1));
        assert!(error.to_string().contains("not JSON"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    each_mode(async |api, mode| {
        let script = Script::replies([Reply::default().fault(Fault::Huge { bytes: 16 << 20 })]);
        let (server, client) = support::start(api, script).await;
        let error = ask(&client, request("x"), mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(
            error.to_string().contains("limit_bytes: 1048576"),
            "{error}"
        );
        let aborted = |outcome: Outcome| outcome == Outcome::Aborted;
        // The rest is not read: the server sees the client go.
        server
            .until(DEADLINE, |all| all.iter().all(|r| aborted(r.outcome)))
            .await
            .unwrap();
        assert_eq!(server.requests().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn slow_servers_meet_their_limit() {
    each_mode(async |api, mode| {
        let short = Duration::from_millis(150);
        let first = Limits {
            first_byte: short,
            ..limits()
        };
        let idle = Limits {
            idle: short,
            ..limits()
        };
        let after = head(api) + 1;
        let mut cases = vec![
            (Fault::Hang { after: None }, first.clone()),
            (Fault::Hang { after: Some(0) }, first.clone()),
            (Fault::FirstByte { ms: 60_000 }, first),
        ];
        match mode {
            Mode::Whole => cases.push((Fault::Hang { after: Some(1) }, idle)),
            Mode::Stream => {
                cases.push((Fault::Hang { after: Some(after) }, idle.clone()));
                cases.push((Fault::Between { ms: 60_000 }, idle));
            }
        }
        for (fault, limits) in cases {
            let script = Script::replies([Reply::text("a b c").fault(fault.clone())]);
            let server = ModelServer::start(script).await.unwrap();
            let client = Client::new(api, &server, |p| p.limits(limits.clone()));
            let began = Instant::now();
            let error = ask(&client, request("x"), mode).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Uncertain, "{fault:?}: {error}");
            assert!(
                began.elapsed() >= short && began.elapsed() < DEADLINE,
                "{fault:?}"
            );
            assert_eq!(server.requests().len(), 1, "{fault:?}: not paid for twice");
            server
                .until(DEADLINE, |all| {
                    all.iter().all(|r| r.outcome == Outcome::Aborted)
                })
                .await
                .unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_steady_stream_may_last_longer_than_every_limit() {
    each(async |api| {
        let reply = Reply::text("a b c d e f g h i j k l").fault(Fault::Between { ms: 30 });
        let server = ModelServer::start(Script::replies([reply])).await.unwrap();
        let limit = Duration::from_millis(250);
        let limits = Limits {
            first_byte: limit,
            idle: limit,
            ..limits()
        };
        let client = Client::new(api, &server, |p| p.limits(limits.clone()));
        let began = Instant::now();
        ask(&client, request("x"), Mode::Stream).await.unwrap();
        assert!(began.elapsed() > limit);
    })
    .await;
}

/// Waits until the server has seen one request and its client go.
async fn gone(server: &ModelServer) {
    server
        .until(DEADLINE, |all| {
            all.len() == 1 && all[0].outcome == Outcome::Aborted
        })
        .await
        .expect("the server sees the client go");
}

#[tokio::test]
async fn dropping_a_stream_closes_the_connection() {
    each(async |api| {
        let fault = Fault::Hang {
            after: Some(head(api) + 1),
        };
        let script = Script::replies([Reply::text("a b").fault(fault)]);
        let (server, client) = support::start(api, script).await;
        let stream = client
            .chat()
            .stream(request("x"), CancellationToken::new())
            .await;
        let mut stream = stream.unwrap();
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            ChatEvent::Text("a ".into())
        );
        assert_eq!(server.requests()[0].outcome, Outcome::Open);
        drop(stream);
        gone(&server).await;
    })
    .await;
}

#[tokio::test]
async fn cancelling_in_the_middle_ends_the_stream() {
    each(async |api| {
        let fault = Fault::Hang {
            after: Some(head(api) + 1),
        };
        let script = Script::replies([Reply::text("a b").fault(fault)]);
        let (server, client) = support::start(api, script).await;
        let cancel = CancellationToken::new();
        let stream = client.chat().stream(request("x"), cancel.clone()).await;
        let mut stream = stream.unwrap();
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            ChatEvent::Text("a ".into())
        );
        let (event, ()) = tokio::join!(stream.next(), async { cancel.cancel() });
        assert_eq!(event.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        // The connection closes although the stream is still held.
        gone(&server).await;
        assert!(stream.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn cancelling_ends_every_wait_for_the_first_piece() {
    each_mode(async |api, mode| {
        for fault in [
            Fault::Hang { after: None },
            Fault::Hang { after: Some(0) },
            Fault::FirstByte { ms: 60_000 },
        ] {
            let script = Script::replies([Reply::text("a b").fault(fault.clone())]);
            let (server, client) = support::start(api, script).await;
            let cancel = CancellationToken::new();
            let cancel_later = async {
                server.until(DEADLINE, |all| all.len() == 1).await.unwrap();
                cancel.cancel();
            };
            let asked = ask_until(&client, request("x"), mode, cancel.clone());
            let (asked, ()) = tokio::join!(asked, cancel_later);
            assert_eq!(asked.unwrap_err().kind(), ErrorKind::Cancelled, "{fault:?}");
            gone(&server).await;
        }
    })
    .await;
}

#[tokio::test]
async fn cancelling_ends_the_wait_before_another_attempt() {
    each_mode(async |api, mode| {
        let script = Script::replies([Reply::status(503)]);
        let server = ModelServer::start(script).await.unwrap();
        let patient = Duration::from_secs(600);
        let limits = Limits {
            backoff: patient,
            backoff_max: patient,
            ..limits()
        };
        let client = Client::new(api, &server, |p| p.limits(limits.clone()));
        let cancel = CancellationToken::new();
        let cancel_later = async {
            let answered = |all: &[agentflow_testkit::Recorded]| {
                all.first()
                    .is_some_and(|request| request.outcome == Outcome::Completed)
            };
            server.until(DEADLINE, answered).await.unwrap();
            cancel.cancel();
        };
        let asked = ask_until(&client, request("x"), mode, cancel.clone());
        let (asked, ()) = tokio::join!(asked, cancel_later);
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn embeddings_meet_the_same_faults() {
    for (api, path) in [(Api::OpenAi, "/v1/embeddings"), (Api::Ollama, "/api/embed")] {
        let texts = ["a b".to_owned(), "c".to_owned()];
        let script = Script::default().rule(
            When::path(path),
            [Reply::status(429).times(2), Reply::default()],
        );
        let (server, client) = support::start(api, script).await;
        assert_eq!(client.embedder().embed("e", &texts).await.unwrap().len(), 2);
        assert_eq!(server.requests().len(), 3);

        for (fault, kind) in [
            (Fault::Truncated, ErrorKind::Failed),
            (Fault::Break { after: 1 }, ErrorKind::Failed),
            (Fault::Reset { after: None }, ErrorKind::Failed),
        ] {
            let script =
                Script::default().rule(When::path(path), [Reply::default().fault(fault.clone())]);
            server.set_script(script);
            let error = client.embedder().embed("e", &texts).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn many_requests_at_once_do_not_disturb_each_other() {
    each(async |api| {
        let (_server, client) = support::start(api, Script::default()).await;
        let right = AtomicUsize::new(0);
        let all = (0..50).map(async |n| {
            let text = format!("number {n}");
            let mode = if n % 2 == 0 {
                Mode::Stream
            } else {
                Mode::Whole
            };
            if ask(&client, request(&text), mode).await.unwrap().1.text == text {
                right.fetch_add(1, Ordering::SeqCst);
            }
        });
        futures_util::future::join_all(all).await;
        assert_eq!(right.load(Ordering::SeqCst), 50);
    })
    .await;
}
