//! Databases for tests, on the servers that all tests share.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
};

use agentflow_postgres::{Dsn, Listen, Options, Postgres};
pub use agentflow_testkit::servers::postgres::Version;
use agentflow_testkit::servers::{pgbouncer, postgres};
use tokio_postgres::{Client, NoTls};

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
    format!("agentflow_{:016x}", hasher.finish())
}
