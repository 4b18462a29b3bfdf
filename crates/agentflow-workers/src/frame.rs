//! Frames: a length, then one MessagePack array. See `docs/worker-protocol.md`, section 2.

use agentflow_storage::msgpack;
use agentflow_types::{Error, Result, Str, Value};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::fault;

/// Largest body unless configured otherwise, in bytes.
pub const MAX_BODY_BYTES: usize = 256 << 20;
/// Bytes of the length.
const PREFIX: usize = 4;

const REQUEST: i64 = 0;
const ANSWER: i64 = 1;
const NOTICE: i64 = 2;

/// One frame.
#[derive(Debug)]
pub enum Frame {
    /// Somebody wants an answer.
    Request {
        /// The sender's number for it.
        id: u64,
        /// What is wanted.
        method: Str,
        /// With what.
        params: Value,
    },
    /// The answer to a request.
    Answer {
        /// Our number of the request.
        id: u64,
        /// What came of it.
        result: Result<Value>,
    },
    /// Nobody answers this.
    Notice {
        /// What it is about.
        method: Str,
        /// The rest.
        params: Value,
    },
}

fn wrong(what: &'static str) -> Error {
    Error::invalid("a frame is not of the worker protocol").with("what", what)
}

fn number(value: &Value) -> Result<u64> {
    let id = value.as_i64().and_then(|id| u64::try_from(id).ok());
    id.ok_or_else(|| wrong("id"))
}

fn word(value: &Value) -> Result<Str> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        _ => Err(wrong("method")),
    }
}

/// Reads a body.
///
/// # Errors
/// `Corrupt` if it is not MessagePack, `Invalid` if it is no frame.
pub fn decode(body: &[u8]) -> Result<Frame> {
    let value = msgpack::decode(body)?;
    let parts = value.as_list().ok_or_else(|| wrong("no array"))?;
    match (parts.first().and_then(Value::as_i64), parts) {
        (Some(REQUEST), [_, id, method, params]) => Ok(Frame::Request {
            id: number(id)?,
            method: word(method)?,
            params: params.clone(),
        }),
        (Some(ANSWER), [_, id, error, result]) => Ok(Frame::Answer {
            id: number(id)?,
            result: match error.is_null() {
                true => Ok(result.clone()),
                false => Err(fault::read(error)),
            },
        }),
        (Some(NOTICE), [_, method, params]) => Ok(Frame::Notice {
            method: word(method)?,
            params: params.clone(),
        }),
        _ => Err(wrong("kind")),
    }
}

fn framed(parts: Vec<Value>, limit: usize) -> Result<Vec<u8>> {
    let body = msgpack::try_encode(&Value::list(parts))?;
    let length = u32::try_from(body.len()).ok();
    let Some(length) = length.filter(|_| body.len() <= limit) else {
        return Err(Error::invalid("a value is too large for the worker link")
            .class("ValueError")
            .with("bytes", body.len())
            .with("limit", limit));
    };
    let mut frame = Vec::with_capacity(PREFIX + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The bytes of a request.
///
/// # Errors
/// `Invalid` if it is too deep or larger than `limit`.
pub fn request(id: u64, method: &str, params: Value, limit: usize) -> Result<Vec<u8>> {
    let parts = vec![REQUEST.into(), counted(id), method.into(), params];
    framed(parts, limit)
}

/// The bytes of an answer.
///
/// # Errors
/// As [`request`].
pub fn answer(id: u64, result: Result<Value>, limit: usize) -> Result<Vec<u8>> {
    let (error, result) = match result {
        Ok(result) => (Value::Null, result),
        Err(err) => (fault::write(&err), Value::Null),
    };
    framed(vec![ANSWER.into(), counted(id), error, result], limit)
}

/// The bytes of a notification.
///
/// # Errors
/// As [`request`].
pub fn notice(method: &str, params: Value, limit: usize) -> Result<Vec<u8>> {
    framed(vec![NOTICE.into(), method.into(), params], limit)
}

/// A number as frames carry it.
pub(crate) fn counted(n: u64) -> Value {
    i64::try_from(n).map_or(Value::UInt(n), Value::Int)
}

/// Reads the next body into `body`; false at the end of the stream.
///
/// # Errors
/// `Invalid` if it is larger than `limit`; `Busy` if the connection breaks within a frame.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
    limit: usize,
) -> Result<bool> {
    let broken = |err| Error::busy("the connection broke").source_err(err);
    let mut prefix = [0; PREFIX];
    match stream.read_exact(&mut prefix).await {
        Ok(_) => {}
        Err(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(err) => return Err(broken(err)),
    }
    let length = u32::from_be_bytes(prefix);
    if length as usize > limit {
        return Err(Error::invalid("a frame of a worker is too large")
            .with("bytes", length)
            .with("limit", limit));
    }
    body.clear();
    // What was announced is believed only as far as it comes.
    let mut taken = stream.take(length.into());
    let got = taken.read_to_end(body).await.map_err(broken)?;
    match got == length as usize {
        true => Ok(true),
        false => Err(Error::busy("the connection broke within a frame")),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn a_notice_has_the_documented_bytes() {
        let bytes = notice("cancel", value!({"for": 17}), 100).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0000000f9302a663616e63656c81a3666f7211");
    }

    #[test]
    fn errors_keep_kind_class_and_message() {
        let err = Error::failed("boom").class("ZeroDivisionError");
        let bytes = answer(3, Err(err), 1000).unwrap();
        let Frame::Answer { id, result } = decode(&bytes[4..]).unwrap() else {
            panic!("no answer");
        };
        let err = result.unwrap_err();
        assert_eq!(
            (id, err.class_name(), err.message()),
            (3, "ZeroDivisionError", "boom")
        );
        assert_eq!(err.kind(), agentflow_types::ErrorKind::Failed);
    }

    #[tokio::test]
    async fn lengths_are_not_believed() {
        let mut body = vec![];
        let mut lie: &[u8] = &[0x7f, 0xff, 0xff, 0xff, 1];
        assert!(read(&mut lie, &mut body, 1000).await.is_err());
        let mut cut: &[u8] = &[0, 0, 0, 9, 1];
        assert!(read(&mut cut, &mut body, 1000).await.is_err());
        assert!(body.capacity() < 1000);
        let mut end: &[u8] = &[];
        assert!(!read(&mut end, &mut body, 1000).await.unwrap());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for wrong in [
            value!(1),
            value!([0, 1]),
            value!([0, -1, "x", {}]),
            value!([7, 1, 2, 3]),
        ] {
            assert!(decode(&msgpack::encode(&wrong)).is_err(), "{wrong}");
        }
        let large = notice("x", value!({"text": "0123456789"}), 10);
        assert_eq!(large.unwrap_err().class_name(), "ValueError");
    }
}
