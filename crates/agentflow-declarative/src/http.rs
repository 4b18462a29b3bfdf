//! HTTP requests of nodes and tools: rules about hosts, limits, redirects.
//!
//! Private networks are refused by address, after names were resolved and for each redirect, so
//! that a name that points inside does not get through. Proxies of the environment are ignored
//! for the same reason.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use agentflow_types::{Error, Map, Result, Str, Value};
use reqwest::{
    Client, Method, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use tokio_util::sync::CancellationToken;

/// Most time for connecting.
const CONNECT: Duration = Duration::from_secs(10);

/// Most time of a whole request without a limit of its own.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of an answer without a limit of its own.
const BYTES: usize = 1 << 20;

/// Most redirects without a limit of its own.
const REDIRECTS: u32 = 5;

/// Most characters of a refused answer that are shown.
const EXCERPT_CHARS: usize = 300;

/// Connection pools: one that reaches only public addresses, and one that reaches all.
#[derive(Clone, Default)]
pub struct Http(Arc<Pools>);

#[derive(Default)]
struct Pools {
    public: OnceLock<Client>,
    any: OnceLock<Client>,
}

/// What may be asked, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) allow_hosts: Option<Vec<String>>,
    pub(crate) deny_hosts: Vec<String>,
    pub(crate) reach: Reach,
    pub(crate) max_bytes: usize,
    pub(crate) max_redirects: u32,
    pub(crate) timeout: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            allow_hosts: None,
            deny_hosts: Vec::new(),
            reach: Reach::Public,
            max_bytes: BYTES,
            max_redirects: REDIRECTS,
            timeout: TIMEOUT,
        }
    }
}

/// Which networks may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only public addresses.
    Public,
    /// Private networks and this machine too.
    Any,
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Map,
    pub(crate) body: String,
    /// The body, if it is JSON.
    pub(crate) json: Option<Value>,
}

impl Answer {
    /// As expressions see it: `status`, `headers`, `body`, `json`.
    pub(crate) fn to_value(&self) -> Value {
        Value::object([
            ("status", Value::Int(i64::from(self.status))),
            ("headers", Value::map(self.headers.clone())),
            ("body", Value::str(self.body.as_str())),
            ("json", self.json.clone().unwrap_or_default()),
        ])
    }

    /// The body: parsed if it is JSON.
    pub(crate) fn content(&self) -> Value {
        self.json
            .clone()
            .unwrap_or_else(|| Value::str(self.body.as_str()))
    }

    /// An error unless the status is 2xx.
    ///
    /// # Errors
    /// `Busy` for 408, 425, 429 and 5xx, which may go away; otherwise `Failed` would be retried
    /// for nothing, so `Invalid`.
    pub(crate) fn accepted(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let excerpt: String = self.body.chars().take(EXCERPT_CHARS).collect();
        let message = format!("the server answered with status {}", self.status);
        let error = match self.status {
            408 | 425 | 429 | 500.. => Error::busy(message),
            _ => Error::invalid(message),
        };
        Err(if excerpt.is_empty() {
            error
        } else {
            error.with("answer", excerpt)
        })
    }
}

impl Http {
    /// Pools that are opened at first use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, reach: Reach) -> Result<&Client> {
        let pool = match reach {
            Reach::Public => &self.0.public,
            Reach::Any => &self.0.any,
        };
        if let Some(client) = pool.get() {
            return Ok(client);
        }
        // A second installation fails harmlessly: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .no_proxy()
            .user_agent(concat!("agentflow/", env!("CARGO_PKG_VERSION")));
        if reach == Reach::Public {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        let client = builder
            .build()
            .map_err(|error| Error::failed("the http client cannot be made").source_err(error))?;
        Ok(pool.get_or_init(|| client))
    }

    /// Sends a request, follows redirects, reads the answer to its end.
    ///
    /// # Errors
    /// `Denied` if the rules forbid the host, `Uncertain` for a timeout, `Cancelled`, `Busy` if
    /// the server cannot be reached, `Invalid` if the answer is too large.
    pub(crate) async fn send(
        &self,
        request: Outgoing,
        rules: &Rules,
        cancel: &CancellationToken,
    ) -> Result<Answer> {
        let whole = tokio::time::timeout(rules.timeout, self.follow(request, rules));
        tokio::select! {
            // Dropping the request closes its connection; nothing else is lost.
            () = cancel.cancelled() => Err(Error::cancelled("the request was cancelled")),
            done = whole => done.unwrap_or_else(|_| {
                Err(Error::uncertain("the server did not answer in time")
                    .with("seconds", rules.timeout.as_secs_f64()))
            }),
        }
    }

    async fn follow(&self, mut request: Outgoing, rules: &Rules) -> Result<Answer> {
        let client = self.client(rules.reach)?;
        for _ in 0..=rules.max_redirects {
            rules.check(&request.url)?;
            let mut sending = client
                .request(request.method.clone(), request.url.clone())
                .headers(request.headers.clone());
            if let Some(body) = &request.body {
                sending = sending.body(body.clone());
            }
            let response = sending.send().await.map_err(unreachable)?;
            match next_hop(&request, &response)? {
                Some(next) => request = next,
                None => return read(response, rules.max_bytes).await,
            }
        }
        Err(Error::invalid("the server redirects too often").with("limit", rules.max_redirects))
    }
}

