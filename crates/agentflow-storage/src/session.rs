//! Sessions of people who signed in: an opaque token on their side, a record on ours.
//!
//! A backend never sees a token, only its hash, so whoever reads the database cannot sign in with
//! what is there. Data does not change: a sign-in with other rights is a new session under a new
//! token, and the old one is deleted.

use std::{fmt, time::Duration};

use agentflow_types::{Error, Map, Result, Scope, Timestamp};
use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Most bytes that the data of a session may have as JSON.
pub const MAX_DATA_BYTES: usize = 16 << 10;
/// Part of the idle time that passes before a renewal is worth a write; see
/// [`Session::wants_touch`].
const TOUCH_PART: u32 = 16;

/// What a client shows: 256 random bits as hexadecimal text. Not to be stored or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new token from the operating system's random numbers.
    ///
    /// # Errors
    /// `Busy` if it has none.
    pub fn mint() -> Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|err| Error::busy("no random bits for a token").source_err(err))?;
        Ok(Self(hex(&bytes)))
    }

    /// What a client sent. Any text is a token; most are nobody's.
    #[must_use]
    pub fn from_client(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text for the client.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What backends know of it.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        SessionKey(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// SHA-256 of a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// As lowercase hexadecimal text, the form in which backends store it.
    #[must_use]
    pub fn text(&self) -> String {
        hex(&self.0)
    }

    /// Reads [`Self::text`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        crate::account::KeyHash::parse(text).map(|hash| Self(*hash.bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all text");
    }
    text
}

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Whose it is.
    pub scope: Scope,
    /// What the sign-in left; at most [`MAX_DATA_BYTES`] of JSON.
    pub data: Map,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last touched; at first the same.
    pub used_at: Timestamp,
    /// How long it lives untouched.
    pub idle: Duration,
    /// When it ends, touched or not.
    pub ends_at: Timestamp,
}

impl Session {
    /// A session that begins at `now`, ends when it was not touched for `idle`, and `life` from
    /// now at the latest.
    #[must_use]
    pub fn begin(scope: Scope, data: Map, now: Timestamp, idle: Duration, life: Duration) -> Self {
        Self {
            scope,
            data,
            created_at: now,
            used_at: now,
            idle,
            ends_at: now.plus(life),
        }
    }

    /// When it ends unless it is touched before.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.used_at.plus(self.idle).min(self.ends_at)
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Whether a sixteenth of the idle time has passed since the last touch. Who touches only
    /// then saves a write per request and shortens the idle time by as much at most.
    #[must_use]
    pub fn wants_touch(&self, now: Timestamp) -> bool {
        now.since(self.used_at) >= self.idle / TOUCH_PART
    }

    /// Data as JSON text.
    ///
    /// # Errors
    /// `Invalid` if it is too large.
    pub fn data_text(&self) -> Result<String> {
        let text = crate::json::map_text(&self.data)?;
        if text.len() > MAX_DATA_BYTES {
            return Err(Error::invalid("session data is too large")
                .with("bytes", text.len())
                .with("limit", MAX_DATA_BYTES));
        }
        Ok(text)
    }
}

/// The error of a key that is in use.
#[must_use]
pub fn taken() -> Error {
    Error::conflict("session token is taken")
}

/// Stores sessions. One that has ended is never returned.
///
/// A backend may lose sessions when it loses its data (Redis without persistence): people then
/// sign in again. It never brings back one that was deleted.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Stores a new session.
    ///
    /// # Errors
    /// `Conflict` if there is a session under the key; one that ended counts until it is removed.
    /// `Invalid` if the data is too large.
    async fn create(&self, key: SessionKey, session: Session) -> Result<()>;

    /// The session, untouched.
    async fn get(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>>;

    /// Renews the idle time and returns the session. A clock that lags behind the last touch
    /// changes nothing.
    async fn touch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>>;

    /// Removes the session; false if there was none. One that ended may count.
    async fn delete(&self, key: SessionKey) -> Result<bool>;

    /// Removes all sessions of the scope's principal in its tenant; returns how many there were.
    /// One that is created meanwhile may stay.
    async fn delete_all(&self, scope: &Scope) -> Result<u64>;

    /// Removes sessions that ended before `now`, at most `limit`; returns how many. A backend
    /// that removes them by itself returns 0.
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_hash_and_never_shown() {
        let token = Token::mint().unwrap();
        assert_eq!(token.secret().len(), 2 * TOKEN_BYTES);
        assert_ne!(token, Token::mint().unwrap());
        assert_eq!(SessionKey::parse(&token.key().text()), Some(token.key()));
        assert_eq!(Token::from_client(token.secret()).key(), token.key());
        assert!(!format!("{token:?} {:?}", token.key()).contains(token.secret()));
        // The example of FIPS 180-2.
        assert!(
            Token::from_client("abc")
                .key()
                .text()
                .starts_with("ba7816bf8f01cfea414140de5dae2223")
        );
    }

    #[test]
    fn touches_are_worth_a_write_after_a_sixteenth() {
        let minute = Duration::from_secs(60);
        let start = Timestamp(0);
        let session = Session::begin(Scope::local(), Map::new(), start, 16 * minute, 90 * minute);
        assert!(!session.wants_touch(start.plus(Duration::from_secs(59))));
        assert!(session.wants_touch(start.plus(minute)));
        assert_eq!(session.expires_at(), start.plus(16 * minute));
    }
}
