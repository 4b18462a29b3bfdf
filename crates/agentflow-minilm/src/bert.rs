//! The network: embeddings, encoder layers, and the heads that use them.

use agentflow_types::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::math::{View, add, gelu, layer_norm, linear, product, softmax, transpose};

/// What `config.json` says of the network.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    model_type: String,
    #[serde(default = "Config::usual_act")]
    hidden_act: String,
    #[serde(default = "Config::usual_positions")]
    position_embedding_type: String,
    /// Width of a token's vector.
    pub hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    vocab_size: usize,
    /// Most tokens of a text.
    pub max_position_embeddings: usize,
    #[serde(default = "Config::usual_eps")]
    layer_norm_eps: f32,
}

impl Config {
    fn usual_act() -> String {
        "gelu".to_owned()
    }

    fn usual_positions() -> String {
        "absolute".to_owned()
    }

    fn usual_eps() -> f32 {
        1e-12
    }

    /// # Errors
    /// `Invalid` if the network is of another kind.
    fn check(&self) -> Result<()> {
        for (name, found, wanted) in [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            (
                "position_embedding_type",
                &self.position_embedding_type,
                "absolute",
            ),
        ] {
            if found != wanted {
                return Err(
                    Error::invalid("the local model is of a kind that is not supported")
                        .with("setting", name)
                        .with("found", found)
                        .with("supported", wanted),
                );
            }
        }
        let heads = self.num_attention_heads;
        if heads == 0 || self.hidden_size == 0 || !self.hidden_size.is_multiple_of(heads) {
            return Err(Error::invalid(
                "the heads of the local model do not fit its width",
            ));
        }
        Ok(())
    }
}

/// The tokens of one text, or of two that are compared.
pub struct Sequence {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 0 for tokens of the first text, 1 for those of the second.
    pub kinds: Vec<u32>,
}

struct Linear {
    /// `[inputs, outputs]`: files have it the other way round, which is slower to multiply with.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn of(&self, x: &[f32]) -> Vec<f32> {
        linear(x, &self.weight, &self.bias)
    }
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    fn of(&self, x: &mut [f32]) {
        layer_norm(x, &self.weight, &self.bias, self.eps);
    }
}

struct Layer {
    /// Query, key and value in one product.
    attention: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// The encoder.
pub struct Bert {
    words: Vec<f32>,
    positions: Vec<f32>,
    kinds: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    width: usize,
    heads: usize,
    vocabulary: usize,
}

/// The head of a cross-encoder: one score from the first token.
pub struct Classifier {
    pooler: Linear,
    classifier: Linear,
}

/// Reads tensors by name.
struct Tensors<'a> {
    tensors: &'a SafeTensors<'a>,
    prefix: &'static str,
}

impl Tensors<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.tensors.tensor(&name).map_err(|error| {
            Error::invalid("a tensor of the local model is missing")
                .with("tensor", &name)
                .source_err(error)
        })?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(
                Error::invalid("a tensor of the local model has another form")
                    .with("tensor", &name)
                    .with(
                        "found",
                        format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
                    )
                    .with("expected", format!("F32 {shape:?}")),
            );
        }
        let values = tensor.data().as_chunks::<4>().0;
        Ok(values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect())
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        Ok(Linear {
            weight: transpose(
                &self.get(&format!("{name}.weight"), &[outputs, inputs])?,
                inputs,
            ),
            bias: self.get(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn norm(&self, name: &str, config: &Config) -> Result<Norm> {
        let width = config.hidden_size;
        Ok(Norm {
            weight: self.get(&format!("{name}.weight"), &[width])?,
            bias: self.get(&format!("{name}.bias"), &[width])?,
            eps: config.layer_norm_eps,
        })
    }

    fn layer(&self, number: usize, config: &Config) -> Result<Layer> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        let mut weight = Vec::with_capacity(3 * width * width);
        let mut bias = Vec::with_capacity(3 * width);
        for part in ["query", "key", "value"] {
            let part = name(&format!("attention.self.{part}"));
            weight.extend(self.get(&format!("{part}.weight"), &[width, width])?);
            bias.extend(self.get(&format!("{part}.bias"), &[width])?);
        }
        let attention = Linear {
            weight: transpose(&weight, width),
            bias,
        };
        Ok(Layer {
            attention,
            attention_out: self.linear(&name("attention.output.dense"), width, width)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), config)?,
            up: self.linear(&name("intermediate.dense"), inner, width)?,
            down: self.linear(&name("output.dense"), width, inner)?,
            norm: self.norm(&name("output.LayerNorm"), config)?,
        })
    }
}

