//! The cookie of a session.

use http::{HeaderMap, header};

/// Name of the cookie.
const COOKIE: &str = "agentflow_session";

/// The session's token, if a request has one.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == COOKIE && !value.is_empty())
        .map(|(_, value)| value)
}

/// The value of `set-cookie`: for scripts unreadable, and not sent along by foreign pages. With
/// no seconds to live it removes the cookie.
pub(crate) fn cookie(token: &str, seconds: u64, secure: Secure) -> String {
    let secure = match secure {
        Secure::Yes => "; Secure",
        Secure::No => "",
    };
    format!("{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// Whether the cookie may only travel over TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secure {
    /// Only over TLS.
    Yes,
    /// Also without, as on a loopback address.
    #[default]
    No,
}
