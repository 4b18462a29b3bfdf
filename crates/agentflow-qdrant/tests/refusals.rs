//! Whom we refuse, and who refuses us: keys, certificates, addresses, versions.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use agentflow_qdrant::{Access, Qdrant, Secret};
use agentflow_storage::vector::{Collection, Vectors as _};
use agentflow_testkit::{
    qdrant::{Options, QdrantServer},
    servers::certs::Authority,
};
use agentflow_types::{ErrorKind, Scope};
use support::{Secured, identity, quick};

/// Asserts that the check of this name fails, before a search too.
async fn refused(access: &Access, check: &str) {
    let index = Qdrant::new(access).unwrap();
    let scope = Scope::local();
    let searched = index.search(&scope, "c", &[]);
    for err in [
        index.check().await.unwrap_err(),
        searched.await.unwrap_err(),
    ] {
        assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
        let found = err.context().iter().find(|(name, _)| *name == "check");
        assert_eq!(
            found.map(|(_, value)| value.as_str()),
            Some(check),
            "{err:?}"
        );
        assert!(!format!("{err:?}").contains(support::KEY), "{err:?}");
    }
}

#[tokio::test]
async fn a_server_with_everything_lets_us_in() {
    let secured = Secured::start().await;
    let index = Qdrant::new(&secured.access()).unwrap();
    index.check().await.unwrap();
    assert!(index.collections().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_key_is_refused_though_the_health_check_asks_for_none() {
    let secured = Secured::start().await;
    let right = secured.access();
    let with = |api_key: Option<&str>| Access {
        api_key: api_key.map(|key| Secret(key.into())),
        ..right.clone()
    };
    refused(&with(Some("k-other")), "api key").await;
    refused(&with(None), "api key").await;
    let err = Qdrant::new(&with(Some("two\nlines"))).err().unwrap();
    assert_eq!(err.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn another_authority_is_refused_on_both_sides() {
    let secured = Secured::start().await;
    let dir = tempfile::tempdir().unwrap();
    let other = Authority::new(dir.path(), "other").unwrap();
    let right = secured.access();
    let theirs = Access {
        ca: Some(fs::read(other.pem()).unwrap()),
        ..right.clone()
    };
    refused(&theirs, "certificate authority").await;
    // Those of the operating system do not know it either.
    let public = Access {
        ca: None,
        ..right.clone()
    };
    refused(&public, "certificate authority").await;
    let ours = Access {
        identity: Some(identity(&other)),
        ..right.clone()
    };
    refused(&ours, "client certificate").await;
    let nobody = Access {
        identity: None,
        ..right
    };
    refused(&nobody, "client certificate").await;
}

#[tokio::test]
async fn a_certificate_of_another_host_or_time_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "root").unwrap();
    for (identity, check) in [
        (
            authority.server_named("elsewhere", &["elsewhere.example"]),
            "host name",
        ),
        (authority.expired_server(), "certificate validity"),
        (authority.early_server(), "certificate validity"),
    ] {
        let options = Options {
            identity: Some(identity.unwrap()),
            ..Options::default()
        };
        let server = QdrantServer::start(options).await.unwrap();
        let mut access = quick(server.url());
        access.ca = Some(fs::read(authority.pem()).unwrap());
        refused(&access, check).await;
        if check == "host name" {
            access.server_name = Some("elsewhere.example".into());
            Qdrant::new(&access).unwrap().check().await.unwrap();
        }
    }
}

#[tokio::test]
async fn tls_is_spoken_by_both_or_by_none() {
    let secured = Secured::start().await;
    let plain = quick(secured.server.url().replace("https", "http"));
    refused(&plain, "network").await;
    let server = QdrantServer::start(Options::default()).await.unwrap();
    let tls = Access {
        ca: secured.access().ca,
        ..quick(server.url().replace("http", "https"))
    };
    refused(&tls, "tls offered").await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_at_once() {
    let with_ca = Access {
        ca: Some(b"-----BEGIN CERTIFICATE-----\n".to_vec()),
        ..Access::new("http://localhost:6334")
    };
    let prefix = |prefix: &str| Access {
        prefix: prefix.into(),
        ..Access::new("http://localhost:6334")
    };
    for access in [
        with_ca,
        Access::new("localhost:6334"),
        Access::new("redis://localhost:6334"),
        Access::new("not an address"),
        prefix(""),
        prefix("a/"),
        prefix(&"x".repeat(41)),
    ] {
        let err = Qdrant::new(&access).err().unwrap();
        assert_eq!(err.kind(), ErrorKind::Invalid, "{access:?}");
    }
}

#[tokio::test]
async fn a_server_that_would_not_guard_versions_is_refused() {
    for (version, is_fine) in [
        ("1.15.5", false),
        ("nonsense", false),
        ("1.16.0", true),
        ("2.0.0-dev", true),
    ] {
        let options = Options {
            version: version.into(),
            ..Options::default()
        };
        let server = QdrantServer::start(options).await.unwrap();
        let index = Qdrant::new(&quick(server.url())).unwrap();
        let collection = Collection {
            name: "c".into(),
            sparse: ["words".to_owned()].into(),
            ..Collection::default()
        };
        assert_eq!(index.check().await.is_ok(), is_fine, "{version}");
        assert_eq!(
            index.ensure(&collection).await.is_ok(),
            is_fine,
            "{version}"
        );
    }
}

/// Others may use the server too.
#[tokio::test]
async fn collections_of_others_are_not_seen() {
    let server = QdrantServer::start(Options::default()).await.unwrap();
    let mine = Qdrant::new(&quick(server.url())).unwrap();
    let others = Access {
        prefix: "other-".into(),
        ..quick(server.url())
    };
    let others = Qdrant::new(&others).unwrap();
    let collection = Collection {
        name: "c".into(),
        dense: [("d".to_owned(), 2)].into(),
        ..Collection::default()
    };
    mine.ensure(&collection).await.unwrap();
    assert!(others.collections().await.unwrap().is_empty());
    assert!(!others.drop_collection("c").await.unwrap());
    assert_eq!(mine.collections().await.unwrap(), [collection]);
}
