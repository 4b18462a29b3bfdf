//! The real servers start, are shared, take faults and go away.

use std::{fs, path::Path, process::Command, time::Duration};

use agentflow_testkit::{
    servers::{
        certs::{Authority, Identity},
        pgbouncer::{self, Bouncer},
        postgres::{self, Own, Version},
        redis,
    },
    waiting,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// What `psql`, which is PostgreSQL's own client, says to a URL: its error if it cannot connect.
fn psql(url: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-At", "-c", "SELECT current_user", url])
        .output()
        .expect("psql is installed with the server");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn shared_postgres_gives_databases_with_and_without_tls() {
    for version in Version::ALL {
        let server = postgres::shared(version).unwrap();
        let database = server.create_database().unwrap();
        let other = server.create_database().unwrap();
        assert_ne!(database.name(), other.name());
        let shown = database.sql("SHOW server_version").unwrap();
        match version {
            Version::Debian => {}
            Version::V16 => assert!(shown.starts_with("16."), "{shown}"),
            Version::V17 => assert!(shown.starts_with("17."), "{shown}"),
        }
        let bouncer = server.bouncer().unwrap();
        for url in [
            database.url(),
            database.bouncer_url(&bouncer),
            server.tls_url(database.name()),
        ] {
            assert_eq!(psql(&url).as_deref(), Ok(postgres::APP), "{url}");
        }
        let owner =
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()";
        assert_eq!(database.sql(owner).unwrap(), postgres::APP);
    }
}

#[tokio::test]
async fn a_database_is_prepared_once() {
    let server = postgres::shared(Version::Debian).unwrap();
    // Other runs of this test may have left theirs.
    let key = format!("test_{}", std::process::id());
    let like = || server.database_like(&key, async |db| db.sql("CREATE TABLE t (n int)").map(drop));
    let (one, two) = tokio::join!(like(), like());
    let (one, two) = (one.unwrap(), two.unwrap());
    one.sql("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(one.sql("SELECT count(*) FROM t").unwrap(), "1");
    assert_eq!(two.sql("SELECT count(*) FROM t").unwrap(), "0");
}

/// A folder that goes with the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn verify_full(ca: &Authority, client: &Identity) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.display().to_string();
    vec![
        ("sslmode", "verify-full".to_owned()),
        ("sslrootcert", text(&ca.pem())),
        ("sslcert", text(&client.cert)),
        ("sslkey", text(&client.key)),
    ]
}

fn borrowed<'a>(parameters: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let pairs = parameters.iter();
    pairs.map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn what_is_wrong_with_a_certificate_is_seen_by_a_strict_client() {
    let dir = folder();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let other = Authority::new(dir.path(), "other").unwrap();
    let client = ca.client(postgres::APP).unwrap();
    let demands = ["hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"];
    let options = postgres::Options::new(Version::Debian)
        .tls(&ca.server().unwrap(), Some(&ca.pem()))
        .hba(&demands);
    let server = Own::start(&options).unwrap();
    let attempt = |ca: &Authority, client: &Identity| {
        let parameters = verify_full(ca, client);
        psql(
            &server
                .address()
                .url_with("postgres", &borrowed(&parameters)),
        )
    };
    let install = |identity: &Identity| {
        let read = |path| fs::read_to_string(path).unwrap();
        server.replace("server.key", &read(&identity.key)).unwrap();
        server.replace("server.pem", &read(&identity.cert)).unwrap();
    };
    assert_eq!(attempt(&ca, &client).as_deref(), Ok(postgres::APP));
    let refused = |ca: &Authority, client: &Identity, word: &str| {
        let error = attempt(ca, client).unwrap_err();
        assert!(error.contains(word), "{word}: {error}");
    };
    refused(&other, &client, "certificate verify failed");
    refused(&ca, &other.client(postgres::APP).unwrap(), "unknown ca");
    refused(
        &ca,
        &ca.client("somebody").unwrap(),
        "authentication failed",
    );
    refused(
        &ca,
        &ca.expired_client(postgres::APP).unwrap(),
        "certificate",
    );
    install(&ca.expired_server().unwrap());
    // The postmaster reads its files a moment after it is told to.
    let expired = || attempt(&ca, &client).is_err_and(|error| error.contains("verify failed"));
    let wait = async || expired();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(waiting::until(DEADLINE, wait)).unwrap();
    install(&ca.server_named("elsewhere", &["db.example.org"]).unwrap());
    let wrong_name = async || {
        attempt(&ca, &client).is_err_and(|error| error.contains("does not match host name"))
    };
    runtime
        .block_on(waiting::until(DEADLINE, wrong_name))
        .unwrap();
}

#[test]
fn pgbouncer_speaks_tls_on_both_sides() {
    let dir = folder();
    let ca = Authority::new(dir.path(), "ca").unwrap();
    let (identity, client) = (ca.server().unwrap(), ca.client(postgres::APP).unwrap());
    let options = postgres::Options::new(Version::V17)
        .tls(&identity, Some(&ca.pem()))
        .hba(&["hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"]);
    let server = Own::start(&options).unwrap();
    let options = pgbouncer::Options::new(server.address().port)
        .pool(2)
        .client_tls(&identity, Some(&ca.pem()))
        .server_tls(&ca.pem(), Some(&client));
    let mut bouncer = Bouncer::start(&options).unwrap();
    let parameters = verify_full(&ca, &client);
    let url = bouncer
        .address()
        .url_with("postgres", &borrowed(&parameters));
    assert_eq!(psql(&url).as_deref(), Ok(postgres::APP));
    psql(&bouncer.address().url("postgres")).unwrap_err();
    bouncer.kill().unwrap();
    psql(&url).unwrap_err();
    bouncer.restart().unwrap();
    assert_eq!(psql(&url).as_deref(), Ok(postgres::APP));
}

#[test]
fn an_own_postgres_survives_a_kill_and_leaves_nothing_behind() {
    for version in Version::ALL {
        let mut server =
            Own::start(&postgres::Options::new(version).set("max_connections", "30")).unwrap();
        let database = server.address().create_database().unwrap();
        database
            .sql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
            .unwrap();
        server.kill().unwrap();
        database.sql("SELECT n FROM t").unwrap_err();
        server.restart().unwrap();
        assert_eq!(database.sql("SELECT n FROM t").unwrap(), "7");
        assert_eq!(database.sql("SHOW max_connections").unwrap(), "30");
        let folder = server.folder().to_owned();
        drop((database, server));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let gone = async || !folder.exists();
        runtime.block_on(waiting::until(DEADLINE, gone)).unwrap();
    }
}

#[test]
fn a_standby_has_what_was_acknowledged_and_takes_over() {
    let mut first = Own::start(&postgres::Options::new(Version::Debian)).unwrap();
    let standby = first.standby().unwrap();
    let sql = "CREATE TABLE t (n int); INSERT INTO t VALUES (7)";
    first.address().sql("postgres", sql).unwrap();
    let second = standby.address();
    second
        .sql("postgres", "INSERT INTO t VALUES (8)")
        .unwrap_err();
    first.kill().unwrap();
    standby.promote().unwrap();
    let sql = "INSERT INTO t VALUES (8) RETURNING (SELECT max(n) FROM t)";
    assert_eq!(second.sql("postgres", sql).unwrap(), "7");
}

#[test]
fn shared_redis_gives_databases_with_and_without_tls() {
    let plain = redis::shared().unwrap();
    let tls = redis::shared_tls().unwrap();
    for server in [&plain, &tls.server] {
        let (one, two) = (server.database().unwrap(), server.database().unwrap());
        assert_eq!(one.cli(&["SET", "key", "1"]).unwrap(), "OK");
        assert_eq!(one.cli(&["GET", "key"]).unwrap(), "1");
        assert_eq!(two.cli(&["GET", "key"]).unwrap(), "");
        assert!(one.url().ends_with(&format!("/{}", one.number())));
    }
    assert!(plain.address().url().starts_with("redis://"));
    assert!(tls.server.address().url().starts_with("rediss://"));
}

#[test]
fn an_own_redis_keeps_its_users_and_its_log() {
    let options = redis::Options::default()
        .acl("# Comment\nuser app on >app-password ~app:* +get +set\n")
        .persistence(redis::Persistence::AppendAlways);
    let mut server = redis::Own::start(&options).unwrap();
    assert_eq!(
        server.address().cli(&["SET", "app:key", "1"]).unwrap(),
        "OK"
    );
    let users = server.address().cli(&["ACL", "LIST"]).unwrap();
    assert!(users.contains("user app on"), "{users}");
    assert!(users.contains("user default off"), "{users}");
    server.kill().unwrap();
    server.address().cli(&["GET", "app:key"]).unwrap_err();
    server.restart().unwrap();
    assert_eq!(server.address().cli(&["GET", "app:key"]).unwrap(), "1");
}
