//! Calling webhooks: signed, without redirects, and not into networks that nobody allowed.
//!
//! Calls are signed as Standard Webhooks 1.0 says: `webhook-id` is the same for every attempt,
//! `webhook-timestamp` is in seconds, `webhook-signature` has, for each key, `v1,` and the base64
//! of HMAC-SHA256 over `<id>.<timestamp>.<body>`.
//!
//! Names are resolved by us, addresses that may not be called are dropped, and the connection is
//! made to what is left: a name that leads elsewhere a moment later gains nothing. Proxies of the
//! environment are ignored for the same reason.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use agentflow_declarative::http::is_public;
use agentflow_runs::{letter::Call, service::Webhook};
use agentflow_types::{Error, LetterId, Result, Timestamp, Value};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::CONTENT_TYPE,
    redirect::Policy,
};
use sha2::Sha256;

use crate::{
    config::{Config, Profile, Webhooks},
    database::secret,
};

/// Most time for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;
/// Bytes that a key may have, as Standard Webhooks says.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What a key begins with.
const KEY_PREFIX: &str = "whsec_";

/// What calls the webhooks of this configuration.
///
/// # Errors
/// `Invalid` for a key, a file with one, or a network that is none.
pub(crate) fn from_config(config: &Config) -> Result<Hooks> {
    let webhooks = &config.webhooks;
    let keys = match webhooks.secret_file.as_os_str().is_empty() {
        true => webhooks.secret.clone(),
        false => secret(&webhooks.secret_file)?,
    };
    Hooks::new(webhooks, &keys, config.profile)
}

