//! Chat models, embedders and rerankers.

use std::collections::BTreeMap;

use agentflow_models::embedding;
use serde_json::{Map, Value};

use super::{
    Imported, Server, Verdict,
    keys::{EMBEDDER, LLM, RERANKER},
    text,
};

const LLMS: &[&str] = &[
    "openai",
    "openai_structured",
    "azure_openai",
    "azure_openai_structured",
    "anthropic",
    "gemini",
    "groq",
    "together",
    "aws_bedrock",
    "litellm",
    "ollama",
    "lmstudio",
    "vllm",
    "deepseek",
    "minimax",
    "xai",
    "sarvam",
    "mistral",
    "langchain",
];
const EMBEDDERS: &[&str] = &[
    "openai",
    "azure_openai",
    "ollama",
    "huggingface",
    "gemini",
    "vertexai",
    "together",
    "lmstudio",
    "langchain",
    "aws_bedrock",
    "fastembed",
];
const RERANKERS: &[&str] = &[
    "cohere",
    "sentence_transformer",
    "huggingface",
    "zero_entropy",
    "llm_reranker",
];

/// Names that people write for providers, and the right ones.
const ALIASES: &[(&str, &str)] = &[
    ("azure", "azure_openai"),
    ("azureopenai", "azure_openai"),
    ("google", "gemini"),
    ("google_ai", "gemini"),
    ("bedrock", "aws_bedrock"),
    ("lm_studio", "lmstudio"),
    ("hugging_face", "huggingface"),
    ("hf", "huggingface"),
    ("sentence_transformers", "huggingface"),
    ("vertex_ai", "vertexai"),
    ("vertex", "vertexai"),
    ("together_ai", "together"),
    ("togetherai", "together"),
    ("grok", "xai"),
    ("claude", "anthropic"),
    ("mistralai", "mistral"),
    ("fast_embed", "fastembed"),
];
const RERANKER_ALIASES: &[(&str, &str)] = &[
    ("sentence_transformers", "sentence_transformer"),
    ("cross_encoder", "sentence_transformer"),
    ("llm", "llm_reranker"),
    ("zeroentropy", "zero_entropy"),
    ("hf", "huggingface"),
];

/// The kind, the usual address, whether a key is asked for, and the models that Mem0 takes for chat
/// and for embedding.
type Usual = (&'static str, &'static str, bool, &'static str, &'static str);

/// Providers that speak OpenAI's protocol or their own here.
const SERVERS: &[(&str, Usual)] = &[
    (
        "openai",
        ("openai", "", true, "gpt-5-mini", "text-embedding-3-small"),
    ),
    (
        "openai_structured",
        ("openai", "", true, "gpt-5-mini", "text-embedding-3-small"),
    ),
    (
        "anthropic",
        ("anthropic", "", true, "claude-sonnet-4-6", ""),
    ),
    (
        "ollama",
        (
            "ollama",
            "http://localhost:11434",
            false,
            "llama3.1:70b",
            "nomic-embed-text",
        ),
    ),
    (
        "lmstudio",
        (
            "openai",
            "http://localhost:1234/v1",
            false,
            "lmstudio-community/Meta-Llama-3.1-70B-Instruct-GGUF",
            "nomic-embed-text-v1.5",
        ),
    ),
    (
        "vllm",
        (
            "openai",
            "http://localhost:8000/v1",
            false,
            "Qwen/Qwen2.5-32B-Instruct",
            "",
        ),
    ),
    (
        "groq",
        (
            "openai",
            "https://api.groq.com/openai/v1",
            true,
            "llama-3.3-70b-versatile",
            "",
        ),
    ),
    (
        "together",
        (
            "openai",
            "https://api.together.xyz/v1",
            true,
            "MiniMaxAI/MiniMax-M3",
            "intfloat/multilingual-e5-large-instruct",
        ),
    ),
    (
        "deepseek",
        (
            "openai",
            "https://api.deepseek.com",
            true,
            "deepseek-chat",
            "",
        ),
    ),
    (
        "minimax",
        (
            "openai",
            "https://api.minimax.io/v1",
            true,
            "MiniMax-M2.7",
            "",
        ),
    ),
    (
        "xai",
        ("openai", "https://api.x.ai/v1", true, "grok-4.3", ""),
    ),
    (
        "sarvam",
        ("openai", "https://api.sarvam.ai/v1", true, "sarvam-m", ""),
    ),
    (
        "mistral",
        (
            "openai",
            "https://api.mistral.ai/v1",
            true,
            "mistral-small-latest",
            "",
        ),
    ),
    (
        "gemini",
        (
            "openai",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            true,
            "gemini-2.0-flash",
            "gemini-embedding-001",
        ),
    ),
];

