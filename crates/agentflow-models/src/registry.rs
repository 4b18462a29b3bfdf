//! Providers by name, and what `provider:model` means.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentflow_types::{Error, Result};

use crate::{
    anthropic::Anthropic,
    chat::{SharedChat, SharedEmbed},
    extractive,
    observed::{Tokens, observed},
    ollama::{self, Ollama},
    openai::OpenAi,
    provider::{Kind, Provider},
    secret::Secret,
};

/// Model that is used when only `OPENAI_API_KEY` is known; the latest small one in November 2026.
const OPENAI_MODEL: &str = "gpt-5.4-mini";

/// Model that is used when only `ANTHROPIC_API_KEY` is known; the latest one of medium size in
/// November 2026.
const ANTHROPIC_MODEL: &str = "claude-sonnet-5-5";

/// Most time for asking a server of one's own which models it has.
const LIST: Duration = Duration::from_secs(2);

/// Most bytes of a file that holds a credential.
const SECRET_FILE_BYTES: u64 = 64 << 10;

/// How model names begin whose provider goes without saying.
const WELL_KNOWN: [(&str, Kind); 6] = [
    ("gpt-", Kind::OpenAi),
    ("chatgpt-", Kind::OpenAi),
    ("o1", Kind::OpenAi),
    ("o3", Kind::OpenAi),
    ("o4", Kind::OpenAi),
    ("claude", Kind::Anthropic),
];

/// Clients of one provider; one pool of connections serves all its models.
#[derive(Clone)]
struct Clients {
    chat: SharedChat,
    embed: Option<SharedEmbed>,
}

/// The providers that are configured.
#[derive(Default)]
pub struct Registry {
    providers: BTreeMap<String, Provider>,
    /// Guards the clients made so far; they are made at first use, because reading the
    /// certificates of the system takes milliseconds.
    clients: Mutex<HashMap<String, Clients>>,
    /// Embedders in this process by model.
    local: BTreeMap<String, SharedEmbed>,
    tokens: Arc<Tokens>,
}

/// The word before the colon for models that run in this process.
pub const LOCAL: &str = "local";