/// Keys that calls are signed with.
#[derive(Clone)]
pub struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// Reads keys, one a line: `whsec_` and base64. No line: no key.
    ///
    /// # Errors
    /// `Invalid` for a line that is no key; the key is not told.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(|line| {
            let key = line
                .strip_prefix(KEY_PREFIX)
                .and_then(|key| STANDARD.decode(key).ok())
                .filter(|key| KEY_BYTES.contains(&key.len()));
            key.ok_or_else(|| {
                Error::invalid(
                    "webhooks.secret must be whsec_ and the base64 of 24 to 64 random bytes, for \
                     example from: echo whsec_$(openssl rand -base64 32)",
                )
            })
        });
        Ok(Self(keys.collect::<Result<_>>()?))
    }

    /// The value of `webhook-signature`; `None` without a key.
    #[must_use]
    pub fn signature(&self, id: &str, seconds: i64, body: &[u8]) -> Option<String> {
        let one = |key: &Vec<u8>| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(format!("{id}.{seconds}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        let all: Vec<String> = self.0.iter().map(one).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

/// Addresses that may be called.
#[derive(Clone, Debug, Default)]
struct Guard(Arc<Vec<IpNet>>);

impl Guard {
    fn allows(&self, address: IpAddr) -> bool {
        let plain = address.to_canonical();
        is_public(address) || self.0.iter().any(|net| net.contains(&plain))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|found| guard.allows(found.ip())).collect();
            match allowed.is_empty() {
                true => Err(private(&host).into()),
                false => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

fn private(host: &str) -> Error {
    Error::denied("the webhook leads into a network that webhooks.allow_networks does not name")
        .with("host", host)
}

/// Calls webhooks over HTTP.
pub struct Hooks {
    client: Client,
    keys: Keys,
    guard: Guard,
    profile: Profile,
}

impl Hooks {
    /// # Errors
    /// `Invalid` for a key or a network that is none.
    pub fn new(config: &Webhooks, secret: &str, profile: Profile) -> Result<Self> {
        let nets = config.allow_networks.iter().map(|text| {
            let wrong = |err| {
                Error::invalid("webhooks.allow_networks: not a network such as 10.1.0.0/16")
                    .with("network", text)
                    .source_err(err)
            };
            text.parse::<IpNet>().map_err(wrong)
        });
        let guard = Guard(Arc::new(nets.collect::<Result<_>>()?));
        // A second installation fails harmlessly: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .no_proxy()
            .https_only(profile == Profile::Production)
            .dns_resolver(Arc::new(guard.clone()))
            .user_agent(concat!("agentflow/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|err| Error::bug("the http client cannot be made").source_err(err))?;
        Ok(Self {
            client,
            keys: Keys::parse(secret)?,
            guard,
            profile,
        })
    }

    /// The URL, if its text says nothing that forbids it.
    fn allowed(&self, text: &str) -> Result<Url> {
        let wrong = |why: &str| Error::unprocessable(format!("webhook: {why}"));
        if text.len() > MAX_URL_BYTES {
            return Err(wrong(&format!("longer than {MAX_URL_BYTES} bytes")));
        }
        let url = Url::parse(text).map_err(|_| wrong("must be an absolute URL"))?;
        match (url.scheme(), self.profile) {
            ("https", _) | ("http", Profile::Dev) => {}
            ("http", Profile::Production) => return Err(wrong("must be https in production")),
            _ => return Err(wrong("must be https or http")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not hold a user or a password"));
        }
        let host = url.host_str().unwrap_or_default();
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        if plain.is_empty() {
            return Err(wrong("has no host"));
        }
        if plain.parse().is_ok_and(|ip| !self.guard.allows(ip)) {
            return Err(wrong(private(host).message()));
        }
        if self.profile == Profile::Production && self.keys.0.is_empty() {
            return Err(wrong(
                "webhooks.secret is not set, and production signs every call",
            ));
        }
        Ok(url)
    }
}

#[async_trait]
impl Webhook for Hooks {
    fn check(&self, url: &str) -> Result<()> {
        self.allowed(url).map(drop)
    }

    async fn call(&self, id: LetterId, call: &Call, now: Timestamp) -> Result<()> {
        // The configuration may have changed since the run was made.
        let url = self
            .allowed(&call.url)
            .map_err(|err| Error::denied(err.message().to_owned()))?;
        let body = Value::map(call.body.clone()).json_text();
        let (id, seconds) = (format!("msg_{id}"), now.micros().div_euclid(1_000_000));
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(signature) = self.keys.signature(&id, seconds, body.as_bytes()) {
            request = request.header("webhook-signature", signature);
        }
        let status = request.body(body).send().await.map_err(failed)?.status();
        match status.as_u16() {
            200..300 => Ok(()),
            410 => Err(Error::denied(
                "the addressee answered 410: it wants no calls",
            )),
            other => Err(Error::busy(format!("the addressee answered {other}"))),
        }
    }
}

/// What went wrong; a refusal of ours is found among the causes.
fn failed(err: reqwest::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&err);
    while let Some(one) = cause {
        if let Some(denied) = one.downcast_ref::<Error>() {
            return Error::denied(denied.message().to_owned());
        }
        cause = one.source();
    }
    let mut text = String::new();
    let err = err.without_url();
    let mut cause: Option<&dyn std::error::Error> = Some(&err);
    while let Some(one) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{separator}{one}");
        cause = one.source();
    }
    Error::busy(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn hooks(profile: Profile, secret: &str, allow: &[&str]) -> Hooks {
        let config = Webhooks {
            allow_networks: allow.iter().map(|&net| net.to_owned()).collect(),
            ..Webhooks::default()
        };
        Hooks::new(&config, secret, profile).unwrap()
    }

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn calls_are_signed_as_the_standard_says() {
        let sign = |secret: &str| {
            Keys::parse(secret).unwrap().signature(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
            )
        };
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(SECRET).as_deref(), Some(one));
        let two = sign(&format!("{SECRET}\n whsec_{}\n", STANDARD.encode([7; 32]))).unwrap();
        let (first, second) = two.split_once(' ').unwrap();
        assert!(first == one && second.starts_with("v1,") && second != one);
        assert_eq!(sign(""), None);
        for bad in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_*"] {
            let err = Keys::parse(bad).err().unwrap().to_string();
            assert!(err.contains("whsec_ and the base64") && !err.contains(bad));
        }
    }

    #[test]
    fn urls_are_refused_by_what_they_say() {
        let dev = hooks(Profile::Dev, "", &["10.1.0.0/16", "fd00::/8"]);
        let check = |hooks: &Hooks, url: &str| match hooks.check(url) {
            Ok(()) => String::new(),
            Err(err) => err.message().to_owned(),
        };
        for fine in [
            "https://example.org/hook?x=1",
            "http://example.org:8080",
            "http://10.1.2.3/",
            "http://[fd00:ec2::254]/",
            "http://93.184.216.34/",
        ] {
            assert_eq!(check(&dev, fine), "", "{fine}");
        }
        for (url, why) in [
            ("/hook", "absolute"),
            ("hook", "absolute"),
            ("ftp://example.org", "https or http"),
            ("file:///etc/passwd", "https or http"),
            ("http://user@example.org", "user"),
            ("http://127.0.0.1/", "network"),
            ("http://2130706433/", "network"),
            ("http://0x7f.1/", "network"),
            ("http://0.0.0.0/", "network"),
            ("http://10.2.0.1/", "network"),
            ("http://192.168.1.1/", "network"),
            ("http://169.254.169.254/latest/meta-data/", "network"),
            ("http://100.100.100.200/", "network"),
            ("http://[::1]/", "network"),
            ("http://[::]/", "network"),
            ("http://[fe80::1]/", "network"),
            ("http://[fc00::1]/", "network"),
            ("http://[::ffff:127.0.0.1]/", "network"),
            ("http://[64:ff9b::a9fe:a9fe]/", "network"),
            ("http://[2002:7f00:1::]/", "network"),
        ] {
            assert!(
                check(&dev, url).contains(why),
                "{url}: {}",
                check(&dev, url)
            );
        }
        let long = format!("https://example.org/{}", "x".repeat(MAX_URL_BYTES));
        assert!(check(&dev, &long).contains("longer"));
        let unsigned = hooks(Profile::Production, "", &[]);
        assert!(check(&unsigned, "http://example.org").contains("https in production"));
        assert!(check(&unsigned, "https://example.org").contains("webhooks.secret"));
        let signed = hooks(Profile::Production, SECRET, &[]);
        assert_eq!(check(&signed, "https://example.org"), "");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let call = Call {
            url: format!("http://localhost:{port}/hook"),
            body: agentflow_types::Map::new(),
        };
        let guarded = hooks(Profile::Dev, "", &[]);
        // By its text nothing is wrong with it.
        guarded.check(&call.url).unwrap();
        let id = LetterId::mint();
        let err = guarded.call(id, &call, Timestamp(0)).await.unwrap_err();
        assert_eq!(err.kind(), agentflow_types::ErrorKind::Denied, "{err}");
        let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "nobody connected");
    }
}
