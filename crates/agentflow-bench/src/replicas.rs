//! Two servers as a production has them, for as long as a command runs.
//!
//! PostgreSQL is reached through PgBouncer in transaction mode, Redis as an ACL user; every
//! connection (client to server, server to pooler, pooler to PostgreSQL, server to Redis) is TLS
//! with both certificates verified, where the one that asks has one. The servers run in the
//! production profile, with authentication. On demand they are replaced one after the other all
//! the time, behind balancers that send new connections to whichever runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use agentflow_testkit::{
    faults::Proxy,
    servers::{
        certs::{Authority, Identity},
        pgbouncer::{self, Bouncer},
        postgres::{self, APP, Version},
        redis,
    },
};
use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

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
    /// Pause between two replacements of a server, in seconds; 0 for none.
    #[arg(long, default_value_t = 0.0)]
    replace_seconds: f64,
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
/// How long running work may go on in a server that is replaced.
const DRAIN_SECONDS: u64 = 1;
/// Fewest replacements that count as a trial.
const REPLACEMENTS: usize = 3;
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
             [server]
             drain_seconds = {DRAIN_SECONDS}
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

/// Both servers, and the balancers before them.
struct Pair {
    servers: [Server; 2],
    fronts: [Proxy; 2],
    replaced: usize,
}

impl Pair {
    async fn start(binary: &Path, config: &Path) -> Result<Self> {
        let servers = [start(binary, config).await?, start(binary, config).await?];
        let fronts = [
            Proxy::start(port(&servers[0])?).await?,
            Proxy::start(port(&servers[1])?).await?,
        ];
        Ok(Self {
            servers,
            fronts,
            replaced: 0,
        })
    }

    /// Where clients find them: themselves, or the balancers.
    fn addresses(&self, is_balanced: bool) -> Result<[String; 2]> {
        let ports = match is_balanced {
            true => [self.fronts[0].port(), self.fronts[1].port()],
            false => [port(&self.servers[0])?, port(&self.servers[1])?],
        };
        Ok(ports.map(|port| format!("https://127.0.0.1:{port}")))
    }

    /// Waits, then replaces the server whose turn it is.
    async fn replace(&mut self, pause: Duration) -> Result<()> {
        tokio::time::sleep(pause).await;
        let (old, other) = (self.replaced % 2, (self.replaced + 1) % 2);
        let stays = port(&self.servers[other])?;
        self.fronts[old].switch(stays);
        self.servers[old].stop().await?;
        self.servers[old].start().await?;
        self.fronts[old].switch(port(&self.servers[old])?);
        self.replaced += 1;
        Ok(())
    }
}

fn port(server: &Server) -> Result<u16> {
    let address = server.address().context("the server does not run")?;
    let (_, port) = address.rsplit_once(':').context("no port in its address")?;
    Ok(port.parse()?)
}

/// Starts everything, runs the command, and fails if it does.
pub async fn run(args: Args) -> Result<()> {
    let version = match args.postgres {
        15 => Version::Debian,
        _ => Version::V17,
    };
    let stage = tokio::task::spawn_blocking(move || Stage::build(version)).await??;
    let mut pair = Pair::start(&args.server, &stage.config()?).await?;
    let replaces = args.replace_seconds > 0.0;
    let pause = Duration::from_secs_f64(args.replace_seconds);
    let [one, two] = pair.addresses(replaces)?;
    let [program, arguments @ ..] = &*args.command else {
        unreachable!("the command line demands a command");
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("AGENTFLOW_URL", one)
        .env("AGENTFLOW_PEER_URL", two)
        .env("SSL_CERT_FILE", &stage.ca)
        .env("NODE_EXTRA_CA_CERTS", &stage.ca)
        .env("AGENTFLOW_API_KEY", KEY)
        .kill_on_drop(true)
        .spawn()?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            replaced = pair.replace(pause), if replaces => replaced?,
        }
    };
    if replaces {
        println!("{} replacements of a server", pair.replaced);
        ensure!(
            pair.replaced >= REPLACEMENTS,
            "servers were hardly replaced"
        );
    }
    for server in &mut pair.servers {
        // Without replacements they ran to the end, both.
        ensure!(replaces || server.runs(), "a server ended by itself");
        server.kill().await?;
    }
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

/// Starts a server.
async fn start(binary: &Path, config: &Path) -> Result<Server> {
    let file = config.to_str().context("the folder has no readable name")?;
    let options = vec!["--config".to_owned(), file.to_owned()];
    let (mut server, _) = Server::new(binary.to_owned(), options);
    server.start().await?;
    Ok(server)
}
