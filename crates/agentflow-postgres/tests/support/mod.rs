//! Databases for tests, on the servers that all tests share.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
};

use agentflow_postgres::{Dsn, Listen, Migrate, Options, Postgres};
pub use agentflow_testkit::servers::postgres::Version;
use agentflow_testkit::servers::{pgbouncer, postgres};
use tokio_postgres::{Client, NoTls, error::SqlState};

/// How a test reaches its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Directly.
    Direct,
    /// Through PgBouncer in transaction mode; wake-ups go past it.
    Pooled,
}

/// A new database; it is dropped with this.
pub struct Database {
    database: postgres::Database,
    bouncer: pgbouncer::Address,
}

impl Database {
    /// A database with all tables and nothing in them.
    pub async fn create() -> Self {
        Self::create_on(Version::Debian).await
    }

    /// The same on a server of this version.
    pub async fn create_on(on: Version) -> Self {
        let create = async || -> agentflow_types::Result<Self> {
            let server = postgres::shared(on)?;
            let prepare = async |database: &postgres::Database| {
                let only = Options {
                    listen: Listen::Off,
                    ..Options::new(Dsn::parse(&database.url())?)
                };
                Postgres::open(only).await.map(drop)
            };
            Ok(Self {
                bouncer: server.bouncer()?,
                database: server.database_like(&version(), prepare).await?,
            })
        };
        create().await.expect("a database")
    }

    /// A database with all tables and nothing in them, for the user of the documentation, who
    /// may do what its statements allow. Returns how that user opens it.
    pub async fn create_granted(on: Version) -> (Self, Options) {
        let server = postgres::shared(on).expect("a server");
        let prepare = async |database: &postgres::Database| {
            let owner = Options {
                listen: Listen::Off,
                ..Options::new(Dsn::parse(&database.url())?)
            };
            drop(Postgres::open(owner).await?);
            let [administrator, owner] = documented();
            run(&database.admin_url(), &administrator).await;
            run(&database.url(), &owner).await;
            Ok(())
        };
        let mut hasher = DefaultHasher::new();
        documented().hash(&mut hasher);
        let key = format!("{}_{:016x}", version(), hasher.finish());
        let database = server.database_like(&key, prepare).await;
        let database = Self {
            bouncer: server.bouncer().expect("a pooler"),
            database: database.expect("a database"),
        };
        let url = database.database.url();
        let user = format!("{}:{}@", postgres::APP, postgres::APP_PASSWORD);
        let options = Options {
            migrate: Migrate::Check,
            ..Options::new(dsn(&url.replace(&user, "agentflow:change-me@")))
        };
        (database, options)
    }

    /// Where a way begins.
    pub fn address(&self, way: Way) -> SocketAddr {
        let port = match way {
            Way::Direct => self.database.address().port,
            Way::Pooled => self.bouncer.port,
        };
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// How to open it on the other side of whatever listens at `address`; wake-ups go directly.
    pub fn options_at(&self, address: SocketAddr) -> Options {
        let bouncer = pgbouncer::Address {
            port: address.port(),
        };
        Options {
            listen: Listen::At(dsn(&self.database.url()).into()),
            ..Options::new(dsn(&self.database.bouncer_url(&bouncer)))
        }
    }

    /// How to open it.
    pub fn options(&self, way: Way) -> Options {
        self.options_at(self.address(way))
    }

    /// Opens it.
    pub async fn open(&self, way: Way) -> Postgres {
        open(self.options(way)).await
    }

    /// A connection of the superuser to it.
    pub async fn admin(&self) -> Client {
        let connected = tokio_postgres::connect(&self.database.admin_url(), NoTls).await;
        let (client, driver) = connected.expect("the server accepts");
        tokio::spawn(driver);
        client
    }
}

/// The statements of the documentation, section "Users": the administrator's and the owner's.
fn documented() -> [String; 2] {
    let text = include_str!("../../../../docs/postgres.md");
    let users = text.split("\n## ").find(|part| part.starts_with("Users"));
    let blocks = users.expect("the section is there").split("```sql\n");
    let mut blocks = blocks
        .skip(1)
        .filter_map(|block| block.split("```").next().map(str::to_owned));
    [(); 2].map(|()| blocks.next().expect("two blocks of SQL"))
}

/// Runs statements one by one. Roles are the server's, not the database's, so one may be there.
async fn run(url: &str, sql: &str) {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.expect("a server");
    tokio::spawn(driver);
    for statement in sql
        .split_inclusive(';')
        .filter(|sql| !sql.trim().is_empty())
    {
        if let Err(err) = client.batch_execute(statement).await {
            assert_eq!(err.code(), Some(&SqlState::DUPLICATE_OBJECT), "{statement}");
        }
    }
}

/// Opens a database.
pub async fn open(options: Options) -> Postgres {
    Postgres::open(options).await.expect("the database opens")
}

fn dsn(url: &str) -> Dsn {
    Dsn::parse(url).expect("a valid address")
}

/// Names the tables as they are in the sources.
fn version() -> String {
    let mut hasher = DefaultHasher::new();
    include_str!("../../src/migrations.rs").hash(&mut hasher);
    include_str!("../../src/records.rs").hash(&mut hasher);
    include_str!("../../src/checkpoints/batch.rs").hash(&mut hasher);
    format!("agentflow_{:016x}", hasher.finish())
}
