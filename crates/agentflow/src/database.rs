//! The database that the configuration names, open.

use std::{path::PathBuf, sync::Arc, time::Duration};

use agentflow_embedded::Embedded;
use agentflow_postgres::{Dsn, Limits, Listen, Migrate, Postgres, Source, Strength};
use agentflow_storage::{
    Backend,
    cipher::Cipher,
    figures::Figures,
    memory::{Memory, VectorIndex},
    msgpack::typed::Codec,
    vector::Vectors,
};
use agentflow_types::{Error, Result};

use crate::{
    app::{DATABASE_FILE, Keep},
    config::{Config, Profile, Storage, Synchronous},
    qdrant, redis,
};

/// Largest secret in a file, in bytes.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// An open database; it closes when this, its backend and everything made from that are dropped.
pub(crate) struct Database {
    pub(crate) backend: Backend,
    /// Where it is, without secrets; `None` if nothing is kept.
    pub(crate) place: Option<String>,
    /// Whether no other process can use it.
    pub(crate) is_exclusive: bool,
    /// What it tells about itself.
    pub(crate) figures: Option<Arc<dyn Figures>>,
    /// The index of memories.
    pub(crate) vectors: Arc<dyn Vectors>,
    /// Whether that index outlives the process.
    pub(crate) keeps_vectors: bool,
    /// How values are stored: plain or encrypted.
    pub(crate) codec: Codec,
    /// Redis beside it.
    pub(crate) redis: Option<Arc<redis::Health>>,
    /// Qdrant beside it.
    pub(crate) qdrant: Option<Arc<qdrant::Health>>,
    _handle: Option<Embedded>,
}

impl Database {
    /// Whether everything is in this process, so that nothing of it can be away.
    pub(crate) fn is_never_away(&self) -> bool {
        let redis = self.redis.as_ref();
        self.is_exclusive && !redis.is_some_and(|redis| redis.is_checkpointer())
    }
}

/// Opens the database.
///
/// # Errors
/// `Busy` if it is in use or cannot be reached, `Invalid` if the configuration is wrong or forbids
/// this database.
pub(crate) async fn open(config: &Config, keep: Keep) -> Result<Database> {
    match keep {
        Keep::Nothing => Ok(Database {
            backend: Memory::open(),
            place: None,
            is_exclusive: true,
            figures: None,
            vectors: Arc::new(VectorIndex::default()),
            keeps_vectors: false,
            codec: Codec::plain(),
            redis: None,
            qdrant: None,
            _handle: None,
        }),
        Keep::OnDisk => {
            let opened = match config.storage.is_remote() {
                true => postgres(config).await?,
                false => embedded(config).await?,
            };
            let qdrant = qdrant::Health::open(config).await?.map(Arc::new);
            let codec = opened.codec.clone();
            let beside = redis::beside(config, opened.backend, codec).await?;
            Ok(Database {
                backend: beside.backend,
                redis: beside.redis.map(Arc::new),
                vectors: match &qdrant {
                    Some(qdrant) => qdrant.vectors(),
                    None => opened.vectors.clone(),
                },
                keeps_vectors: opened.keeps_vectors || qdrant.is_some(),
                qdrant,
                ..opened
            })
        }
    }
}

async fn embedded(config: &Config) -> Result<Database> {
    let options = agentflow_embedded::Options {
        synchronous: match config.storage.synchronous {
            Synchronous::Normal => agentflow_embedded::Synchronous::Normal,
            Synchronous::Full => agentflow_embedded::Synchronous::Full,
        },
        readers: config.storage.readers,
        codec: codec(&config.storage)?,
        vectors: config.vectors.options(),
        ..agentflow_embedded::Options::default()
    };
    let folder = config.storage.path.clone();
    std::fs::create_dir_all(&folder).map_err(|err| {
        Error::invalid("the data folder cannot be made")
            .with("path", folder.display())
            .source_err(err)
    })?;
    let path = folder.join(DATABASE_FILE);
    let opened = tokio::task::spawn_blocking(move || Embedded::open(path, options))
        .await
        .map_err(|err| Error::bug("opening the database panicked").source_err(err))??;
    Ok(Database {
        backend: opened.backend(),
        place: Some(folder.display().to_string()),
        // The file is locked.
        is_exclusive: true,
        figures: None,
        vectors: opened.vectors(),
        keeps_vectors: true,
        codec: codec(&config.storage)?,
        redis: None,
        qdrant: None,
        _handle: Some(opened),
    })
}