impl Rules {
    /// Whether the host of a URL may be asked.
    ///
    /// # Errors
    /// `Denied` if not, with the host.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        let denied = |why: &'static str, host: &str| Err(Error::denied(why).with("host", host));
        if !matches!(url.scheme(), "http" | "https") {
            return denied("only http and https are allowed", url.scheme());
        }
        let Some(host) = url.host_str() else {
            return denied("the url has no host", url.as_str());
        };
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        if self.deny_hosts.iter().any(|rule| host_matches(rule, plain)) {
            return denied("this host is on the list of denied hosts", host);
        }
        if let Some(allowed) = &self.allow_hosts
            && !allowed.iter().any(|rule| host_matches(rule, plain))
        {
            return denied("this host is not on the list of allowed hosts", host);
        }
        let address = plain.parse::<IpAddr>().ok();
        if self.reach == Reach::Public && address.is_some_and(|address| !is_public(address)) {
            return denied(
                "this address is in a private network; allow_private permits it",
                host,
            );
        }
        Ok(())
    }
}

/// Whether a rule (`example.org` or `*.example.org`) means a host.
fn host_matches(rule: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match rule.strip_prefix("*.") {
        Some(below) => {
            let at = host.len().checked_sub(below.len() + 1);
            at.and_then(|at| host.get(at..))
                .is_some_and(|end| end.starts_with('.') && end[1..].eq_ignore_ascii_case(below))
        }
        None => rule.eq_ignore_ascii_case(host),
    }
}

/// Whether an address belongs to the public internet.
///
/// Source: the IANA registries of special-purpose addresses for IPv4 and IPv6.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_public_v4(v4),
            None => {
                let first = v6.segments()[0];
                let global = first & 0xe000 == 0x2000;
                let documentation = first == 0x2001 && v6.segments()[1] == 0x0db8;
                let special = first == 0x2001 && v6.segments()[1] < 0x0200;
                global && !documentation && !special
            }
        },
    }
}

/// The IPv4 address that an IPv6 address carries: mapped, NAT64, 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let s = v6.segments();
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(of(high, low))
        }
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (18..20).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || a == 0
        || a >= 224
        || shared
        || benchmark
        || protocol)
}

/// Resolves names and drops addresses that are not public.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| is_public(address.ip()))
                .collect();
            if public.is_empty() {
                let why = "the name leads into a private network; allow_private permits it";
                return Err(Error::denied(why).with("host", host).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// The request that a redirect asks for.
fn next_hop(request: &Outgoing, response: &Response) -> Result<Option<Outgoing>> {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(target) = response.headers().get(header::LOCATION) else {
        return Ok(None);
    };
    let target = target
        .to_str()
        .ok()
        .and_then(|target| request.url.join(target).ok());
    let Some(url) = target else {
        return Err(Error::invalid(
            "the server redirects to something that is not a url",
        ));
    };
    let mut next = request.clone();
    // As browsers do: a form that was taken is followed by reading its result.
    let becomes_get = status == 303 || (status < 303 && next.method == Method::POST);
    if becomes_get && next.method != Method::HEAD {
        next.method = Method::GET;
        next.body = None;
        next.headers.remove(header::CONTENT_TYPE);
    }
    if url.origin() != request.url.origin() {
        for name in [
            header::AUTHORIZATION,
            header::COOKIE,
            header::PROXY_AUTHORIZATION,
        ] {
            next.headers.remove(name);
        }
    }
    next.url = url;
    Ok(Some(next))
}

fn unreachable(error: reqwest::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(one) = cause {
        if let Some(denied) = one.downcast_ref::<Error>() {
            return Error::denied(denied.to_string());
        }
        cause = one.source();
    }
    let error = error.without_url();
    Error::busy("the server cannot be reached").source_err(error)
}

async fn read(mut response: Response, max_bytes: usize) -> Result<Answer> {
    let too_large = || Error::invalid("the answer is too large").with("max_bytes", max_bytes);
    if response
        .content_length()
        .is_some_and(|length| length > max_bytes as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    let mut headers = Map::new();
    for (name, value) in response.headers() {
        let value = Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned());
        headers.insert(Str::from(name.as_str()), value);
    }
    let json = serde_json::from_slice::<Value>(&body).ok();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer {
        status: response.status().as_u16(),
        headers,
        body,
        json,
    })
}

/// A header that templates made.
///
/// # Errors
/// `Invalid` if it holds what a header cannot.
pub(crate) fn header_pair(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong = || Error::invalid("the header cannot be sent").with("name", name);
    let name_parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name_parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "198.18.0.1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn hosts_are_allowed_by_name() {
        let rules = Rules {
            allow_hosts: Some(vec!["*.example.org".into(), "api.test".into()]),
            deny_hosts: vec!["bad.example.org".into()],
            ..Rules::default()
        };
        let ask = |url: &str| rules.check(&Url::parse(url).unwrap()).is_ok();
        assert!(ask("https://a.example.org/x"));
        assert!(ask("https://API.test"));
        assert!(!ask("https://example.org"));
        assert!(!ask("https://bad.example.org"));
        assert!(!ask("https://evilexample.org"));
        assert!(!ask("ftp://api.test"));
        let open = Rules::default();
        for url in [
            "http://127.1/",
            "http://[::1]/",
            "http://0x7f000001/",
            "http://2130706433/",
        ] {
            assert!(open.check(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
    }
}
