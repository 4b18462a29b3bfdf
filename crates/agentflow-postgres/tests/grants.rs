//! What the user of the documentation must not do; what it must do, the conformance suites try.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use agentflow_postgres::{Migrate, Options, Postgres};
use agentflow_types::ErrorKind;
use support::{Database, Version};
use tokio_postgres::{NoTls, error::SqlState};

#[tokio::test]
async fn it_makes_drops_and_reads_nothing_else() {
    let (database, options) = Database::create_granted(Version::V17).await;
    let admin = database.admin().await;
    let other = "CREATE SCHEMA private; CREATE TABLE private.secrets (s text);
        CREATE TABLE public.others (s text)";
    admin.batch_execute(other).await.unwrap();
    let dsn = options.source.dsn().unwrap();
    let url = format!(
        "postgres://agentflow:change-me@{}/{}?sslmode=disable",
        dsn.hosts[0], dsn.dbname
    );
    let (client, driver) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(driver);
    for forbidden in [
        "CREATE TABLE mine (n int)",
        "CREATE TABLE agentflow.mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine",
        "DROP TABLE checkpoints",
        "DROP TABLE agentflow.runs",
        "DROP SCHEMA agentflow CASCADE",
        "ALTER TABLE agentflow.runs ADD COLUMN n int",
        "CREATE INDEX mine ON agentflow.runs (status)",
        "TRUNCATE agentflow.events",
        "TRUNCATE checkpoints",
        "INSERT INTO agentflow.migrations (version) VALUES (99)",
        "UPDATE checkpoint_migrations SET v = 99",
        "DELETE FROM store_migrations",
        "SELECT * FROM private.secrets",
        "SELECT * FROM public.others",
        "SELECT rolpassword FROM pg_authid",
        "COPY agentflow.runs TO '/tmp/runs'",
    ] {
        let err = client.batch_execute(forbidden).await.unwrap_err();
        let code = err.code();
        assert_eq!(code, Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}");
    }
}

#[tokio::test]
async fn it_brings_tables_up_to_date_only_if_there_is_nothing_to_do() {
    let (database, options) = Database::create_granted(Version::V17).await;
    let apply = Options {
        migrate: Migrate::Apply,
        ..options
    };
    drop(Postgres::open(apply.clone()).await.unwrap());
    let admin = database.admin().await;
    let older = "DELETE FROM checkpoint_migrations WHERE v = 9";
    admin.batch_execute(older).await.unwrap();
    let err = Postgres::open(apply).await.map(drop).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Bug, "{err:?}");
    assert!(err.to_string().contains("lacks a right"), "{err}");
}
