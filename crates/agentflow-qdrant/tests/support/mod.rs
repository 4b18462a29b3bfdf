//! Servers, and how they are reached.
#![allow(dead_code, reason = "each test uses a part")]

use std::{env, fs, path::PathBuf, thread, time::Duration};

use agentflow_qdrant::{Access, Identity, Limits, Qdrant, Secret};
use agentflow_storage::vector::Vectors as _;
use agentflow_testkit::{
    qdrant::{Options, QdrantServer},
    servers::certs::Authority,
};
use tempfile::TempDir;

/// The key of the secured server.
pub const KEY: &str = "k-0123456789";

/// A server that asks for a key and for a certificate of its authority.
pub struct Secured {
    pub server: QdrantServer,
    pub authority: Authority,
    pub dir: TempDir,
}

impl Secured {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path(), "root").unwrap();
        let options = Options {
            api_key: Some(KEY.into()),
            identity: Some(authority.server().unwrap()),
            client_ca: Some(authority.pem()),
            ..Options::default()
        };
        let server = QdrantServer::start(options).await.unwrap();
        Self {
            server,
            authority,
            dir,
        }
    }

    /// With everything that the server asks for.
    pub fn access(&self) -> Access {
        Access {
            api_key: Some(Secret(KEY.into())),
            ca: Some(fs::read(self.authority.pem()).unwrap()),
            identity: Some(identity(&self.authority)),
            ..quick(self.server.url())
        }
    }
}

/// A client's certificate.
pub fn identity(authority: &Authority) -> Identity {
    let ours = authority.client("agentflow").unwrap();
    Identity {
        cert: fs::read(ours.cert).unwrap(),
        key: fs::read(ours.key).unwrap(),
    }
}

/// With short pauses.
pub fn quick(url: impl Into<String>) -> Access {
    Access {
        limits: Limits {
            min_pause: Duration::from_millis(1),
            max_pause: Duration::from_millis(4),
            ..Limits::default()
        },
        ..Access::new(url)
    }
}

/// The real server that the environment names, if any, with a prefix of its own.
pub fn real() -> Option<Access> {
    let url = env::var("AGENTFLOW_QDRANT_URL").ok()?;
    let file = |name: &str| env::var_os(name).map(|path| fs::read(PathBuf::from(path)).unwrap());
    let (cert, key) = (file("AGENTFLOW_QDRANT_CERT"), file("AGENTFLOW_QDRANT_KEY"));
    let api_key = file("AGENTFLOW_QDRANT_API_KEY_FILE");
    let api_key = api_key.map(|key| String::from_utf8(key).unwrap().trim_end().to_owned());
    Some(Access {
        api_key: api_key.map(Secret),
        ca: file("AGENTFLOW_QDRANT_CA"),
        identity: cert.zip(key).map(|(cert, key)| Identity { cert, key }),
        prefix: format!("aftest-{:016x}-", fastrand::u64(..)),
        ..Access::new(url)
    })
}

/// Drops the collections of a test when it ends.
pub struct Tidy(pub Access);

impl Drop for Tidy {
    fn drop(&mut self) {
        let access = self.0.clone();
        // The test's own runtime cannot wait in a drop.
        let work = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let index = Qdrant::new(&access).unwrap();
                for collection in index.collections().await.unwrap() {
                    index.drop_collection(&collection.name).await.unwrap();
                }
            });
        };
        if thread::spawn(work).join().is_err() {
            eprintln!("collections with the prefix {} are left", self.0.prefix);
        }
    }
}
