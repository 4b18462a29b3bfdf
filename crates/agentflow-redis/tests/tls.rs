//! Each check that can fail when connecting fails closed, and is named.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::Path, time::Duration};

use agentflow_redis::{Access, Limits, Options, Persistence, Redis, Source};
use agentflow_testkit::servers::{
    certs::{Authority, Identity},
    redis::{self, Own},
};
use agentflow_types::{Error, ErrorKind};
use tempfile::TempDir;

/// A server of the test's own, its authority and its folder.
struct Server {
    own: Own,
    ca: Authority,
    dir: TempDir,
}

impl Server {
    fn start(identity: impl FnOnce(&Authority) -> Identity, demands: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca").unwrap();
        let client = ca.client("test").unwrap();
        let options = redis::Options::default().acl(&support::users()).tls(
            &identity(&ca),
            &ca.pem(),
            demands.then_some(&client),
        );
        let own = Own::start(&options).unwrap();
        Self { own, ca, dir }
    }

    fn access(&self) -> Access {
        let client = self.ca.client("test").unwrap();
        let url = format!("rediss://127.0.0.1:{}", self.own.address().port);
        support::access(&url, &self.ca.pem(), Some(&client))
    }
}

async fn refused(access: Access) -> Error {
    let limits = Limits {
        connect_timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..support::options(access)
    };
    Redis::open(options).await.err().expect("it is refused")
}

#[track_caller]
fn check(err: &Error, expected: &str) {
    let found = err.context().iter().find(|(name, _)| *name == "check");
    assert_eq!(
        found.map(|(_, value)| value.as_str()),
        Some(expected),
        "{err:?}"
    );
    assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
    let shown = format!("{err:?}");
    assert!(!shown.contains(support::PASSWORD), "{shown}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let server = Server::start(|ca| ca.server().unwrap(), false);
    let other = Authority::new(server.dir.path(), "other").unwrap();
    let access = Access {
        ca_file: Some(other.pem()),
        ..server.access()
    };
    check(&refused(access).await, "certificate authority");
    Redis::open(support::options(server.access()))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    // The server's own tools would refuse it, so it gets the certificate when it runs.
    let server = Server::start(|ca| ca.server().unwrap(), true);
    let expired = server.ca.expired_server().unwrap();
    let place = |file: &str| server.own.folder().join(file);
    fs::copy(&expired.cert, place("server.pem")).unwrap();
    fs::copy(&expired.key, place("server.key")).unwrap();
    let (cert, key) = (place("server.pem"), place("server.key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let reload = ["CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key];
    assert_eq!(server.own.address().cli(&reload).unwrap(), "OK");
    check(&refused(server.access()).await, "certificate validity");
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused() {
    let named = |ca: &Authority| ca.server_named("elsewhere", &["redis.example"]).unwrap();
    let server = Server::start(named, true);
    check(&refused(server.access()).await, "host name");
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let own = Own::start(&redis::Options::default().acl(&support::users())).unwrap();
    let url = format!("rediss://127.0.0.1:{}", own.address().port);
    check(
        &refused(support::access(&url, &ca.pem(), None)).await,
        "tls offered",
    );
}

#[tokio::test]
async fn a_server_that_demands_tls_says_so() {
    let server = Server::start(|ca| ca.server().unwrap(), false);
    let url = format!("redis://127.0.0.1:{}", server.own.address().port);
    let access = Access {
        ca_file: None,
        cert_file: None,
        key_file: None,
        ..support::access(&url, Path::new("none"), None)
    };
    check(&refused(access).await, "tls demanded");
}

#[tokio::test]
async fn a_missing_client_certificate_is_named() {
    let server = Server::start(|ca| ca.server().unwrap(), true);
    let access = Access {
        cert_file: None,
        key_file: None,
        ..server.access()
    };
    check(&refused(access).await, "client certificate");
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let server = support::shared().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "another one\n").unwrap();
    let access = Access {
        password_file: Some(file),
        ..support::shared_access(&server)
    };
    check(&refused(access.clone()).await, "password");
    let nobody = Access {
        username: Some("nobody".into()),
        ..access
    };
    check(&refused(nobody).await, "password");
}

#[tokio::test]
async fn keys_outside_the_prefix_are_refused() {
    let server = support::shared().await;
    let options = Options {
        prefix: "somebody-else".into(),
        ..support::options(support::shared_access(&server))
    };
    let err = Redis::open(options).await.err().expect("it is refused");
    check(&err, "rights");
}

#[tokio::test]
async fn the_user_of_the_file_may_do_nothing_else() {
    let server = support::shared().await;
    let address = server.server.address();
    for command in [
        &["FLUSHALL"] as &[&str],
        &["KEYS", "*"],
        &["CONFIG", "GET", "*"],
        &["GET", "elsewhere"],
        &["SUBSCRIBE", "agentflow:x"],
        &["ACL", "LIST"],
        &["SCAN", "0"],
        &["DEBUG", "SLEEP", "0"],
    ] {
        let dry = [&["ACL", "DRYRUN", "agentflow"], command].concat();
        let said = address.cli(&dry).unwrap();
        assert!(said.contains("no permissions"), "{command:?}: {said}");
    }
    let allowed = address.cli(&["ACL", "DRYRUN", "agentflow", "GET", "agentflow:x"]);
    assert_eq!(allowed.unwrap(), "OK");
}

#[tokio::test]
async fn nobody_listens() {
    let port = agentflow_testkit::ports::free().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let url = format!("rediss://127.0.0.1:{port}");
    check(
        &refused(support::access(&url, &ca.pem(), None)).await,
        "network",
    );
}

/// The password is in a file and changes; the connection breaks; the new one is used.
#[tokio::test]
async fn a_changed_password_is_picked_up() {
    let server = Server::start(|ca| ca.server().unwrap(), true);
    let secrets = tempfile::tempdir().unwrap();
    let (url, password) = (secrets.path().join("url"), secrets.path().join("password"));
    let port = server.own.address().port;
    fs::write(&url, format!("rediss://agentflow@127.0.0.1:{port}\n")).unwrap();
    fs::write(&password, support::PASSWORD).unwrap();
    let access = Access {
        source: Source::File(url),
        username: None,
        password_file: Some(password.clone()),
        ..server.access()
    };
    let redis = Redis::open(support::options(access)).await.unwrap();
    assert_eq!(redis.persistence().await.unwrap(), Persistence::Memory);
    let cli = |arguments: &[&str]| server.own.address().cli(arguments).unwrap();
    cli(&["ACL", "SETUSER", "agentflow", "resetpass", ">new one"]);
    fs::write(&password, "new one\n").unwrap();
    cli(&["CLIENT", "KILL", "USER", "agentflow"]);
    assert_eq!(redis.persistence().await.unwrap(), Persistence::Memory);
}
