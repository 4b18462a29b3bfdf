//! TLS for connections to the database, with rustls.
//!
//! Settings are built for each connection from files that are read again, so that certificates
//! can be replaced while we run.

use std::{
    fmt, fs, io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use agentflow_types::{Error, Result};
use futures_util::future::BoxFuture;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject as _},
    },
    server::ParsedCertificate,
    version,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

use crate::{
    binding,
    dsn::{Ssl, SslMode},
};

/// Most bytes of a file with certificates or a key.
const MAX_PEM_BYTES: u64 = 16 << 20;

/// Stands for the name of a server that has none.
const NO_NAME: &str = "name.invalid";

/// Makes TLS of connections.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// Reads the files that `ssl` names. Blocks.
    ///
    /// # Errors
    /// `Invalid` if a file cannot be read or holds something else.
    pub(crate) fn read(ssl: &Ssl) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = if ssl.only_13 {
            &[&version::TLS13]
        } else {
            &[&version::TLS13, &version::TLS12]
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|err| Error::bug("no TLS version is left").source_err(err))?
            .dangerous()
            .with_custom_certificate_verifier(verifier(ssl, provider)?);
        let config = match (&ssl.cert, &ssl.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("sslcert", cert)?;
                let secret = private_key(key)?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|err| {
                        Error::invalid("the client certificate and its key do not fit together")
                            .with("sslcert", cert.display())
                            .with("sslkey", key.display())
                            .source_err(err)
                    })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

impl Connector {
    /// The handshake with the server of this name.
    pub(crate) fn handshake(&self, name: &str) -> Result<Handshake, InvalidDnsNameError> {
        Ok(Handshake {
            config: self.config.clone(),
            name: ServerName::try_from(name.to_owned())?,
        })
    }
}

/// Who decides whether a server's certificate will do.
fn verifier(ssl: &Ssl, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let check = match (ssl.mode, &ssl.root) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => {
            return Ok(Arc::new(Lenient {
                provider,
                roots: None,
            }));
        }
        (SslMode::Require | SslMode::VerifyCa, _) => Check::Authority,
        (SslMode::VerifyFull, _) => Check::Name,
    };
    let roots = Arc::new(roots(ssl.root.as_deref())?);
    Ok(match check {
        Check::Authority => Arc::new(Lenient {
            provider,
            roots: Some(roots),
        }),
        Check::Name => WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|err| Error::invalid("no authority can be used").source_err(err))?,
    })
}

enum Check {
    Authority,
    Name,
}

/// The authorities of a file, or of the operating system.
fn roots(file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(Error::invalid(
                "the operating system has no authorities; name some with sslrootcert",
            ));
        }
        return Ok(roots);
    };
    for certificate in certificates("sslrootcert", path)? {
        roots.add(certificate).map_err(|err| {
            Error::invalid("a file of the database address holds an unusable certificate")
                .with("parameter", "sslrootcert")
                .with("path", path.display())
                .source_err(err)
        })?;
    }
    Ok(roots)
}

fn certificates(parameter: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |err: pem::Error| {
        Error::invalid("a file of the database address holds no PEM certificates")
            .with("parameter", parameter)
            .with("path", path.display())
            .source_err(err)
    };
    let bytes = read(parameter, path)?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read("sslkey", path)?).map_err(|err| {
        Error::invalid("a file of the database address holds no unencrypted PEM key")
            .with("parameter", "sslkey")
            .with("path", path.display())
            .source_err(err)
    })
}

fn read(parameter: &'static str, path: &Path) -> Result<Vec<u8>> {
    let wrong = |err: io::Error| {
        Error::invalid("a file of the database address cannot be read")
            .with("parameter", parameter)
            .with("path", path.display())
            .with("reason", &err)
            .source_err(err)
    };
    if fs::metadata(path).map_err(wrong)?.len() > MAX_PEM_BYTES {
        return Err(wrong(io::Error::other("too large")));
    }
    fs::read(path).map_err(wrong)
}

/// Does not ask for the name; without roots not for an authority either.
struct Lenient {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
}

impl fmt::Debug for Lenient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lenient").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        // A socket has no name, and the driver refuses TLS without one; it asks all the same.
        self.handshake(if host.is_empty() { NO_NAME } else { host })
    }
}

/// One handshake to come.
pub(crate) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            let stream = connector.connect(self.name, stream).await?;
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// A connection with TLS.
pub(crate) struct Stream<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let server = session.peer_certificates().and_then(<[_]>::first);
        match server.and_then(|certificate| binding::end_point(certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
