//! What can go wrong with one attempt, and whether another one makes sense.

use std::{error::Error as StdError, time::Duration};

use agentflow_types::{Error, ErrorKind};
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value as Json;

use crate::{frames::LINE_BYTES, secret::Secret};

/// Most characters of a provider's own words that are kept.
const MESSAGE_CHARS: usize = 1_000;

/// Headers in which providers name a request, in the order of preference.
const REQUEST_IDS: [&str; 3] = ["x-request-id", "request-id", "cf-ray"];

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// It will not.
    Never,
    /// After the usual wait.
    Soon,
    /// After at least this time, as the provider asked.
    After(Duration),
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    retry: Retry,
}

impl Failure {
    fn new(error: Error, retry: Retry) -> Self {
        Self { error, retry }
    }

    /// Whether another attempt may help.
    #[cfg(test)]
    pub(crate) fn may_retry(&self) -> bool {
        self.retry != Retry::Never
    }

    /// How long to wait, if the usual wait is `usual`; `None` if the provider asks for more
    /// patience than `most`: asking earlier would be refused again.
    pub(crate) fn wait(&self, usual: Duration, most: Duration) -> Option<Duration> {
        match self.retry {
            Retry::Never => None,
            Retry::Soon => Some(usual.min(most)),
            Retry::After(asked) if asked > most => None,
            Retry::After(asked) => Some(asked.max(usual.min(most))),
        }
    }

    /// Time ran out. Not repeated: the answer may have been produced and paid for.
    pub(crate) fn timeout(message: &'static str, limit: Duration) -> Self {
        Self::new(
            Error::uncertain(message).with("limit_ms", limit.as_millis()),
            Retry::Never,
        )
    }

    /// The request could not be sent, or the connection went away before the answer's head.
    pub(crate) fn sending(error: reqwest::Error, host: &str) -> Self {
        let (kind, message, retry) = if error.is_builder() {
            (
                ErrorKind::Invalid,
                "the request cannot be built",
                Retry::Never,
            )
        } else if error.is_connect() {
            (
                ErrorKind::Busy,
                "the provider cannot be reached",
                Retry::Soon,
            )
        } else {
            (
                ErrorKind::Failed,
                "the provider closed the connection",
                Retry::Soon,
            )
        };
        Self::new(
            Error::new(kind, message)
                .with("host", host)
                .source_err(error.without_url()),
            retry,
        )
    }

    /// The connection went away in the middle of an answer.
    pub(crate) fn broken(error: reqwest::Error) -> Self {
        let broken = Error::failed("the connection broke in the middle of the answer");
        Self::new(broken.source_err(error.without_url()), Retry::Soon)
    }

    /// The answer ended in order but before it was complete.
    pub(crate) fn ended_early() -> Self {
        Self::new(
            Error::failed("the answer ended before it was complete"),
            Retry::Soon,
        )
    }

    /// The answer cannot be understood; asking again would give the same.
    pub(crate) fn malformed(
        message: &'static str,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(Error::failed(message).source_err(cause), Retry::Never)
    }

    /// The answer is larger than allowed.
    pub(crate) fn too_large(limit: usize) -> Self {
        let error = Error::failed("the answer is too large").with("limit_bytes", limit);
        Self::new(error, Retry::Never)
    }

    /// A line of the answer is longer than allowed.
    pub(crate) fn line_too_long() -> Self {
        let error =
            Error::failed("a line of the answer is too long").with("limit_bytes", LINE_BYTES);
        Self::new(error, Retry::Never)
    }

    /// The provider refused the request with `status`.
    pub(crate) fn refusal(
        status: StatusCode,
        headers: &HeaderMap,
        text: &str,
        secrets: &[Secret],
    ) -> Self {
        let told = Told::read(text);
        let (kind, mut retry) = verdict(status.as_u16());
        if told.code == "insufficient_quota" {
            // OpenAI answers 429 to an empty account; waiting does not fill it.
            retry = Retry::Never;
        }
        if retry == Retry::Soon
            && let Some(after) = retry_after(headers)
        {
            retry = Retry::After(after);
        }
        let mut error = told.error(kind, secrets).with("status", status.as_u16());
        if let Retry::After(after) = retry {
            error = error.with("retry_after_ms", after.as_millis());
        }
        let id = REQUEST_IDS
            .iter()
            .find_map(|name| headers.get(*name)?.to_str().ok());
        if let Some(id) = id {
            error = error.with("request_id", id);
        }
        Self::new(error, retry)
    }

    /// The provider reports an error inside an answer that began well.
    pub(crate) fn reported(document: &Json) -> Self {
        let told = Told::of(document);
        let (kind, retry) = match told.code.as_str() {
            "overloaded_error"
            | "rate_limit_error"
            | "rate_limit_exceeded"
            | "service_unavailable" => (ErrorKind::Busy, Retry::Soon),
            "server_error" | "api_error" => (ErrorKind::Failed, Retry::Soon),
            "timeout_error" => (ErrorKind::Uncertain, Retry::Never),
            "invalid_request_error" | "not_found_error" | "request_too_large" => {
                (ErrorKind::Invalid, Retry::Never)
            }
            "authentication_error" | "permission_error" => (ErrorKind::Denied, Retry::Never),
            _ => (ErrorKind::Failed, Retry::Never),
        };
        Self::new(told.error(kind, &[]), retry)
    }
}

