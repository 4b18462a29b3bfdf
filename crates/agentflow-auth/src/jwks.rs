//! Public keys of an identity provider: where they are, how long they are believed.
//!
//! Keys are fetched when the first token comes, again when they are old, and again when a token
//! names a key that is not among them, which is how providers rotate. Somebody who sends tokens
//! with invented key names causes one request per [`MIN_PAUSE`], not one per token. While the
//! provider is away, the keys that are known stay good.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agentflow_types::{Error, Result};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use reqwest::{Client, Url, redirect::Policy};
use serde::Deserialize;
use tokio::sync::{Mutex, RwLock};

/// Pause between two requests to the provider at least; doubled with each failure.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// That pause at most.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a document of the provider.
const MAX_BYTES: usize = 1 << 20;
/// Most keys that are kept.
const MAX_KEYS: usize = 256;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Where the provider's description says; its issuer.
    Issuer(String),
    /// At this address.
    Url(String),
    /// In this file.
    File(PathBuf),
}

/// What is known of the keys.
#[derive(Default)]
struct Known {
    keys: Arc<[Jwk]>,
    fetched: Option<Instant>,
}

/// When the provider may be asked again.
#[derive(Default)]
struct Pace {
    next: Option<Instant>,
    failures: u32,
}

/// The keys of a provider. Shared by all requests.
pub struct KeySet {
    source: KeySource,
    refresh: Duration,
    pause: Duration,
    client: Client,
    known: RwLock<Known>,
    /// Held by the one caller that asks the provider.
    pace: Mutex<Pace>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl KeySet {
    /// Keys that are fetched again when they are older than `refresh`.
    ///
    /// # Errors
    /// `Invalid` for an address that is not `https`, and not of this machine.
    pub fn new(source: KeySource, refresh: Duration) -> Result<Self> {
        match &source {
            KeySource::Issuer(text) | KeySource::Url(text) => drop(address(text)?),
            KeySource::File(_) => {}
        }
        // Whoever was faster chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .build()
            .map_err(|err| Error::bug("no HTTP client").source_err(err))?;
        Ok(Self {
            source,
            refresh,
            pause: MIN_PAUSE,
            client,
            known: RwLock::default(),
            pace: Mutex::default(),
        })
    }

    /// Sets the pause between two requests to the provider.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The keys that may have signed a token: those of its key id, or all if it names none.
    ///
    /// # Errors
    /// `Busy` if no keys are known and the provider does not answer.
    pub(crate) async fn candidates(&self, kid: Option<&str>) -> Result<Vec<Jwk>> {
        let (found, is_old) = self.look(kid).await;
        if !found.is_empty() && !is_old {
            return Ok(found);
        }
        let asked = self.ask().await;
        let (found, _) = self.look(kid).await;
        match asked {
            Err(err) if found.is_empty() && self.known.read().await.fetched.is_none() => Err(err),
            Err(err) => {
                tracing::warn!(error = %err, "the identity provider's keys were not renewed");
                Ok(found)
            }
            Ok(()) => Ok(found),
        }
    }

    async fn look(&self, kid: Option<&str>) -> (Vec<Jwk>, bool) {
        let known = self.known.read().await;
        let is_old = known.fetched.is_none_or(|at| at.elapsed() >= self.refresh);
        let wanted = |key: &&Jwk| kid.is_none_or(|kid| key.common.key_id.as_deref() == Some(kid));
        (known.keys.iter().filter(wanted).cloned().collect(), is_old)
    }

    /// Asks the provider unless that was done a moment ago.
    async fn ask(&self) -> Result<()> {
        let before = self.known.read().await.fetched;
        let mut pace = self.pace.lock().await;
        let after = self.known.read().await.fetched;
        let was_faster = after != before;
        if was_faster {
            return Ok(());
        }
        if pace.next.is_some_and(|next| Instant::now() < next) {
            return match after {
                Some(_) => Ok(()),
                None => Err(Error::busy("the identity provider did not answer")),
            };
        }
        let fetched = self.fetch().await;
        pace.failures = match &fetched {
            Ok(_) => 0,
            Err(_) => pace.failures.saturating_add(1),
        };
        let pause = self.pause.saturating_mul(1 << pace.failures.min(10));
        pace.next = Some(Instant::now() + pause.min(MAX_PAUSE));
        let keys = fetched?;
        *self.known.write().await = Known {
            keys: keys.into(),
            fetched: Some(Instant::now()),
        };
        Ok(())
    }

    async fn fetch(&self) -> Result<Vec<Jwk>> {
        let text = match &self.source {
            KeySource::File(path) => tokio::fs::read(path).await.map_err(|err| {
                Error::busy("the file of keys cannot be read")
                    .with("path", path.display())
                    .source_err(err)
            })?,
            KeySource::Url(url) => self.get(address(url)?).await?,
            KeySource::Issuer(issuer) => {
                let place = format!(
                    "{}/.well-known/openid-configuration",
                    issuer.trim_end_matches('/')
                );
                let text = self.get(address(&place)?).await?;
                let found: Discovery = serde_json::from_slice(&text).map_err(|err| {
                    Error::busy("the identity provider's description is not one").source_err(err)
                })?;
                if found.issuer != *issuer {
                    return Err(Error::busy("the identity provider has another name")
                        .with("expected", issuer)
                        .with("found", found.issuer));
                }
                self.get(address(&found.jwks_uri)?).await?
            }
        };
        keys(&text)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>> {
        let failed = |err: reqwest::Error| {
            Error::busy("the identity provider did not answer").source_err(err)
        };
        let mut answer = self
            .client
            .get(url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(failed)?;
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if text.len() + part.len() > MAX_BYTES {
                return Err(Error::busy("the identity provider's answer is too long"));
            }
            text.extend_from_slice(&part);
        }
        Ok(text)
    }
}

/// The keys for signatures in a document. One of an unknown kind is passed over.
fn keys(text: &[u8]) -> Result<Vec<Jwk>> {
    #[derive(Deserialize)]
    struct Loose {
        keys: Vec<serde_json::Value>,
    }
    let found: Loose = serde_json::from_slice(text)
        .map_err(|err| Error::busy("the identity provider's keys are none").source_err(err))?;
    let known = found.keys.into_iter().take(MAX_KEYS);
    let known: Vec<Jwk> = known
        .filter_map(|key| serde_json::from_value(key).ok())
        .collect();
    let signing = |key: &Jwk| {
        let use_of = &key.common.public_key_use;
        let is_known = !matches!(key.algorithm, AlgorithmParameters::Other(_));
        is_known && matches!(use_of, None | Some(PublicKeyUse::Signature))
    };
    Ok(known.into_iter().filter(signing).collect())
}

/// An address that keys may come from.
fn address(text: &str) -> Result<Url> {
    let wrong = |what: &'static str| Error::invalid(what).with("url", text);
    let url = Url::parse(text).map_err(|_| wrong("the identity provider's address is none"))?;
    let host = url.host_str().unwrap_or_default();
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err(wrong(
            "the identity provider's address must begin with https",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_only_over_tls_or_from_this_machine() {
        for good in [
            "https://id.example/keys",
            "http://127.0.0.1:9/x",
            "http://localhost/x",
            "http://[::1]:1/",
        ] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example/",
            "file:///etc/passwd",
            "id.example",
            "",
            "http://127.0.0.1.evil.example/",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_kinds_of_keys_are_passed_over() {
        let text = br#"{"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AA", "use": "sig"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": "AA", "use": "enc"},
            {"kty": "lattice", "kid": "c"},
            {"kty": "RSA", "n": "AA", "e": "AQAB"}
        ]}"#;
        let found = keys(text).unwrap();
        let names: Vec<_> = found.iter().map(|key| key.common.key_id.clone()).collect();
        assert_eq!(names, [Some("a".to_owned()), None]);
        assert!(keys(b"{}").is_err());
        assert!(keys(b"<html>").is_err());
    }
}