fn server(provider: &str) -> Option<Usual> {
    let found = SERVERS.iter().find(|(name, _)| *name == provider);
    found.map(|(_, usual)| *usual)
}

/// The variable with the key of a provider that the environment may name.
fn variable(provider: &str) -> Option<&'static str> {
    match provider {
        "openai" => Some("OPENAI_API_KEY"),
        "anthropic" => Some("ANTHROPIC_API_KEY"),
        _ => None,
    }
}

const GATEWAY: &str = "run a gateway that speaks OpenAI's protocol (LiteLLM, for example), name it \
    in [models.providers] with kind = \"openai\", and use it as \"name:model\"";

/// Which of a provider's models is meant.
#[derive(Clone, Copy)]
enum Part {
    Chat,
    Embedding,
}

impl Imported {
    pub(super) fn llm(&mut self, given: &str, config: &Map<String, Value>) {
        let Some(provider) = self.provider("llm", given, LLMS, ALIASES) else {
            return;
        };
        let values = self.fields("llm.config", config, LLM);
        if let Some(spec) = self.model("llm", provider, &values, Part::Chat) {
            self.memory.push(("model", spec));
        }
    }

    pub(super) fn embedder(&mut self, given: &str, config: &Map<String, Value>) {
        let Some(provider) = self.provider("embedder", given, EMBEDDERS, ALIASES) else {
            return;
        };
        let values = self.fields("embedder.config", config, EMBEDDER);
        let asked = text(&values, "embedding_dims");
        let spec = match provider {
            "huggingface" | "fastembed" => self.local(provider, &values),
            _ => self.model("embedder", provider, &values, Part::Embedding),
        };
        let Some(spec) = spec else {
            return;
        };
        if let Some(asked) = asked {
            let known = embedding::known(spec.split_once(':').map_or(&spec, |(_, model)| model));
            let told = match known {
                Some(known) if known.usual.to_string() != asked => format!(
                    "dimensions are probed: the model makes {} numbers, not {asked}",
                    known.usual
                ),
                _ => "dimensions are probed at start".into(),
            };
            self.line(Verdict::NotNeeded, "embedder.config.embedding_dims", told);
        }
        self.memory.push(("embedding", spec));
    }

    /// An embedder that Mem0 runs in its own process.
    fn local(&mut self, provider: &str, values: &BTreeMap<&'static str, Value>) -> Option<String> {
        let key = "embedder.config.model";
        let usual = match provider {
            "fastembed" => "thenlper/gte-large",
            _ => "multi-qa-MiniLM-L6-cos-v1",
        };
        let model = text(values, "model").unwrap_or_else(|| usual.into());
        if let Some(url) = text(values, "base_url") {
            self.serve("embeddings", "openai", &url, values.contains_key("api_key"));
            let spec = format!("embeddings:{model}");
            self.line(
                Verdict::Taken,
                key,
                format!("memory.embedding = \"{spec}\""),
            );
            return Some(spec);
        }
        if model.to_lowercase().ends_with("all-minilm-l6-v2") {
            let told = "memory.embedding = \"local\": run `agentflow models pull` once";
            self.line(Verdict::Taken, key, told);
            return Some("local".into());
        }
        self.line(
            Verdict::NotThere,
            key,
            format!(
                "of models in this process there is all-MiniLM-L6-v2 only: use it (memory.embedding \
                = \"local\", another index), or serve `{model}` with Ollama or text-embeddings-\
                inference and name that"
            ),
        );
        None
    }

    /// The model of a provider as `provider:model`.
    fn model(
        &mut self,
        section: &str,
        provider: &'static str,
        values: &BTreeMap<&'static str, Value>,
        part: Part,
    ) -> Option<String> {
        let key = format!("{section}.config.model");
        let setting = match part {
            Part::Chat => "memory.model",
            Part::Embedding => "memory.embedding",
        };
        let has_key = values.contains_key("api_key");
        let azure = provider.starts_with("azure_openai");
        let base = text(values, "base_url");
        if azure {
            let spec = self.azure(section, values)?;
            self.line(Verdict::Taken, &key, format!("{setting} = \"{spec}\""));
            return Some(spec);
        }
        let is_gateway = provider == "litellm" && base.is_some();
        let known =
            server(provider).or_else(|| is_gateway.then_some(("openai", "", has_key, "", "")));
        let Some((kind, usual_base, wants_key, chat, embed)) = known else {
            let place = format!("{section}.provider");
            let told = format!("`{provider}`: {GATEWAY}");
            self.line(Verdict::NotThere, &place, told);
            return None;
        };
        let usual = match part {
            Part::Chat => chat,
            Part::Embedding => embed,
        };
        let Some(model) =
            text(values, "model").or_else(|| (!usual.is_empty()).then(|| usual.to_owned()))
        else {
            self.line(Verdict::Unknown, &key, "name the model");
            return None;
        };
        let model = model.strip_prefix("models/").unwrap_or(&model).to_owned();
        let name = provider.trim_end_matches("_structured");
        if let Some(url) = &base {
            let place = format!("{section}.config.base_url");
            let told = format!("models.providers.{name}.base_url");
            self.line(Verdict::Taken, &place, told);
            self.serve(name, kind, url, has_key || wants_key);
        } else if !usual_base.is_empty() {
            self.serve(name, kind, usual_base, has_key || wants_key);
        } else if let Some(variable) = variable(name) {
            self.secret(format!(
                "set {variable}, or {variable}_FILE to the path of a file with it"
            ));
        }
        if has_key {
            self.line(
                Verdict::Taken,
                &format!("{section}.config.api_key"),
                "not copied: see below",
            );
        }
        let spec = format!("{name}:{model}");
        self.line(Verdict::Taken, &key, format!("{setting} = \"{spec}\""));
        Some(spec)
    }

