//! TLS of the listener: certificates from files, read again when they change.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use agentflow_types::{Error, Result};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

/// Pause between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where certificate and key are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of clients; with them, only clients that show a certificate are served.
    pub client_ca: Option<PathBuf>,
}

/// When a file was last changed, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

struct Current {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// The listener's TLS.
pub struct Tls {
    files: TlsFiles,
    /// Held for a copy, or while changed files are read.
    current: Mutex<Current>,
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// `Invalid` for a file that is missing, or whose content does not fit.
    pub fn load(files: TlsFiles) -> Result<Self> {
        let stamps = files.stamps();
        let current = Current {
            config: files.config()?,
            stamps,
            looked: Instant::now(),
        };
        Ok(Self {
            files,
            current: Mutex::new(current),
        })
    }

    /// What takes the next connection. Files that changed are read again; if they do not fit, the
    /// ones before stay in use.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            self.look(&mut current);
        }
        TlsAcceptor::from(current.config.clone())
    }

    fn look(&self, current: &mut Current) {
        let stamps = self.files.stamps();
        if stamps == current.stamps {
            return;
        }
        match self.files.config() {
            Ok(config) => {
                tracing::info!(cert = %self.files.cert.display(), "certificates were read again");
                (current.config, current.stamps) = (config, stamps);
            }
            // Perhaps only one of two files is new yet.
            Err(err) => tracing::warn!(error = %err, "new certificates are not used"),
        }
    }

    /// Looks at the files now, whatever time it is.
    #[cfg(test)]
    pub(crate) fn look_now(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut current);
    }
}

impl TlsFiles {
    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |meta: Metadata| Some((meta.modified().ok()?, meta.len()));
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let files = files.into_iter().flatten();
        files
            .map(|path| std::fs::metadata(path).ok().and_then(stamp))
            .collect()
    }

    fn config(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|err| {
            Error::invalid("the key of the listener cannot be read")
                .with("path", self.key.display())
                .with("reason", err)
        })?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|err| Error::bug("TLS cannot be set up").source_err(err))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|err| {
                        Error::invalid("an authority of clients cannot be used")
                            .with("path", path.display())
                            .source_err(err)
                    })?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|err| {
                            Error::invalid("the authorities of clients cannot be used")
                                .source_err(err)
                        })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|err| {
            Error::invalid("certificate and key of the listener do not fit")
                .with("cert", self.cert.display())
                .with("key", self.key.display())
                .source_err(err)
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |reason: String| {
        Error::invalid("certificates cannot be read")
            .with("path", path.display())
            .with("reason", reason)
    };
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|err| wrong(err.to_string()))?
        .collect();
    let found = found.map_err(|err| wrong(err.to_string()))?;
    match found.is_empty() {
        true => Err(wrong("there are none".into())),
        false => Ok(found),
    }
}
