//! Answers when no model is configured: sentences taken from what tools and context said.
//!
//! Deterministic, calls no tools, and says plainly that no model is at work.

use std::{collections::HashSet, sync::Arc};

use agentflow_types::{Error, Result};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, ChatEvent, ChatRequest, ChatResponse, ChatStream, SharedChat, Usage},
    turns::{self, Turn},
};

/// How every answer begins.
pub const NOTICE: &str = "No model is configured; ";

/// Name of the model and of its provider.
pub const NAME: &str = "extractive";

/// Most sentences in an answer.
const SENTENCES: usize = 3;

/// Most characters of one sentence.
const SENTENCE_CHARS: usize = 400;

/// Most characters of the context that are looked at, so that a huge one costs no time.
const CONTEXT_CHARS: usize = 200_000;

/// Words that say nothing about the subject of a question.
const STOP_WORDS: [&str; 40] = [
    "the", "and", "for", "are", "was", "were", "what", "which", "who", "whom", "when", "where",
    "why", "how", "does", "did", "has", "have", "had", "can", "could", "will", "would", "should",
    "you", "your", "our", "their", "this", "that", "these", "those", "with", "from", "into",
    "about", "please", "tell", "give", "there",
];

/// The chat model without a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extractive;

/// The extractive model, shared.
#[must_use]
pub fn shared() -> SharedChat {
    Arc::new(Extractive)
}

#[async_trait]
impl Chat for Extractive {
    fn provider(&self) -> &str {
        NAME
    }

    async fn stream(&self, request: ChatRequest, cancel: CancellationToken) -> Result<ChatStream> {
        let answer = self.complete(request, cancel.clone()).await?;
        let mut events: Vec<Result<ChatEvent>> = answer
            .text
            .split_inclusive(' ')
            .map(|word| Ok(ChatEvent::Text(word.to_owned())))
            .collect();
        events.push(Ok(ChatEvent::Done(answer)));
        let state = Some((events.into_iter(), cancel));
        let until_cancelled = stream::unfold(state, |state| async move {
            let (mut events, cancel) = state?;
            if cancel.is_cancelled() {
                return Some((Err(cancelled()), None));
            }
            events.next().map(|event| (event, Some((events, cancel))))
        });
        Ok(until_cancelled.boxed())
    }

    async fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<ChatResponse> {
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let turns = turns::read(&request.messages)?;
        let text = answer(&turns);
        Ok(ChatResponse {
            usage: Some(Usage::default()),
            finish_reason: Some("stop".to_owned()),
            model: NAME.to_owned(),
            text,
            ..ChatResponse::default()
        })
    }
}

fn cancelled() -> Error {
    Error::cancelled("the request to the model was cancelled")
}

/// The answer to the last question of a conversation.
///
/// What tools said since the question comes first, then what they said before, then the
/// instructions, where retrieval puts its passages.
fn answer(turns: &[Turn]) -> String {
    let last = turns.iter().rposition(|turn| matches!(turn, Turn::User(_)));
    let question = match last.map(|at| &turns[at]) {
        Some(Turn::User(parts)) => turns::text(parts),
        _ => String::new(),
    };
    let (before, since) = turns.split_at(last.unwrap_or(0));
    let tools = |turns: &[Turn]| texts(turns, |turn| matches!(turn, Turn::Tool { .. }));
    let fresh = tools(since);
    if !fresh.is_empty() {
        // A tool was called for this question: its answer counts even without a common word.
        let found = extract(&question, &fresh, Unrelated::Kept);
        return format!("{NOTICE}this is what the tools returned. {found}");
    }
    for older in [
        tools(before),
        texts(turns, |turn| matches!(turn, Turn::System(_))),
    ] {
        let found = extract(&question, &older, Unrelated::Dropped);
        if !found.is_empty() {
            return format!("{NOTICE}this is what the context says. {found}");
        }
    }
    match shortened(question.trim()) {
        question if question.is_empty() => format!("{NOTICE}there is nothing to answer from."),
        question => format!("{NOTICE}nothing in the context answers this. You wrote: {question}"),
    }
}

fn texts(turns: &[Turn], wanted: impl Fn(&Turn) -> bool) -> String {
    let texts: Vec<String> = turns
        .iter()
        .filter(|turn| wanted(turn))
        .map(|turn| match turn {
            Turn::System(parts) | Turn::User(parts) => turns::text(parts),
            Turn::Assistant { parts, .. } | Turn::Tool { parts, .. } => turns::text(parts),
        })
        .filter(|text| !text.is_empty())
        .collect();
    texts.join("\n").chars().take(CONTEXT_CHARS).collect()
}