/// Kind and advice for a status that is not a success.
fn verdict(status: u16) -> (ErrorKind, Retry) {
    match status {
        401 | 403 => (ErrorKind::Denied, Retry::Never),
        408 | 504 => (ErrorKind::Uncertain, Retry::Soon),
        409 | 425 | 429 | 502 | 503 | 529 => (ErrorKind::Busy, Retry::Soon),
        400..=499 => (ErrorKind::Invalid, Retry::Never),
        500..=599 => (ErrorKind::Failed, Retry::Soon),
        _ => (ErrorKind::Failed, Retry::Never),
    }
}

/// What the provider says about an error.
#[derive(Debug, Default)]
struct Told {
    message: String,
    /// `code` or `type`.
    code: String,
}

impl Told {
    fn read(text: &str) -> Self {
        match serde_json::from_str::<Json>(text) {
            Ok(document) => Self::of(&document),
            Err(_) => Self {
                message: text.trim().to_owned(),
                code: String::new(),
            },
        }
    }

    /// Understands `{"error": {"message", "code", "type"}}`, `{"error": "…"}`, `{"message"}` and
    /// `{"detail"}`.
    fn of(document: &Json) -> Self {
        let inner = document.get("error").unwrap_or(document);
        let text = |key: &str| inner.get(key).and_then(Json::as_str);
        let message = inner
            .as_str()
            .or_else(|| text("message"))
            .or_else(|| text("detail"));
        Self {
            message: message.map_or_else(|| inner.to_string(), str::to_owned),
            code: text("code")
                .or_else(|| text("type"))
                .unwrap_or_default()
                .to_owned(),
        }
    }

    fn error(&self, kind: ErrorKind, secrets: &[Secret]) -> Error {
        let message = secrets
            .iter()
            .fold(self.message.clone(), |text, s| s.redact(&text));
        let message: String = message.chars().take(MESSAGE_CHARS).collect();
        let mut error = Error::new(kind, "the provider refused the request");
        if !message.is_empty() {
            error = error.with("message", message);
        }
        if self.code.is_empty() {
            error
        } else {
            error.with("code", &self.code)
        }
    }
}

/// How long the provider asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a
/// date. A date is compared with the answer's own `Date`, which no clock of ours can falsify.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let seconds = number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number("retry-after"));
    if let Some(seconds) = seconds {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let until = httpdate::parse_http_date(text("retry-after")?).ok()?;
    let now = httpdate::parse_http_date(text("date")?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &'static str)], text: &str) -> Failure {
        let headers = headers.iter().map(|(k, v)| {
            (
                k.parse().unwrap(),
                reqwest::header::HeaderValue::from_static(v),
            )
        });
        let status = StatusCode::from_u16(status).unwrap();
        Failure::refusal(status, &headers.collect(), text, &["sk-secret".into()])
    }

    #[test]
    fn the_wait_is_read_in_every_form() {
        let second = Duration::from_secs(1);
        let ms = Duration::from_millis;
        for (headers, want) in [
            (vec![], ms(100)),
            (vec![("retry-after", "2")], second * 2),
            (vec![("retry-after", "0")], ms(100)),
            (
                vec![("retry-after", "2"), ("retry-after-ms", "1500")],
                ms(1500),
            ),
            (vec![("retry-after", "-1")], ms(100)),
            (vec![("retry-after", "soon")], ms(100)),
            (
                vec![
                    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT"),
                ],
                second * 3,
            ),
        ] {
            let failure = refusal(429, &headers, "");
            assert_eq!(
                failure.wait(ms(100), second * 10),
                Some(want),
                "{headers:?}"
            );
        }
        let failure = refusal(429, &[("retry-after", "3600")], "");
        assert_eq!(failure.wait(ms(100), second), None);
    }

    #[test]
    fn the_kind_says_what_to_do() {
        for (status, kind, retry) in [
            (400, ErrorKind::Invalid, false),
            (401, ErrorKind::Denied, false),
            (404, ErrorKind::Invalid, false),
            (408, ErrorKind::Uncertain, true),
            (413, ErrorKind::Invalid, false),
            (429, ErrorKind::Busy, true),
            (500, ErrorKind::Failed, true),
            (503, ErrorKind::Busy, true),
            (529, ErrorKind::Busy, true),
            (307, ErrorKind::Failed, false),
        ] {
            let failure = refusal(status, &[], "");
            assert_eq!(
                (failure.error.kind(), failure.may_retry()),
                (kind, retry),
                "{status}"
            );
        }
    }

    #[test]
    fn the_providers_words_are_kept_without_the_key() {
        for text in [
            r#"{"error":{"message":"bad key sk-secret","type":"auth"}}"#,
            r#"{"error":"bad key sk-secret"}"#,
            r#"{"message":"bad key sk-secret"}"#,
            "bad key sk-secret",
        ] {
            let shown = refusal(401, &[("x-request-id", "r1")], text)
                .error
                .to_string();
            assert!(shown.contains("bad key ***"), "{shown}");
            assert!(shown.contains("request_id: r1"), "{shown}");
        }
    }

    #[test]
    fn an_empty_account_is_not_asked_again() {
        let failure = refusal(
            429,
            &[],
            r#"{"error":{"message":"x","code":"insufficient_quota"}}"#,
        );
        assert!(!failure.may_retry());
        assert_eq!(failure.error.kind(), ErrorKind::Busy);
    }
}