    /// Azure's servers speak OpenAI's protocol below `/openai/v1`; models are deployments.
    fn azure(&mut self, section: &str, values: &BTreeMap<&'static str, Value>) -> Option<String> {
        let own = values.get("azure_kwargs").and_then(Value::as_object);
        let of = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| own?.get(*name)?.as_str());
            found.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let place = format!("{section}.config.azure_kwargs");
        let endpoint = of(["azure_endpoint", "endpoint"]).or_else(|| text(values, "base_url"));
        let deployment = of(["azure_deployment", "deployment"]).or_else(|| text(values, "model"));
        let (Some(endpoint), Some(deployment)) = (endpoint, deployment) else {
            self.line(
                Verdict::Unknown,
                &place,
                "give azure_endpoint and azure_deployment: Mem0 reads them from its environment",
            );
            return None;
        };
        let base = format!("{}/openai/v1", endpoint.trim_end_matches('/'));
        self.serve("azure", "openai", &base, true);
        self.line(
            Verdict::Taken,
            &place,
            "models.providers.azure, by Azure's address that speaks OpenAI's protocol",
        );
        Some(format!("azure:{deployment}"))
    }

    fn serve(&mut self, name: &str, kind: &'static str, url: &str, has_key: bool) {
        let url = &self.address(&format!("models.providers.{name}.base_url"), url);
        if has_key {
            self.secret(format!(
                "put the key of `{name}` into the file `{name}.key` (readable by AgentFlow only); \
                models.providers.{name}.api_key_file names it"
            ));
        }
        let server = self
            .providers
            .entry(name.to_owned())
            .or_insert_with(|| Server {
                kind,
                base_url: url.trim_end_matches('/').to_owned(),
                has_key,
            });
        server.has_key |= has_key;
        if server.base_url != url.trim_end_matches('/') {
            let told = format!(
                "`{name}` has two addresses, {} and {url}: give one of them a name of its own",
                server.base_url
            );
            self.line(Verdict::NotThere, &format!("models.providers.{name}"), told);
        }
    }

    pub(super) fn reranker(&mut self, given: &str, config: &Map<String, Value>) {
        let found = self.provider("reranker", given, RERANKERS, RERANKER_ALIASES);
        let Some(provider) = found else {
            return;
        };
        let values = self.fields("reranker.config", config, RERANKER);
        let key = "reranker.provider";
        match provider {
            "llm_reranker" => {
                self.line(Verdict::Taken, key, "memory.reranker = \"llm\"");
                self.memory.push(("reranker", "llm".into()));
            }
            "cohere" => {
                let model = text(&values, "model").unwrap_or_else(|| "rerank-v3.5".into());
                self.serve("cohere", "openai", "https://api.cohere.com", true);
                let spec = format!("cohere:{model}");
                self.line(Verdict::Taken, key, format!("memory.reranker = \"{spec}\""));
                self.memory.push(("reranker", spec));
            }
            "sentence_transformer" | "huggingface" => {
                let usual = match provider {
                    "huggingface" => "BAAI/bge-reranker-base",
                    _ => "cross-encoder/ms-marco-MiniLM-L-6-v2",
                };
                let model = text(&values, "model").unwrap_or_else(|| usual.into());
                self.line(
                    Verdict::NotThere,
                    key,
                    format!(
                        "nothing is fetched unasked: put the files of a BERT cross-encoder \
                        (`{model}`) into a folder, and set memory.reranker = \"local\" and \
                        memory.reranker_folder"
                    ),
                );
            }
            other => self.line(
                Verdict::NotThere,
                key,
                format!("`{other}`: any server with Cohere's protocol can be named, or \"llm\""),
            ),
        }
    }
}