/// What happens to sentences that share no word with the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unrelated {
    /// They may be in the answer if there is room.
    Kept,
    /// They are not in the answer.
    Dropped,
}

/// The sentences of `context` that share most words with `question`, in their order.
fn extract(question: &str, context: &str, unrelated: Unrelated) -> String {
    let asked = words(question);
    let mut scored: Vec<(usize, usize, &str)> = sentences(context)
        .enumerate()
        .map(|(at, sentence)| (words(sentence).intersection(&asked).count(), at, sentence))
        .filter(|(score, ..)| *score > 0 || unrelated == Unrelated::Kept)
        .collect();
    scored.sort_by_key(|(score, at, _)| (std::cmp::Reverse(*score), *at));
    scored.truncate(SENTENCES);
    scored.sort_by_key(|(_, at, _)| *at);
    let found: Vec<String> = scored
        .into_iter()
        .map(|(_, _, text)| shortened(text))
        .collect();
    found.join(" ")
}

/// Sentences: they end with a line, or with a mark that white space follows.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| {
            let mut rest = line;
            std::iter::from_fn(move || {
                let end = rest
                    .char_indices()
                    .zip(rest.chars().skip(1))
                    .find(|((_, c), next)| matches!(c, '.' | '!' | '?') && next.is_whitespace())
                    .map_or(rest.len(), |((at, c), _)| at + c.len_utf8());
                let (sentence, after) = rest.split_at(end);
                rest = after;
                (!sentence.is_empty()).then_some(sentence)
            })
        })
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
}

fn words(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 2)
        .map(str::to_lowercase)
        .filter(|word| !STOP_WORDS.contains(&word.as_str()))
        .collect()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SENTENCE_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{ErrorKind, Value, message, value};

    use super::*;

    async fn ask(messages: Vec<Value>) -> String {
        let request = ChatRequest {
            messages,
            ..ChatRequest::default()
        };
        let cancel = CancellationToken::new();
        let whole = Extractive
            .complete(request.clone(), cancel.clone())
            .await
            .unwrap();
        let events: Vec<_> = Extractive
            .stream(request, cancel)
            .await
            .unwrap()
            .collect()
            .await;
        let mut streamed = String::new();
        for event in &events {
            match event.as_ref().unwrap() {
                ChatEvent::Text(word) => streamed.push_str(word),
                ChatEvent::Done(answer) => assert_eq!(*answer, whole),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(streamed, whole.text);
        assert!(whole.tool_calls.is_empty());
        whole.text
    }

    #[tokio::test]
    async fn it_answers_from_what_tools_returned() {
        let text = ask(vec![
            message::human("What is the capital of France?"),
            message::ai_with_tool_calls("", vec![value!({"name": "search", "args": {}, "id": "1"})]),
            message::tool("Berlin is in Germany. The capital of France is Paris.\nFrance has 68 million people. Rome is old.", "1", "search"),
        ])
        .await;
        assert_eq!(
            text,
            "No model is configured; this is what the tools returned. Berlin is in Germany. The capital of France is Paris. France has 68 million people."
        );
    }

    #[tokio::test]
    async fn it_answers_from_the_context() {
        let text = ask(vec![
            message::system("You are kind. Opening hours: Monday to Friday."),
            message::human("When are the opening hours?"),
        ])
        .await;
        assert_eq!(
            text,
            "No model is configured; this is what the context says. Opening hours: Monday to Friday."
        );
    }

    #[tokio::test]
    async fn without_anything_it_says_so() {
        assert_eq!(
            ask(vec![message::human("hello")]).await,
            "No model is configured; nothing in the context answers this. You wrote: hello"
        );
        assert_eq!(
            ask(vec![]).await,
            "No model is configured; there is nothing to answer from."
        );
    }

    #[tokio::test]
    async fn a_cancelled_stream_ends_with_an_error() {
        let cancel = CancellationToken::new();
        let request = ChatRequest {
            messages: vec![message::human("x y z")],
            ..Default::default()
        };
        let mut stream = Extractive.stream(request, cancel.clone()).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        cancel.cancel();
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(stream.next().await.is_none());
    }
}
