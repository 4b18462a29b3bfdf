//! How an answer reaches the client: steps are computed first, then performed.

use std::{collections::VecDeque, io, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Connection,
    script::Fault,
    server::Ending,
    wire::{Api, event},
};

/// Time between the last frame and the end of the connection: frames that are still buffered
/// when a connection breaks are lost, and a reset overtakes those that nobody has read yet.
const SETTLE: Duration = Duration::from_millis(30);

/// One thing to do while answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait.
    Wait(Duration),
    /// Send.
    Send(Bytes),
    /// Do nothing until the client goes or the server stops.
    Hang,
    /// Close the connection without an end of the body.
    Break,
    /// Reset the connection.
    Reset,
}

/// Whether frames are a stream or one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Many frames.
    Stream,
    /// One document.
    Whole,
}

/// Steps before the head of the answer. Pure.
pub(crate) fn before(faults: &[Fault]) -> Vec<Step> {
    let step = |fault: &Fault| match fault {
        Fault::FirstByte { ms } => Some(Step::Wait(Duration::from_millis(*ms))),
        Fault::Hang { after: None } => Some(Step::Hang),
        Fault::Reset { after: None } => Some(Step::Reset),
        _ => None,
    };
    faults.iter().filter_map(step).collect()
}

/// Steps of the body. Pure.
pub(crate) fn body(frames: Vec<String>, faults: &[Fault], form: Form, api: Api) -> Vec<Step> {
    let mut frames: VecDeque<Bytes> = frames.into_iter().map(Bytes::from).collect();
    if form == Form::Whole {
        halve(&mut frames, faults);
    }
    if faults.contains(&Fault::Truncated) {
        let bytes = frames.iter().flatten().copied().collect::<Vec<u8>>();
        frames = VecDeque::from([Bytes::copy_from_slice(&bytes[..bytes.len() / 2])]);
    }
    let mut steps = Vec::new();
    for at in 0..=frames.len() {
        if stops(faults, at, form, api, &mut steps) {
            return split(steps, faults);
        }
        let Some(frame) = frames.get(at) else { break };
        for fault in faults {
            if let Fault::Between { ms } = fault
                && at > 0
            {
                steps.push(Step::Wait(Duration::from_millis(*ms)));
            }
        }
        steps.push(Step::Send(frame.clone()));
    }
    split(steps, faults)
}

/// Cuts a whole answer in two, so that it can break in the middle, wherever that was asked for.
fn halve(frames: &mut VecDeque<Bytes>, faults: &[Fault]) {
    let breaks = faults.iter().any(|fault| {
        matches!(
            fault,
            Fault::Break { .. }
                | Fault::Reset { after: Some(_) }
                | Fault::Hang { after: Some(_) }
                | Fault::Between { .. }
        )
    });
    if breaks && let Some(mut whole) = frames.pop_front() {
        let half = whole.split_to(whole.len() / 2);
        frames.push_front(whole);
        frames.push_front(half);
    }
}

/// Adds the faults that come before frame `at`; whether the answer stops there.
fn stops(faults: &[Fault], at: usize, form: Form, api: Api, steps: &mut Vec<Step>) -> bool {
    // Half of a whole answer counts as its frames.
    let due = |after: usize| match form {
        Form::Stream => after == at,
        Form::Whole => after.min(1) == at,
    };
    for fault in faults {
        let ends = match fault {
            Fault::Break { after } if due(*after) => Some(Step::Break),
            Fault::Reset { after: Some(after) } if due(*after) => Some(Step::Reset),
            _ => None,
        };
        if let Some(end) = ends {
            if at > 0 {
                steps.push(Step::Wait(SETTLE));
            }
            steps.push(end);
            return true;
        }
        match fault {
            Fault::Hang { after: Some(after) } if due(*after) => steps.push(Step::Hang),
            Fault::End { after } if due(*after) => {}
            Fault::Malformed { after } if due(*after) => {
                let text = match (form, api) {
                    (Form::Stream, Api::OpenAi | Api::Anthropic) => event(None, "{not json"),
                    _ => "{not json\n".to_owned(),
                };
                steps.push(Step::Send(Bytes::from(text)));
                continue;
            }
            _ => continue,
        }
        return true;
    }
    false
}