async fn postgres(config: &Config) -> Result<Database> {
    let options = postgres_options(config)?;
    let dsn = options.source.dsn()?;
    let hosts: Vec<String> = dsn.hosts.iter().map(ToString::to_string).collect();
    let place = format!("PostgreSQL {} at {}", dsn.dbname, hosts.join(", "));
    let opened = Postgres::open(options).await?;
    Ok(Database {
        backend: opened.backend(),
        place: Some(place),
        is_exclusive: false,
        figures: Some(Arc::new(opened)),
        vectors: Arc::new(VectorIndex::default()),
        keeps_vectors: false,
        codec: codec(&config.storage)?,
        redis: None,
        qdrant: None,
        _handle: None,
    })
}

/// How the PostgreSQL server of the configuration is reached.
///
/// # Errors
/// `Invalid` for a wrong address, or, in production, one that does not verify the server.
pub(crate) fn postgres_options(config: &Config) -> Result<agentflow_postgres::Options> {
    let storage = &config.storage;
    let source = match storage.url.is_empty() {
        true => Source::File(storage.url_file.clone()),
        false => Dsn::parse(&storage.url)?.into(),
    };
    let listen = match (storage.listen_url.as_str(), file(&storage.listen_url_file)) {
        ("", None) => Listen::Same,
        ("", Some(path)) => Listen::At(Source::File(path)),
        ("off", _) => Listen::Off,
        (url, _) => Listen::At(Dsn::parse(url)?.into()),
    };
    let options = agentflow_postgres::Options {
        password_file: file(&storage.password_file),
        listen,
        migrate: match storage.migrate {
            true => Migrate::Apply,
            false => Migrate::Check,
        },
        limits: Limits {
            max_connections: storage.max_connections,
            acquire_timeout: Duration::from_secs(storage.acquire_timeout_seconds),
            statement_timeout: Duration::from_secs(storage.statement_timeout_seconds),
            slow_statement: Duration::from_millis(storage.slow_statement_milliseconds),
            ..Limits::default()
        },
        codec: codec(storage)?,
        ..agentflow_postgres::Options::new(source)
    };
    if config.profile == Profile::Production && options.strength()? < Strength::Full {
        return Err(Error::invalid(
            "in production the connection to the database must verify the server: set \
             sslmode=verify-full, and sslrootcert to its authority, in storage.url and \
             storage.listen_url",
        ));
    }
    Ok(options)
}

/// A path that may be empty for none.
pub(crate) fn file(path: &std::path::Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

/// How values of checkpoints are stored.
fn codec(storage: &Storage) -> Result<Codec> {
    let key = match (&storage.encryption_key, file(&storage.encryption_key_file)) {
        (key, None) if key.is_empty() => return Ok(Codec::plain()),
        (key, None) => key.clone(),
        (_, Some(path)) => secret(&path)?,
    };
    Ok(Codec::encrypted(Cipher::new(&key)?))
}

/// The content of a file without the line's end.
pub(crate) fn secret(path: &std::path::Path) -> Result<String> {
    let wrong = |err: std::io::Error| {
        Error::invalid("a file with a secret cannot be read")
            .with("path", path.display())
            .source_err(err)
    };
    if std::fs::metadata(path).map_err(wrong)?.len() > MAX_SECRET_BYTES {
        return Err(
            Error::invalid("a file with a secret is too large").with("path", path.display())
        );
    }
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