impl Registry {
    /// A registry without providers: everything but the extractive model is unknown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Providers that the environment names: `OPENAI_API_KEY` or `OPENAI_BASE_URL`,
    /// `ANTHROPIC_API_KEY` (address: `ANTHROPIC_BASE_URL`), `OLLAMA_HOST`. Each may end in
    /// `_FILE` and then names a file that holds the value.
    ///
    /// # Errors
    /// `Invalid` if a variable is given in both forms, or its file cannot be read.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut registry = Self::new();
        for kind in [Kind::OpenAi, Kind::Anthropic] {
            let (key, url) = match kind {
                Kind::OpenAi => ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
                _ => ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
            };
            let (key, url) = (variable(&lookup, key)?, variable(&lookup, url)?);
            // An address alone is enough for servers of one's own, which often want no key.
            if key.is_none() && (url.is_none() || kind == Kind::Anthropic) {
                continue;
            }
            let provider = Provider::new(kind).key(Secret::new(key.unwrap_or_default()));
            registry.add(match url {
                Some(url) => provider.at(url),
                None => provider,
            });
        }
        if let Some(host) = variable(&lookup, "OLLAMA_HOST")? {
            registry.add(Provider::new(Kind::Ollama).at(ollama::base_url(&host)));
        }
        Ok(registry)
    }

    /// Adds a provider; one of the same name is replaced.
    pub fn add(&mut self, provider: Provider) {
        self.clients
            .get_mut()
            .expect("no panic while the clients are held")
            .remove(&provider.name);
        self.providers.insert(provider.name.clone(), provider);
    }

    /// Adds an embedder that runs in this process; `local:model` means it, with or without the
    /// organisation before the model's name.
    pub fn add_local(&mut self, model: impl Into<String>, embedder: SharedEmbed) {
        self.local.insert(model.into(), embedder);
    }

    /// The provider of a name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(name)
    }

    /// Names of the providers, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    /// The chat model that `spec` means, and the name by which its provider knows it.
    ///
    /// `spec`: `provider:model`; only the first colon separates. Without a provider, names that
    /// begin with `gpt-` or `claude` find theirs. `extractive` needs no provider.
    ///
    /// # Errors
    /// `Invalid` if the provider is unknown or the model has no name, or as the client's `new`.
    pub fn resolve(&self, spec: &str) -> Result<(SharedChat, String)> {
        if spec == extractive::NAME
            || spec
                .split_once(':')
                .is_some_and(|(p, _)| p == extractive::NAME)
        {
            let chat = observed(extractive::shared(), self.tokens.clone());
            return Ok((chat, extractive::NAME.to_owned()));
        }
        let (provider, model) = self.find(spec)?;
        let chat = observed(self.clients(provider)?.chat, self.tokens.clone());
        Ok((chat, model.to_owned()))
    }

    /// Tokens of all calls of models that this registry resolved.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.clone()
    }

    /// The embedder that `spec` means, and the name by which its provider knows it.
    ///
    /// # Errors
    /// As [`Registry::resolve`]; `Invalid` if the provider has no embeddings, or a local model
    /// is not loaded.
    pub fn resolve_embed(&self, spec: &str) -> Result<(SharedEmbed, String)> {
        if let Some((LOCAL, model)) = spec.split_once(':') {
            return self.local(model);
        }
        let (provider, model) = self.find(spec)?;
        match self.clients(provider)?.embed {
            Some(embed) => Ok((embed, model.to_owned())),
            None => Err(Error::invalid("this provider has no embeddings").with("spec", spec)),
        }
    }

    /// Looks for an Ollama server on its usual port and adds it, unless one is configured.
    /// Returns the models of the server that was found; `None` if there is none.
    pub async fn detect_ollama(&mut self) -> Option<Vec<String>> {
        let name = Kind::Ollama.word();
        let known = self.providers.get(name).cloned();
        let provider = known.unwrap_or_else(|| Provider::new(Kind::Ollama));
        let models = ollama::detect(&provider).await?;
        if !self.providers.contains_key(name) {
            self.add(provider);
        }
        Some(models)
    }

    /// The model for graphs that name none: of OpenAI, else Anthropic, else the newest of
    /// Ollama, else of any other provider, else the extractive one.
    ///
    /// Servers of one's own are asked which models they have, briefly; those that do not answer
    /// are passed over.
    pub async fn default_spec(&self) -> String {
        let rank = |provider: &Provider| match provider.kind {
            Kind::OpenAi if provider.name == "openai" => 0,
            Kind::Anthropic => 1,
            Kind::Ollama => 2,
            Kind::OpenAi => 3,
        };
        let mut providers: Vec<&Provider> = self.providers.values().collect();
        providers.sort_by_key(|provider| rank(provider));
        for provider in providers {
            let model = match provider.kind {
                Kind::Anthropic => Some(ANTHROPIC_MODEL.to_owned()),
                Kind::OpenAi if provider.base_url == Kind::OpenAi.base_url() => {
                    Some(OPENAI_MODEL.to_owned())
                }
                Kind::OpenAi => match OpenAi::new(provider) {
                    Ok(client) => first(client.models(LIST).await),
                    Err(_) => None,
                },
                Kind::Ollama => ollama::detect(provider).await.and_then(|m| first(Ok(m))),
            };
            if let Some(model) = model {
                return format!("{}:{model}", provider.name);
            }
        }
        extractive::NAME.to_owned()
    }

    fn find<'a>(&self, spec: &'a str) -> Result<(&Provider, &'a str)> {
        if let Some((name, model)) = spec.split_once(':')
            && let Some(provider) = self.providers.get(name)
        {
            if model.is_empty() {
                return Err(Error::invalid("the model has no name").with("spec", spec));
            }
            return Ok((provider, model));
        }
        let kind = WELL_KNOWN
            .iter()
            .find(|(start, _)| spec.starts_with(start))
            .map(|(_, k)| k);
        match kind.and_then(|kind| self.providers.get(kind.word())) {
            Some(provider) => Ok((provider, spec)),
            None => Err(self.unknown(spec)),
        }
    }

    fn local(&self, model: &str) -> Result<(SharedEmbed, String)> {
        let is_meant = |name: &str| name == model || name.rsplit('/').next() == Some(model);
        match self.local.iter().find(|(name, _)| is_meant(name)) {
            Some((name, embedder)) => Ok((embedder.clone(), name.clone())),
            None => {
                let loaded: Vec<&str> = self.local.keys().map(String::as_str).collect();
                Err(Error::invalid("this local model is not loaded")
                    .with("model", model)
                    .with("loaded", loaded.join(", ")))
            }
        }
    }

    fn unknown(&self, spec: &str) -> Error {
        let known: Vec<&str> = self.names().chain([extractive::NAME]).collect();
        let name = spec.split_once(':').map_or(spec, |(name, _)| name);
        let error = Error::invalid("no provider for this model is configured")
            .with("spec", spec)
            .with("configured", known.join(", "));
        match name {
            "openai" => error.with("help", "set OPENAI_API_KEY or OPENAI_BASE_URL"),
            "anthropic" => error.with("help", "set ANTHROPIC_API_KEY"),
            "ollama" => error.with("help", "start ollama or set OLLAMA_HOST"),
            _ => error.with(
                "help",
                "write provider:model and name the provider in agentflow.toml",
            ),
        }
    }

    fn clients(&self, provider: &Provider) -> Result<Clients> {
        let mut clients = self
            .clients
            .lock()
            .expect("no panic while the clients are held");
        if let Some(known) = clients.get(&provider.name) {
            return Ok(known.clone());
        }
        let made = match provider.kind {
            Kind::OpenAi => {
                let client = Arc::new(OpenAi::new(provider)?);
                Clients {
                    chat: client.clone(),
                    embed: Some(client),
                }
            }
            Kind::Anthropic => Clients {
                chat: Arc::new(Anthropic::new(provider)?),
                embed: None,
            },
            Kind::Ollama => {
                let client = Arc::new(Ollama::new(provider)?);
                Clients {
                    chat: client.clone(),
                    embed: Some(client),
                }
            }
        };
        clients.insert(provider.name.clone(), made.clone());
        Ok(made)
    }
}

