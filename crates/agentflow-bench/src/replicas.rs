//! Two servers as a production has them, for as long as a command runs.
//!
//! PostgreSQL is reached through PgBouncer in transaction mode, Redis as an ACL user; every
//! connection (client to server, server to pooler, pooler to PostgreSQL, server to Redis) is TLS
//! with both certificates verified, where the one that asks has one. The servers run in the
//! production profile, with authentication.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use agentflow_testkit::servers::{
    certs::{Authority, Identity},
    pgbouncer::{self, Bouncer},
    postgres::{self, APP, Version},
    redis,
};
use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::drive::server::Server;

/// Options of the driver.
#[derive(clap::Args)]
pub struct Args {
    /// The fixture server.
    #[arg(long)]
    server: PathBuf,
    /// PostgreSQL: 15 (Debian's) or 17.
    #[arg(long, default_value_t = 17)]
    postgres: u8,
    /// The command and its arguments. It finds the servers in `AGENTFLOW_URL` and
    /// `AGENTFLOW_PEER_URL`, a key in `AGENTFLOW_API_KEY`, and their authority where OpenSSL and
    /// Node look for it.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The database.
const DATABASE: &str = "replicas";
/// Key of an operator.
const KEY: &str = "bootstrap-key-of-two-servers-under-test";
/// Password of the user in Redis.
const REDIS_PASSWORD: &str = "redis-password";
/// The users that are shipped for Redis, and what stands there for the password.
const REDIS_USERS: &str = include_str!("../../../deploy/redis/users.acl");
const REDIS_PLACE: &str = "#REPLACE_WITH_THE_SHA256_OF_THE_PASSWORD";
/// Key that webhooks are signed with.
const WEBHOOK_KEY: &str = "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBhIHRlc3Qga2V5ISE=";
/// A client has a certificate and a password; there is no other way in.
const MUTUAL: [&str; 1] = ["hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full"];

/// What both servers need; everything ends with it.
struct Stage {
    dir: TempDir,
    ca: PathBuf,
    server: Identity,
    client: Identity,
    bouncer: Bouncer,
    redis: redis::Own,
    _postgres: postgres::Own,
}

impl Stage {
    fn build(version: Version) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let authority = Authority::new(dir.path(), "ca")?;
        let server = authority.server()?;
        let client = authority.client(APP)?;
        let ca = authority.pem();
        let options = postgres::Options::new(version)
            .tls(&server, Some(&ca))
            .hba(&MUTUAL);
        let postgres = postgres::Own::start(&options)?;
        let create = format!("CREATE DATABASE {DATABASE} OWNER {APP}");
        postgres.address().sql("postgres", &create)?;
        let options = pgbouncer::Options::new(postgres.address().port)
            .client_tls(&server, Some(&ca))
            .server_tls(&ca, Some(&client));
        let bouncer = Bouncer::start(&options)?;
        let users = REDIS_USERS.replace(REDIS_PLACE, &format!(">{REDIS_PASSWORD}"));
        let options = redis::Options::default()
            .acl(&users)
            .tls(&server, &ca, Some(&client));
        Ok(Self {
            redis: redis::Own::start(&options)?,
            dir,
            ca,
            server,
            client,
            bouncer,
            _postgres: postgres,
        })
    }

    /// The configuration of both servers.
    fn config(&self) -> Result<PathBuf> {
        let (ca, server) = (&self.ca, &self.server);
        let password = self.dir.path().join("redis-password");
        fs::write(&password, REDIS_PASSWORD)?;
        let demanded = postgres::verify_full(ca, &self.client);
        let database = self.bouncer.address().url_with(DATABASE, &demanded);
        let redis = format!("rediss://agentflow@127.0.0.1:{}", self.redis.address().port);
        let Identity { cert, key } = &self.client;
        let text = format!(
            "profile = \"production\"
             [server.tls]
             cert_file = {server_cert:?}
             key_file = {server_key:?}
             [auth]
             mode = \"on\"
             bootstrap_key = \"{KEY}\"
             [webhooks]
             secret = \"{WEBHOOK_KEY}\"
             [storage]
             url = \"{database}\"
             listen_url = \"off\"
             [redis]
             url = \"{redis}\"
             password_file = {password:?}
             ca_file = {ca:?}
             cert_file = {cert:?}
             key_file = {key:?}
             ",
            server_cert = server.cert,
            server_key = server.key,
        );
        let file = self.dir.path().join("agentflow.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// Starts everything, runs the command, and fails if it does.
pub async fn run(args: Args) -> Result<()> {
    let version = match args.postgres {
        15 => Version::Debian,
        _ => Version::V17,
    };
    let stage = tokio::task::spawn_blocking(move || Stage::build(version)).await??;
    let config = stage.config()?;
    let (first, one) = start(&args.server, &config).await?;
    let (second, two) = start(&args.server, &config).await?;
    let [program, arguments @ ..] = &*args.command else {
        unreachable!("the command line demands a command");
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("AGENTFLOW_URL", one)
        .env("AGENTFLOW_PEER_URL", two)
        .env("SSL_CERT_FILE", &stage.ca)
        .env("NODE_EXTRA_CA_CERTS", &stage.ca)
        .env("AGENTFLOW_API_KEY", KEY);
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    // The servers ran to the end, both.
    for mut server in [first, second] {
        ensure!(server.runs(), "a server ended by itself");
        server.kill().await?;
    }
    ensure!(status.success(), "{}: {status}", program);
    Ok(())
}

/// Starts a server; returns it and where it listens.
async fn start(binary: &Path, config: &Path) -> Result<(Server, String)> {
    let file = config.to_str().context("the folder has no readable name")?;
    let options = vec!["--config".to_owned(), file.to_owned()];
    let (mut server, url) = Server::new(binary.to_owned(), options);
    server.start().await?;
    let url = url.borrow().clone().context("the server has no address")?;
    Ok((server, url))
}