impl Bert {
    /// Reads the encoder from the bytes of a safetensors file; both ways of naming tensors,
    /// with and without `bert.` in front, are understood.
    ///
    /// # Errors
    /// `Invalid` if the network is of another kind, or tensors are missing or of another form.
    pub fn load(config: &Config, tensors: &SafeTensors<'_>) -> Result<Self> {
        config.check()?;
        let vocabulary = config.vocab_size;
        let words = "embeddings.word_embeddings.weight";
        let tensors = Tensors {
            tensors,
            prefix: if tensors.tensor(words).is_ok() {
                ""
            } else {
                "bert."
            },
        };
        let width = config.hidden_size;
        let positions = config.max_position_embeddings;
        Ok(Self {
            words: tensors.get(words, &[vocabulary, width])?,
            positions: tensors.get("embeddings.position_embeddings.weight", &[positions, width])?,
            kinds: tensors.get("embeddings.token_type_embeddings.weight", &[2, width])?,
            norm: tensors.norm("embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|number| tensors.layer(number, config))
                .collect::<Result<_>>()?,
            width,
            heads: config.num_attention_heads,
            vocabulary,
        })
    }

    /// Vectors of all tokens, text after text: `[tokens, width] f32`.
    ///
    /// # Errors
    /// `Invalid` if a token is unknown to the network or a text is longer than it can read.
    pub fn encode(&self, texts: &[Sequence]) -> Result<Vec<f32>> {
        let mut x = self.embed(texts)?;
        self.norm.of(&mut x);
        let mut scores = Vec::new();
        for layer in &self.layers {
            let attended = self.attend(&layer.attention.of(&x), texts, &mut scores);
            add(&mut x, &layer.attention_out.of(&attended));
            layer.attention_norm.of(&mut x);
            let mut inner = layer.up.of(&x);
            gelu(&mut inner);
            add(&mut x, &layer.down.of(&inner));
            layer.norm.of(&mut x);
        }
        Ok(x)
    }

    fn embed(&self, texts: &[Sequence]) -> Result<Vec<f32>> {
        let width = self.width;
        let row = |i: usize| i * width..(i + 1) * width;
        let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
        let mut x = Vec::with_capacity(tokens * width);
        for text in texts {
            for (place, (&id, &kind)) in text.ids.iter().zip(&text.kinds).enumerate() {
                let (id, kind) = (id as usize, kind as usize);
                if id >= self.vocabulary || kind > 1 || (place + 1) * width > self.positions.len() {
                    return Err(Error::invalid("a token does not fit the local model")
                        .with("token", id)
                        .with("place", place));
                }
                let from = x.len();
                x.extend_from_slice(&self.words[row(id)]);
                add(&mut x[from..], &self.positions[row(place)]);
                add(&mut x[from..], &self.kinds[row(kind)]);
            }
        }
        Ok(x)
    }

    /// Attention within each text. `packed`: query, key and value of each token,
    /// `[tokens, 3 · width]`; `scores` is scratch space.
    fn attend(&self, packed: &[f32], texts: &[Sequence], scores: &mut Vec<f32>) -> Vec<f32> {
        let (width, size) = (self.width, self.width / self.heads);
        let scale = 1.0 / (size as f32).sqrt();
        let mut out = vec![0.0; packed.len() / 3];
        let mut first = 0;
        for text in texts {
            let tokens = text.ids.len();
            scores.clear();
            scores.resize(tokens * tokens, 0.0);
            let square = View::rows(tokens, tokens);
            for head in 0..self.heads {
                let part = |which: usize| {
                    let offset = first * 3 * width + which * width + head * size;
                    View::part(offset, tokens, size, 3 * width)
                };
                let (query, key, value) = (part(0), part(1).transposed(), part(2));
                product((packed, query), (packed, key), (scores, square), 0.0, scale);
                softmax(scores, tokens.max(1));
                let place = View::part(first * width + head * size, tokens, size, width);
                product(
                    (scores, square),
                    (packed, value),
                    (&mut out, place),
                    0.0,
                    1.0,
                );
            }
            first += tokens;
        }
        out
    }
}

impl Classifier {
    /// Reads the head of a network that gives one score.
    ///
    /// # Errors
    /// As [`Bert::load`].
    pub fn load(config: &Config, tensors: &SafeTensors<'_>) -> Result<Self> {
        let width = config.hidden_size;
        let bert = Tensors {
            tensors,
            prefix: "bert.",
        };
        let head = Tensors {
            tensors,
            prefix: "",
        };
        Ok(Self {
            pooler: bert.linear("pooler.dense", width, width)?,
            classifier: head.linear("classifier", 1, width)?,
        })
    }

    /// The score of a text from the vector of its first token; without unit.
    pub fn score(&self, first: &[f32]) -> f32 {
        let mut pooled = self.pooler.of(first);
        for v in &mut pooled {
            *v = v.tanh();
        }
        self.classifier.of(&pooled)[0]
    }
}
