//! TLS of the listener.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{SOON, Server};
use crate::{Limits, Secure, Security, Tls, TlsFiles};

/// An authority that signs into a folder.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn sign(&self, dir: &Path, file: &str) {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(dir.join(format!("{file}.pem")), cert.pem()).unwrap();
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("ca.pem"), self.0.pem()).unwrap();
    }
}

fn files(dir: &Path, client_ca: bool) -> TlsFiles {
    TlsFiles {
        cert: dir.join("server.pem"),
        key: dir.join("server.key"),
        client_ca: client_ca.then(|| dir.join("ca.pem")),
    }
}

/// Asks `/ok` over TLS; the status line, or why not, and the certificate that was shown.
async fn ask(
    address: std::net::SocketAddr,
    ca: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
    client: Option<&Path>,
) -> Result<(String, Vec<u8>), String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.0.pem().as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(dir) => {
            let cert = CertificateDer::from_pem_file(dir.join("client.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(dir.join("client.key")).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut socket = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(|err| err.to_string())?;
    let shown = socket.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let request = b"GET /ok HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    socket
        .write_all(request)
        .await
        .map_err(|err| err.to_string())?;
    let mut text = Vec::new();
    let read = tokio::time::timeout(SOON, socket.read_to_end(&mut text))
        .await
        .unwrap();
    read.map_err(|err| err.to_string())?;
    Ok((String::from_utf8(text).unwrap(), shown))
}

struct Up {
    address: std::net::SocketAddr,
    tls: Arc<Tls>,
    stop: CancellationToken,
    _server: Server,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(files: TlsFiles) -> Up {
    let tls = Arc::new(Tls::load(files).unwrap());
    let security = Security {
        secure: Secure::Yes,
        ..Security::default()
    };
    let memory = agentflow_storage::memory::Memory::open();
    let server = Server::over(memory, Limits::default(), |state| {
        state.with_security(security).with_tls(tls.clone())
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (router, state) = (server.router.clone(), server.state.clone());
    tokio::spawn(crate::serve(listener, router, state, stop.clone()));
    Up {
        address,
        tls,
        stop,
        _server: server,
    }
}

#[tokio::test]
async fn the_listener_speaks_tls_and_tells_browsers_to_stay_with_it() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    ca.sign(dir.path(), "server");
    let up = serve(files(dir.path(), false)).await;
    for version in [&TLS12, &TLS13] {
        let (text, _) = ask(up.address, &ca, &[version], None).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(
            text.contains("strict-transport-security: max-age="),
            "{text}"
        );
    }
    let stranger = ask(up.address, &Authority::new(), &[&TLS13], None).await;
    assert!(stranger.is_err(), "only who trusts the authority connects");
    let mut plain = TcpStream::connect(up.address).await.unwrap();
    plain
        .write_all(b"GET /ok HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = tokio::time::timeout(SOON, plain.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(
        !answer.starts_with(b"HTTP"),
        "nothing is served without TLS"
    );
}

#[tokio::test]
async fn new_certificates_are_used_and_bad_ones_are_not() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    ca.sign(dir.path(), "server");
    let up = serve(files(dir.path(), false)).await;
    let (_, first) = ask(up.address, &ca, &[&TLS13], None).await.unwrap();
    ca.sign(dir.path(), "server");
    up.tls.look_now();
    let (_, second) = ask(up.address, &ca, &[&TLS13], None).await.unwrap();
    assert_ne!(first, second);
    std::fs::write(dir.path().join("server.key"), "nonsense").unwrap();
    up.tls.look_now();
    let (_, third) = ask(up.address, &ca, &[&TLS13], None).await.unwrap();
    assert_eq!(second, third);
}

#[tokio::test]
async fn clients_show_a_certificate_where_that_is_demanded() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    ca.sign(dir.path(), "server");
    ca.sign(dir.path(), "client");
    let up = serve(files(dir.path(), true)).await;
    let known = ask(up.address, &ca, &[&TLS13], Some(dir.path())).await;
    assert!(known.unwrap().0.starts_with("HTTP/1.1 200 OK"));
    let unknown = ask(up.address, &ca, &[&TLS13], None).await;
    assert!(unknown.is_err(), "{unknown:?}");
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    assert!(
        Tls::load(files(dir.path(), false)).is_err(),
        "there are none"
    );
    ca.sign(dir.path(), "server");
    ca.sign(dir.path(), "other");
    let mixed = TlsFiles {
        key: dir.path().join("other.key"),
        ..files(dir.path(), false)
    };
    assert!(Tls::load(mixed).is_err());
    std::fs::write(dir.path().join("server.pem"), "").unwrap();
    assert!(Tls::load(files(dir.path(), false)).is_err());
}
