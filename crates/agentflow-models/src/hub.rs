//! Files of local models: found in the cache that Hugging Face's tools share, or fetched into it.
//!
//! Nothing is fetched unless somebody asks for it, and only files whose content is known
//! beforehand. Source of the layout: the documentation of `huggingface_hub`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use agentflow_types::{Error, Result, Rng, SystemRng};
use futures_util::StreamExt;
use reqwest::{Client, redirect};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{secret::Secret, transport::install_crypto};

/// Files without which a model does not run.
pub const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// Where models are fetched from, unless told otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Most redirects to the servers that hold large files.
const REDIRECTS: usize = 5;

/// Most time for connecting, and between two pieces of a file.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file whose content is known.
#[derive(Clone, Copy, Debug)]
pub struct PinnedFile {
    /// Name in the repository.
    pub name: &'static str,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// A model at a fixed revision.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// `organisation/name`.
    pub repo: &'static str,
    /// Commit of the repository.
    pub revision: &'static str,
    /// Its files that are used.
    pub files: &'static [PinnedFile],
}

/// The usual sentence-embedding model: 384 dimensions, English, 91 MB, Apache-2.0.
pub const ALL_MINILM_L6_V2: Pinned = Pinned {
    repo: "sentence-transformers/all-MiniLM-L6-v2",
    revision: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    files: &[
        PinnedFile {
            name: "config.json",
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            bytes: 612,
        },
        PinnedFile {
            name: "tokenizer.json",
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            bytes: 466_247,
        },
        PinnedFile {
            name: "sentence_bert_config.json",
            sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            bytes: 53,
        },
        PinnedFile {
            name: "model.safetensors",
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            bytes: 90_868_376,
        },
    ],
};

/// Whether files may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// They may.
    Allowed,
    /// Only what is there already counts.
    Forbidden,
}

/// The cache of models on this machine.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    endpoint: String,
    network: Network,
    token: Option<Secret>,
}

