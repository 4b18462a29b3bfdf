//! How the server is reached.

use std::{fmt, time::Duration};

use agentflow_types::{Error, Result};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as Pem},
};

/// Longest prefix of the names of collections: with it they must be names for Qdrant.
const MAX_PREFIX_BYTES: usize = 40;
/// How often an idle connection is asked whether it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Our certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those between it and the root, as PEM.
    pub cert: Vec<u8>,
    /// Its key, as PEM.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Where the server is, and who we are.
#[derive(Clone, Debug)]
pub struct Access {
    /// The address of its gRPC port: `https://qdrant.example.com:6334`.
    pub url: String,
    /// The key that it asks for.
    pub api_key: Option<Secret>,
    /// The authorities that may have signed its certificate, as PEM; those of the operating
    /// system if absent.
    pub ca: Option<Vec<u8>>,
    /// Our certificate, if it asks for one.
    pub identity: Option<Identity>,
    /// The name in its certificate, if it is not the one in the address.
    pub server_name: Option<String>,
    /// What the names of our collections begin with on the server, which others may use too.
    pub prefix: String,
    /// How long things may take.
    pub limits: Limits,
}

impl Access {
    /// Without a key, certificates or odd limits.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            ca: None,
            identity: None,
            server_name: None,
            prefix: "agentflow-".into(),
            limits: Limits::default(),
        }
    }
}

/// How long things may take, and how often they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connecting.
    pub connect_timeout: Duration,
    /// One try of a read.
    pub read_timeout: Duration,
    /// One try of a write.
    pub write_timeout: Duration,
    /// One try of making or dropping a collection, or of indexing a field of one that has points.
    pub setup_timeout: Duration,
    /// Tries after the first, of what may be repeated.
    pub retries: usize,
    /// The pause before the first of them; it doubles from try to try.
    pub min_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            setup_timeout: Duration::from_secs(120),
            retries: 3,
            min_pause: Duration::from_millis(100),
            max_pause: Duration::from_secs(2),
        }
    }
}

/// A channel that connects when it is first used, and again whenever it broke.
///
/// # Errors
/// `Invalid` if the address, the prefix or a certificate is none.
pub(crate) fn channel(access: &Access) -> Result<Channel> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let prefix = &access.prefix;
    if prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES || !prefix.chars().all(is_plain) {
        return Err(Error::invalid(
            "the prefix of collections is 1 to 40 letters, digits, `_`, `-` and `.`",
        )
        .with("prefix", prefix));
    }
    let wrong = |err: tonic::transport::Error| {
        Error::invalid("the address or the certificates for Qdrant cannot be used")
            .with("url", &access.url)
            .with("reason", crate::refusal::causes(&err))
            .source_err(err)
    };
    let mut endpoint = Endpoint::from_shared(access.url.clone())
        .map_err(wrong)?
        .connect_timeout(access.limits.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let has_certificates = access.ca.is_some() || access.identity.is_some();
    match endpoint.uri().scheme_str() {
        Some("https") => endpoint = endpoint.tls_config(tls(access)).map_err(wrong)?,
        Some("http") if !has_certificates => {}
        Some("http") => {
            return Err(Error::invalid(
                "there are certificates for Qdrant, but its address says no TLS: use https://",
            ));
        }
        _ => {
            return Err(
                Error::invalid("the address of Qdrant begins with http:// or https://")
                    .with("url", &access.url),
            );
        }
    }
    Ok(endpoint.connect_lazy())
}

fn tls(access: &Access) -> ClientTlsConfig {
    let mut tls = ClientTlsConfig::new().timeout(access.limits.connect_timeout);
    tls = match &access.ca {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_native_roots(),
    };
    if let Some(ours) = &access.identity {
        tls = tls.identity(Pem::from_pem(&ours.cert, &ours.key));
    }
    match &access.server_name {
        Some(name) => tls.domain_name(name),
        None => tls,
    }
}

/// Sends the key along.
#[derive(Clone)]
pub(crate) struct Key(Option<MetadataValue<Ascii>>);

impl Key {
    pub(crate) fn of(access: &Access) -> Result<Self> {
        let Some(key) = &access.api_key else {
            return Ok(Self(None));
        };
        let mut value: MetadataValue<Ascii> = key.0.parse().map_err(|_| {
            Error::invalid("the API key of Qdrant has characters that no header can have")
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}
