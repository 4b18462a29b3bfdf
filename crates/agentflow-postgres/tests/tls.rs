//! Every check of a connection fails closed and says which one it was; secrets are read again.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use agentflow_postgres::{Dsn, Listen, Options, Postgres, Source};
use agentflow_storage::conformance::sample::thread_id;
use agentflow_testkit::servers::{
    certs::{Authority, Identity},
    pgbouncer::{self, Bouncer},
    postgres::{self as server, APP_PASSWORD, Address, Own, Version, verify_full},
};
use agentflow_types::{Error, ErrorKind, Result};

#[path = "tls/versions.rs"]
mod versions;

/// What `pg_hba.conf` says if a certificate of the client is demanded beside its password.
const MUTUAL: [&str; 1] = ["hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"];

fn options(url: &str) -> Options {
    let mut options = Options::new(Dsn::parse(url).expect("a valid address"));
    options.listen = Listen::Off;
    // What passes is tried again until then.
    options.limits.acquire_timeout = Duration::from_millis(200);
    options
}

/// Opens the database and asks something.
async fn works(options: Options) -> Result<()> {
    let backend = Postgres::open(options).await?.backend();
    backend.events.last_seq(thread_id(1)).await.map(drop)
}

/// Whether opening fails because of `check`, without telling a password.
#[track_caller]
fn refused(outcome: Result<()>, check: &str) -> Error {
    let err = outcome.expect_err("the connection is refused");
    let fact = err.context().iter().find(|(name, _)| *name == "check");
    assert_eq!(
        fact.map(|(_, value)| value.as_str()),
        Some(check),
        "{err:?}"
    );
    assert_eq!(err.kind(), ErrorKind::Busy);
    assert!(!format!("{err:?}").contains(APP_PASSWORD), "{err:?}");
    err
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

fn with_root(address: &Address, mode: &str, root: &Path) -> String {
    address.url_with("app", &[("sslmode", mode), ("sslrootcert", text(root))])
}

/// The same address under another name.
fn named(url: &str, name: &str) -> String {
    let url = url.replace("@127.0.0.1:", &format!("@{name}:"));
    format!("{url}&hostaddr=127.0.0.1")
}

/// A server of one test with an authority and a database `app`.
struct World {
    server: Own,
    authority: Authority,
    _dir: tempfile::TempDir,
}

impl World {
    fn start(certificate: fn(&Authority) -> Result<Identity>, hba: &[&str]) -> Self {
        Self::start_version(Version::Debian, certificate, hba)
    }

    fn start_version(
        version: Version,
        certificate: fn(&Authority) -> Result<Identity>,
        hba: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(dir.path(), "ca").expect("an authority");
        let certificate = certificate(&authority).expect("a certificate");
        let options = server::Options::new(version)
            .tls(&certificate, Some(&authority.pem()))
            .hba(hba);
        Self::with(&options, authority, dir)
    }

    fn with(options: &server::Options, authority: Authority, dir: tempfile::TempDir) -> Self {
        let server = Own::start(options).expect("a server");
        let create = "CREATE DATABASE app OWNER app";
        server
            .address()
            .sql("postgres", create)
            .expect("a database");
        Self {
            server,
            authority,
            _dir: dir,
        }
    }

    fn address(&self) -> &Address {
        self.server.address()
    }

    fn url(&self, mode: &str) -> String {
        with_root(self.address(), mode, &self.authority.pem())
    }

    fn url_of(&self, client: &Identity) -> String {
        let root = self.authority.pem();
        self.address().url_with("app", &verify_full(&root, client))
    }
}

const ANY: [&str; 1] = ["host all all 127.0.0.1/32 scram-sha-256"];

#[tokio::test]
async fn everything_may_be_demanded() -> Result<()> {
    for version in Version::ENDS {
        let world = World::start_version(version, Authority::server, &MUTUAL);
        let client = world.authority.client("app")?;
        let url = world.url_of(&client);
        works(options(&format!("{url}&channel_binding=require"))).await?;
        works(options(&format!("{url}&ssl_min_protocol_version=TLSv1.3"))).await?;
        stops(&url, &world).await?;

        let without = world.url("verify-full");
        refused(works(options(&without)).await, "client certificate");
        let expired = world.authority.expired_client("app")?;
        let expired = world.url_of(&expired);
        refused(works(options(&expired)).await, "client certificate");
        let other = world.url_of(&world.authority.client("other")?);
        refused(works(options(&other)).await, "password");
        let plain = world.address().url("app");
        refused(works(options(&plain)).await, "password");
    }
    Ok(())
}

/// A request to stop passes TLS too.
async fn stops(url: &str, world: &World) -> Result<()> {
    const GRACE: Duration = Duration::from_secs(20);
    let mut options = options(url);
    options.limits.statement_timeout = Duration::from_millis(200);
    options.limits.cancel_grace = GRACE;
    let backend = Postgres::open(options).await?.backend();
    let plain = world.address().admin_url("app");
    let connected = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await;
    let (lock, driver) = connected.expect("the superuser may");
    tokio::spawn(driver);
    let sql = "BEGIN; LOCK TABLE agentflow.threads IN ACCESS EXCLUSIVE MODE";
    lock.batch_execute(sql).await.expect("the table is free");
    let started = Instant::now();
    let found = backend.events.last_seq(thread_id(1)).await;
    assert!(format!("{found:?}").contains("user request"), "{found:?}");
    assert!(started.elapsed() < GRACE, "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_certificate_must_be_from_the_authority_and_for_the_host() -> Result<()> {
    let world = World::start(Authority::server, &ANY);
    let stranger = Authority::new(world.server.folder(), "stranger")?;
    let root = stranger.pem();
    for mode in ["verify-full", "verify-ca", "require"] {
        works(options(&world.url(mode))).await?;
        let foreign = with_root(world.address(), mode, &root);
        refused(works(options(&foreign)).await, "certificate authority");
    }
    // The authorities of the operating system do not know it either.
    let system = world
        .address()
        .url_with("app", &[("sslmode", "verify-full")]);
    refused(works(options(&system)).await, "certificate authority");
    let unchecked = world.address().url_with("app", &[("sslmode", "require")]);
    works(options(&unchecked)).await?;

    let wrong = named(&world.url("verify-full"), "db.example");
    refused(works(options(&wrong)).await, "host name");
    works(options(&named(&world.url("verify-full"), "localhost"))).await?;
    works(options(&named(&world.url("verify-ca"), "db.example"))).await
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let world = World::start(Authority::expired_server, &ANY);
    for mode in ["verify-full", "verify-ca"] {
        refused(
            works(options(&world.url(mode))).await,
            "certificate validity",
        );
    }
}

#[tokio::test]
async fn tls_1_1_is_not_spoken() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(dir.path(), "ca")?;
    let options_of = server::Options::new(Version::Debian)
        .tls(&authority.server()?, None)
        .set("ssl_min_protocol_version", "TLSv1")
        .set("ssl_max_protocol_version", "TLSv1.1")
        .set("ssl_ciphers", "DEFAULT@SECLEVEL=0");
    let world = World::with(&options_of, authority, dir);
    for mode in ["verify-full", "require", "prefer"] {
        refused(works(options(&world.url(mode))).await, "tls version");
    }
    Ok(())
}

#[tokio::test]
async fn plain_text_is_not_fallen_back_to() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(dir.path(), "ca")?;
    let world = World::with(&server::Options::new(Version::Debian), authority, dir);
    for mode in ["verify-full", "verify-ca", "require"] {
        refused(works(options(&world.url(mode))).await, "tls offered");
    }
    works(options(&world.url("prefer"))).await
}