impl Cache {
    /// The cache in `folder`, filled from Hugging Face.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            endpoint: ENDPOINT.to_owned(),
            network: Network::Allowed,
            token: None,
        }
    }

    /// The cache that Hugging Face's tools use with the same environment: `HF_HUB_CACHE`,
    /// `HF_HOME`, `XDG_CACHE_HOME`, `HOME`; `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN`.
    ///
    /// # Errors
    /// `Invalid` if none of the folders is set.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let under = |name: &str, rest: &str| get(name).map(|dir| Path::new(&dir).join(rest));
        let folder = get("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| under("HF_HOME", "hub"))
            .or_else(|| under("XDG_CACHE_HOME", "huggingface/hub"))
            .or_else(|| under("HOME", ".cache/huggingface/hub"))
            .ok_or_else(|| Error::invalid("no folder for local models: set HF_HOME"))?;
        let offline = get("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())
        });
        let mut cache = Self::new(folder).token(get("HF_TOKEN").map(Secret::new));
        if let Some(endpoint) = get("HF_ENDPOINT") {
            cache = cache.endpoint(endpoint);
        }
        if offline {
            cache.network = Network::Forbidden;
        }
        Ok(cache)
    }

    /// The same cache, filled from another server.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = url.into().trim_end_matches('/').to_owned();
        self
    }

    /// The same cache with other rights to the network.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// The same cache with a credential for models that need one.
    #[must_use]
    pub fn token(mut self, token: Option<Secret>) -> Self {
        self.token = token.filter(|token| !token.is_empty());
        self
    }

    /// The folder of a model that is there as a whole: of `revision`, else of the one that
    /// `main` names, else of the newest.
    #[must_use]
    pub fn find(&self, repo: &str, revision: Option<&str>) -> Option<PathBuf> {
        let snapshots = self.model(repo).join("snapshots");
        let main = fs::read_to_string(self.model(repo).join("refs").join("main"));
        let named = revision.map(str::to_owned).or_else(|| main.ok());
        if let Some(name) = named {
            let folder = snapshots.join(name.trim());
            if revision.is_some() || is_whole(&folder) {
                return is_whole(&folder).then_some(folder);
            }
        }
        let entries = fs::read_dir(snapshots).into_iter().flatten().flatten();
        let age = |entry: &fs::DirEntry| {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            changed.unwrap_or(SystemTime::UNIX_EPOCH)
        };
        entries
            .filter(|entry| is_whole(&entry.path()))
            .max_by_key(age)
            .map(|entry| entry.path())
    }

    /// The folder of a pinned model, fetched if it is not there. A file gets its name when it
    /// is whole and has the content that was expected.
    ///
    /// # Errors
    /// `NotFound` if it is not there and the network is forbidden, `Busy` if the server cannot
    /// be reached, `Failed` if it sends something else.
    pub async fn fetch(&self, model: &Pinned) -> Result<PathBuf> {
        let folder = self
            .model(model.repo)
            .join("snapshots")
            .join(model.revision);
        let missing: Vec<&PinnedFile> = model
            .files
            .iter()
            .filter(|file| !folder.join(file.name).is_file())
            .collect();
        if missing.is_empty() {
            return Ok(folder);
        }
        if self.network == Network::Forbidden {
            return Err(Error::not_found("the local model is not on this machine")
                .with("model", model.repo)
                .with("searched", folder.display())
                .with("help", "allow fetching it, or name a folder that holds it"));
        }
        let io =
            |error| Error::failed("the folder of local models cannot be written").source_err(error);
        fs::create_dir_all(&folder).map_err(io)?;
        let client = client()?;
        for file in missing {
            self.fetch_file(&client, model, file, &folder).await?;
        }
        Ok(folder)
    }

    fn model(&self, repo: &str) -> PathBuf {
        self.folder
            .join(format!("models--{}", repo.replace('/', "--")))
    }

    async fn fetch_file(
        &self,
        client: &Client,
        model: &Pinned,
        file: &PinnedFile,
        folder: &Path,
    ) -> Result<()> {
        let url = format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint, model.repo, model.revision, file.name
        );
        let part = folder.join(format!(".{}.{:016x}.part", file.name, SystemRng.next_u64()));
        tracing::info!(%url, bytes = file.bytes, "fetching a file of a local model");
        let result = self.fetch_part(client, &url, file, &part).await;
        let result = match result {
            Ok(()) => fs::rename(&part, folder.join(file.name)).map_err(|error| {
                Error::failed("a file of a local model cannot be named").source_err(error)
            }),
            Err(error) => Err(error.with("url", &url)),
        };
        if result.is_err() {
            // What is left has no name that anybody looks for.
            let _ = fs::remove_file(&part);
        }
        result
    }

    async fn fetch_part(
        &self,
        client: &Client,
        url: &str,
        file: &PinnedFile,
        part: &Path,
    ) -> Result<()> {
        let away = |error: reqwest::Error| {
            Error::busy("the server of local models cannot be reached").source_err(error)
        };
        let slow = |_| Error::busy("the server of local models does not answer");
        let io =
            |error| Error::failed("a file of a local model cannot be written").source_err(error);
        let mut request = client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = timeout(PATIENCE, request.send())
            .await
            .map_err(slow)?
            .map_err(away)?;
        if !response.status().is_success() {
            return Err(Error::failed("the server of local models refused a file")
                .with("status", response.status().as_u16()));
        }
        let mut to = tokio::fs::File::create(part).await.map_err(io)?;
        let (mut hash, mut read) = (Sha256::new(), 0);
        let mut body = response.bytes_stream();
        while let Some(piece) = timeout(PATIENCE, body.next()).await.map_err(slow)? {
            let piece = piece.map_err(away)?;
            read += piece.len() as u64;
            if read > file.bytes {
                break;
            }
            hash.update(&piece);
            to.write_all(&piece).await.map_err(io)?;
        }
        to.sync_all().await.map_err(io)?;
        let found = hexadecimal(&hash.finalize());
        if read != file.bytes || found != file.sha256 {
            return Err(
                Error::failed("a file of a local model is not the one that was expected")
                    .with("expected", file.sha256)
                    .with("found", found),
            );
        }
        Ok(())
    }
}

/// SHA-256 of a file, in hexadecimal. Blocks.
///
/// # Errors
/// `NotFound` if it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let read = || {
        let mut hash = Sha256::new();
        std::io::copy(&mut fs::File::open(path)?, &mut HashWriter(&mut hash))?;
        Ok(hexadecimal(&hash.finalize()))
    };
    read().map_err(|error: std::io::Error| {
        Error::not_found("a file of a local model cannot be read")
            .with("file", path.display())
            .source_err(error)
    })
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_whole(folder: &Path) -> bool {
    FILES.iter().all(|name| folder.join(name).is_file())
}

fn client() -> Result<Client> {
    install_crypto();
    Client::builder()
        .connect_timeout(PATIENCE)
        // Credentials are dropped on the way to another host.
        .redirect(redirect::Policy::limited(REDIRECTS))
        .build()
        .map_err(|error| Error::failed("the http client cannot be set up").source_err(error))
}