fn first(models: Result<Vec<String>>) -> Option<String> {
    models.ok()?.into_iter().next()
}

/// The value of a variable or of the file that it names; an empty one counts as absent.
fn variable(
    lookup: &impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<Option<String>> {
    let plain = lookup(name).filter(|value| !value.trim().is_empty());
    let file = lookup(&format!("{name}_FILE")).filter(|path| !path.trim().is_empty());
    match (plain, file) {
        (Some(_), Some(_)) => {
            Err(Error::invalid("a variable and its _FILE form are both set").with("name", name))
        }
        (plain, None) => Ok(plain.map(|value| value.trim().to_owned())),
        (None, Some(path)) => {
            let mut text = String::new();
            std::fs::File::open(&path)
                .and_then(|file| file.take(SECRET_FILE_BYTES).read_to_string(&mut text))
                .map_err(|error| {
                    Error::invalid("the file of a variable cannot be read")
                        .with("name", name)
                        .with("path", &path)
                        .source_err(error)
                })?;
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        }
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::ErrorKind;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<Registry> {
        let map: HashMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Registry::from_env(|name| map.get(name).cloned())
    }

    fn refused(registry: &Registry, spec: &str) -> Error {
        match registry.resolve(spec) {
            Err(error) => error,
            Ok((_, model)) => panic!("{spec} resolved to {model}"),
        }
    }

    #[test]
    fn the_environment_names_providers() {
        let registry = env(&[
            ("OPENAI_API_KEY", "sk-1"),
            ("OPENAI_BASE_URL", "http://localhost:1/v1"),
            ("ANTHROPIC_API_KEY", "sk-2"),
            ("OLLAMA_HOST", "box"),
        ])
        .unwrap();
        let shown: Vec<_> = registry
            .providers
            .values()
            .map(|p| (p.name.as_str(), p.base_url.as_str(), p.api_key.is_some()))
            .collect();
        assert_eq!(
            shown,
            [
                ("anthropic", "https://api.anthropic.com", true),
                ("ollama", "http://box:11434", false),
                ("openai", "http://localhost:1/v1", true),
            ]
        );
        assert_eq!(env(&[("OPENAI_API_KEY", " ")]).unwrap().names().count(), 0);
    }

    #[test]
    fn a_key_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let registry = env(&[("OPENAI_API_KEY_FILE", path)]).unwrap();
        let key = registry
            .provider("openai")
            .unwrap()
            .api_key
            .clone()
            .unwrap();
        assert_eq!(key.expose(), "sk-file");
        for pairs in [
            vec![("OPENAI_API_KEY_FILE", path), ("OPENAI_API_KEY", "x")],
            vec![("OPENAI_API_KEY_FILE", "/does/not/exist")],
        ] {
            assert_eq!(
                env(&pairs).err().map(|e| e.kind()),
                Some(ErrorKind::Invalid)
            );
        }
    }

    #[test]
    fn specs_find_their_provider() {
        let mut registry = env(&[("OPENAI_BASE_URL", "http://localhost:1/v1")]).unwrap();
        registry.add(Provider::new(Kind::Ollama));
        registry.add(
            Provider::new(Kind::OpenAi)
                .named("local")
                .at("http://localhost:2/v1"),
        );
        for (spec, provider, model) in [
            ("openai:gpt-4o-mini", "openai", "gpt-4o-mini"),
            ("gpt-4o-mini", "openai", "gpt-4o-mini"),
            ("ollama:llama3.2:3b", "ollama", "llama3.2:3b"),
            ("local:a/b:c", "openai", "a/b:c"),
            ("extractive", "extractive", "extractive"),
            ("extractive:x", "extractive", "extractive"),
        ] {
            let (chat, found) = registry.resolve(spec).unwrap();
            assert_eq!(
                (chat.provider(), found.as_str()),
                (provider, model),
                "{spec}"
            );
        }
        for spec in ["", "openai:", "claude-sonnet-4", "nobody:x", "llama3.2:3b"] {
            assert_eq!(
                refused(&registry, spec).kind(),
                ErrorKind::Invalid,
                "{spec}"
            );
        }
        assert!(
            refused(&registry, "anthropic:x")
                .to_string()
                .contains("set ANTHROPIC_API_KEY")
        );
        assert!(registry.resolve_embed("ollama:x").is_ok());
    }

    #[tokio::test]
    async fn without_providers_the_default_is_extractive() {
        assert_eq!(Registry::new().default_spec().await, "extractive");
        let registry = env(&[("ANTHROPIC_API_KEY", "x")]).unwrap();
        assert_eq!(
            registry.default_spec().await,
            format!("anthropic:{ANTHROPIC_MODEL}")
        );
    }

    #[tokio::test]
    async fn local_embedders_are_found_by_their_models() {
        struct Fixed;
        #[async_trait::async_trait]
        impl crate::Embed for Fixed {
            async fn embed(&self, _: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
                Ok(vec![vec![1.0]; texts.len()])
            }
        }
        let mut registry = Registry::new();
        registry.add_local("org/small", Arc::new(Fixed));
        for spec in ["local:org/small", "local:small"] {
            let (embedder, model) = registry.resolve_embed(spec).unwrap();
            assert_eq!(model, "org/small");
            assert_eq!(
                crate::embedding::probe(&*embedder, &model).await.unwrap(),
                1
            );
        }
        let error = registry.resolve_embed("local:other").err().unwrap();
        assert!(error.to_string().contains("loaded: org/small"), "{error}");
    }
}