/// Cuts what is sent into pieces, if the script says so.
fn split(steps: Vec<Step>, faults: &[Fault]) -> Vec<Step> {
    let size = faults.iter().find_map(|fault| match fault {
        Fault::Split { bytes } => Some((*bytes).max(1)),
        _ => None,
    });
    let Some(size) = size else { return steps };
    let mut cut = Vec::new();
    for step in steps {
        match step {
            Step::Send(mut bytes) => {
                while bytes.len() > size {
                    cut.push(Step::Send(bytes.split_to(size)));
                }
                cut.push(Step::Send(bytes));
            }
            other => cut.push(other),
        }
    }
    cut
}

/// Everything that performing needs.
pub(crate) struct Performer {
    pub connection: Connection,
    pub shutdown: CancellationToken,
    /// Notes how the request ended when it is dropped.
    pub ending: Ending,
}

impl Performer {
    /// Performs the steps before the head.
    ///
    /// # Errors
    /// If the connection is to be closed without an answer.
    pub(crate) async fn before(&mut self, steps: Vec<Step>) -> io::Result<()> {
        for step in steps {
            self.step(step).await?;
        }
        Ok(())
    }

    /// What to send, if anything.
    async fn step(&mut self, step: Step) -> io::Result<Option<Bytes>> {
        match step {
            Step::Wait(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    () = self.shutdown.cancelled() => {}
                }
                Ok(None)
            }
            Step::Send(bytes) => Ok(Some(bytes)),
            Step::Hang => {
                self.shutdown.cancelled().await;
                Err(broken())
            }
            Step::Break => {
                self.ending.completed();
                Err(broken())
            }
            Step::Reset => {
                self.ending.completed();
                self.connection.reset();
                Err(broken())
            }
        }
    }

    /// A body that performs `steps`.
    pub(crate) fn body(self, steps: Vec<Step>) -> Body {
        let state = Some((self, VecDeque::from(steps)));
        Body::from_stream(stream::unfold(state, |state| async move {
            let (mut performer, mut steps) = state?;
            loop {
                let Some(step) = steps.pop_front() else {
                    performer.ending.completed();
                    return None;
                };
                match performer.step(step).await {
                    Ok(None) => {}
                    Ok(Some(bytes)) => return Some((Ok(bytes), Some((performer, steps)))),
                    Err(error) => return Some((Err(error), None)),
                }
            }
        }))
    }
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the script breaks the connection",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(faults: &[Fault], form: Form) -> Vec<String> {
        let frames = match form {
            Form::Stream => vec!["ab".to_owned(), "cd".to_owned()],
            Form::Whole => vec!["abcd".to_owned()],
        };
        body(frames, faults, form, Api::Ollama)
            .into_iter()
            .map(|step| match step {
                Step::Send(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn faults_become_steps() {
        use Form::{Stream, Whole};
        for (fault, form, want) in [
            (
                Fault::Break { after: 1 },
                Stream,
                vec!["ab", "Wait(30ms)", "Break"],
            ),
            (
                Fault::Break { after: 1 },
                Whole,
                vec!["ab", "Wait(30ms)", "Break"],
            ),
            (Fault::Break { after: 0 }, Whole, vec!["Break"]),
            (Fault::End { after: 1 }, Stream, vec!["ab"]),
            (Fault::End { after: 0 }, Stream, vec![]),
            (
                Fault::Reset { after: Some(2) },
                Stream,
                vec!["ab", "cd", "Wait(30ms)", "Reset"],
            ),
            (Fault::Hang { after: Some(0) }, Stream, vec!["Hang"]),
            (
                Fault::Malformed { after: 1 },
                Stream,
                vec!["ab", "{not json\n", "cd"],
            ),
            (Fault::Truncated, Whole, vec!["ab"]),
            (
                Fault::Between { ms: 5 },
                Stream,
                vec!["ab", "Wait(5ms)", "cd"],
            ),
            (Fault::Split { bytes: 1 }, Stream, vec!["a", "b", "c", "d"]),
            (Fault::Reset { after: None }, Stream, vec!["ab", "cd"]),
        ] {
            assert_eq!(
                shown(std::slice::from_ref(&fault), form),
                want,
                "{fault:?} {form:?}"
            );
        }
        assert_eq!(before(&[Fault::Reset { after: None }]), [Step::Reset]);
    }
}
