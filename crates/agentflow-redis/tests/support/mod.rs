//! Servers for the tests: with TLS, and the user of the file that is shipped.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its part, and a test may panic"
)]

use std::path::Path;

use agentflow_redis::{Access, Address, Options, Redis};
use agentflow_testkit::servers::{
    certs::Identity,
    redis::{self, TlsHandle},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The file that is shipped.
pub const USERS: &str = include_str!("../../../../deploy/redis/users.acl");
/// Password of its user in tests; an odd one.
pub const PASSWORD: &str = "p@ss/w:rd %";

/// The shipped file with the hash of [`PASSWORD`].
pub fn users() -> String {
    let hash: String = Sha256::digest(PASSWORD)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let filled = USERS.replace("REPLACE_WITH_THE_SHA256_OF_THE_PASSWORD", &hash);
    assert_ne!(filled, USERS);
    filled
}

/// The shared server.
pub async fn shared() -> TlsHandle {
    let started = tokio::task::spawn_blocking(|| redis::shared_acl(&users()));
    started.await.unwrap().unwrap()
}

/// How the user of the file reaches a server with TLS.
pub fn access(url: &str, ca: &Path, client: Option<&Identity>) -> Access {
    let mut address: Address = url.parse().unwrap();
    let with_login: Address = format!("redis://:{}@h", "p%40ss%2Fw%3Ard%20%25")
        .parse()
        .unwrap();
    address.user = Some("agentflow".into());
    address.password = with_login.password;
    Access {
        ca_file: Some(ca.to_owned()),
        cert_file: client.map(|client| client.cert.clone()),
        key_file: client.map(|client| client.key.clone()),
        ..Access::new(address)
    }
}

/// How the user of the file reaches the shared server.
pub fn shared_access(server: &TlsHandle) -> Access {
    let url = server.server.address().url();
    access(&url, &server.ca, Some(&server.client))
}

/// Valkey, opened as the user of the file with keys of the test's own. It has no TLS: the package
/// that carries it is built without.
pub async fn open_valkey() -> Redis {
    let started = tokio::task::spawn_blocking(|| redis::shared_valkey(&users()));
    let url = started.await.unwrap().unwrap().address().url();
    let access = Access {
        ca_file: None,
        ..access(&url, Path::new("/"), None)
    };
    Redis::open(options(access)).await.unwrap()
}

/// Options with keys of the test's own.
pub fn options(access: Access) -> Options {
    Options {
        prefix: format!("agentflow:{}", Uuid::new_v4().simple()),
        ..Options::new(access)
    }
}

/// The shared server, opened with keys of the test's own.
pub async fn open() -> Redis {
    let server = shared().await;
    Redis::open(options(shared_access(&server))).await.unwrap()
}
