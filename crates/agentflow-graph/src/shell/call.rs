//! Asking for functional tasks.

use std::{future::Future, pin::Pin, sync::Arc};

use agentflow_types::{Error, Result, Str, Value};
use tokio::sync::{mpsc::error::TrySendError, oneshot};

use super::TaskShared;
use crate::{context::NodeContext, func::TaskOptions};

/// Most functional tasks of one run that are asked for and not yet accepted.
pub(super) const MAX_REQUESTED: usize = 4096;

/// What a functional task does.
pub(crate) type Body = Arc<
    dyn Fn(Value, NodeContext) -> Pin<Box<dyn Future<Output = Result<Value>> + Send>> + Send + Sync,
>;

/// Somebody wants a functional task to run.
pub(crate) struct Request {
    pub(crate) parent: Arc<TaskShared>,
    /// Which of the parent's calls this is.
    pub(crate) index: usize,
    pub(crate) name: Str,
    pub(crate) input: Value,
    pub(crate) body: Body,
    pub(crate) options: Arc<TaskOptions>,
    pub(crate) reply: oneshot::Sender<Result<Value>>,
}

/// Where the result will be.
pub(crate) type Reply = oneshot::Receiver<Result<Value>>;

impl TaskShared {
    /// Asks for a functional task; it starts at once, whether or not somebody waits for it.
    pub(crate) fn request(
        self: &Arc<Self>,
        name: &Str,
        input: Value,
        body: &Body,
        options: &Arc<TaskOptions>,
    ) -> Reply {
        let (reply, result) = oneshot::channel();
        let index = self
            .tasks_called
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.advances();
        let request = Request {
            parent: self.clone(),
            index,
            name: name.clone(),
            input,
            body: body.clone(),
            options: options.clone(),
            reply,
        };
        let Some(requests) = &self.requests else {
            let nowhere = Error::invalid("a task can only be called while a graph runs");
            let _ = request.reply.send(Err(nowhere));
            return result;
        };
        if let Err(refused) = requests.try_send(request) {
            let (request, error) = match refused {
                TrySendError::Full(request) => {
                    let full = Error::busy("too many tasks are called at once");
                    (request, full.with("limit", MAX_REQUESTED))
                }
                TrySendError::Closed(request) => (request, Error::cancelled("the run has ended")),
            };
            let _ = request.reply.send(Err(error));
        }
        result
    }
}