#[tokio::test]
async fn a_socket_of_this_machine_needs_no_tls() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let anyone = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder.path(), anyone).expect("the folder is ours");
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(dir.path(), "ca")?;
    let settings = server::Options::new(Version::Debian)
        .set("unix_socket_directories", text(folder.path()))
        .hba(&["local all all scram-sha-256"]);
    let world = World::with(&settings, authority, dir);
    let (port, path) = (world.address().port, text(folder.path()));
    let url = format!("postgres://app:{APP_PASSWORD}@/app?host={path}&port={port}");
    works(options(&format!("{url}&sslmode=verify-full"))).await?;
    let wrong = url.replace(APP_PASSWORD, "wrong");
    refused(works(options(&wrong)).await, "password");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_wrong_is_named() {
    let address = Address {
        port: 1,
        version: Version::Debian,
    };
    let dir = tempfile::tempdir().expect("a folder");
    let missing = dir.path().join("missing.pem");
    let garbage = dir.path().join("garbage.pem");
    fs::write(&garbage, "garbage").expect("a file");
    for (path, says) in [(&missing, "cannot be read"), (&garbage, "no PEM")] {
        let url = with_root(&address, "verify-full", path);
        let err = works(options(&url)).await.expect_err("a wrong file");
        assert_eq!(err.kind(), ErrorKind::Invalid);
        let shown = err.to_string();
        assert!(
            shown.contains(says) && shown.contains(text(path)),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_revoked_password_is_refused_and_a_new_one_is_read() -> Result<()> {
    let world = World::start(Authority::server, &ANY);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("password");
    fs::write(&file, format!("{APP_PASSWORD}\n")).expect("a file");
    let url = world.url("verify-full").replace(APP_PASSWORD, "stale");
    let db = Postgres::open(Options {
        password_file: Some(file.clone()),
        ..options(&url)
    })
    .await?;
    let backend = db.backend();
    let ask = || backend.events.last_seq(thread_id(1));
    ask().await?;

    let revoke = "ALTER ROLE app PASSWORD 'renewed';
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'";
    world.address().sql("postgres", revoke)?;
    let err = refused(ask().await.map(drop), "password");
    assert!(err.to_string().contains("refused the password"), "{err}");
    fs::write(&file, "renewed").expect("a file");
    ask().await.map(drop)
}

#[tokio::test]
async fn an_address_in_a_file_and_certificates_are_read_again() -> Result<()> {
    let world = World::start(Authority::server, &MUTUAL);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("url");
    let expired = world.authority.expired_client("app")?;
    fs::write(&file, world.url_of(&expired)).expect("a file");
    let from_file = || Options {
        source: Source::File(file.clone()),
        ..options("postgres://u@h")
    };
    refused(works(from_file()).await, "client certificate");

    let fresh = world.authority.client("app")?;
    fs::copy(&fresh.cert, &expired.cert).expect("a copy");
    fs::copy(&fresh.key, &expired.key).expect("a copy");
    works(from_file()).await?;
    fs::write(&file, world.url_of(&fresh).replace(APP_PASSWORD, "wrong")).expect("a file");
    refused(works(from_file()).await, "password");
    Ok(())
}

#[tokio::test]
async fn a_pooler_with_tls_on_both_sides_will_do() -> Result<()> {
    for version in Version::ENDS {
        let world = World::start_version(version, Authority::server, &MUTUAL);
        let client = world.authority.client("app")?;
        let (root, certificate) = (world.authority.pem(), world.authority.server()?);
        let bouncer = Bouncer::start(
            &pgbouncer::Options::new(world.address().port)
                .client_tls(&certificate, Some(&root))
                .server_tls(&root, Some(&client)),
        )?;
        let demanded = verify_full(&root, &client);
        let url = bouncer.address().url_with("app", &demanded);
        works(options(&url)).await?;
        stops(&url, &world).await?;
        let wrong = url.replace(APP_PASSWORD, "wrong");
        refused(works(options(&wrong)).await, "password");
        let without = with_root_of(&bouncer, &root);
        refused(works(options(&without)).await, "client certificate");
    }
    Ok(())
}

fn with_root_of(bouncer: &Bouncer, root: &Path) -> String {
    let parameters = [("sslmode", "verify-full"), ("sslrootcert", text(root))];
    bouncer.address().url_with("app", &parameters)
}
