//! The cross-encoder, with a tiny network whose weights come from a formula. The expected scores
//! were computed by another implementation of the same network, in float64.

use std::{collections::HashMap, fs, path::Path};

use agentflow_minilm::{CrossEncoder, Embedder, Files, Workers};
use agentflow_models::Rerank;
use agentflow_types::ErrorKind;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

const WIDTH: usize = 8;
const INNER: usize = 16;
const WORDS: [&str; 12] = [
    "[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "blue", "apple", "sky", "is", "the", "a", "what",
];

/// Names and shapes of all tensors, in the order that the formula counts them.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    add(
        "bert.embeddings.word_embeddings.weight".into(),
        &[WORDS.len(), WIDTH],
    );
    add(
        "bert.embeddings.position_embeddings.weight".into(),
        &[16, WIDTH],
    );
    add(
        "bert.embeddings.token_type_embeddings.weight".into(),
        &[2, WIDTH],
    );
    add("bert.embeddings.LayerNorm.weight".into(), &[WIDTH]);
    add("bert.embeddings.LayerNorm.bias".into(), &[WIDTH]);
    for layer in 0..2 {
        let mut add = |part: &str, outputs: usize, inputs: usize| {
            let name = format!("bert.encoder.layer.{layer}.{part}");
            let weight = match inputs {
                0 => vec![outputs],
                inputs => vec![outputs, inputs],
            };
            add(format!("{name}.weight"), &weight);
            add(format!("{name}.bias"), &[outputs]);
        };
        add("attention.self.query", WIDTH, WIDTH);
        add("attention.self.key", WIDTH, WIDTH);
        add("attention.self.value", WIDTH, WIDTH);
        add("attention.output.dense", WIDTH, WIDTH);
        add("attention.output.LayerNorm", WIDTH, 0);
        add("intermediate.dense", INNER, WIDTH);
        add("output.dense", WIDTH, INNER);
        add("output.LayerNorm", WIDTH, 0);
    }
    add("bert.pooler.dense.weight".into(), &[WIDTH, WIDTH]);
    add("bert.pooler.dense.bias".into(), &[WIDTH]);
    add("classifier.weight".into(), &[1, WIDTH]);
    add("classifier.bias".into(), &[1]);
    all
}

fn write_model(folder: &Path, without: &str) {
    let bytes: Vec<Vec<u8>> = tensors()
        .iter()
        .enumerate()
        .map(|(k, (name, shape))| {
            let (shift, scale) = match name.as_str() {
                name if name.ends_with("LayerNorm.weight") => (0.5, 1.0),
                name if name.contains("attention.self") => (-0.5, 3.0),
                "classifier.weight" => (-0.5, 4.0),
                _ => (-0.5, 1.0),
            };
            let value = |i: usize| {
                let odd = i * i * 31 + i * (7 + 13 * k) + k * k * 101;
                ((odd % 97) as f64 / 97.0 + shift) * scale
            };
            let values = (0..shape.iter().product()).map(value);
            values.flat_map(|v| (v as f32).to_le_bytes()).collect()
        })
        .collect();
    let views: HashMap<String, TensorView<'_>> = tensors()
        .into_iter()
        .zip(&bytes)
        .filter(|((name, _), _)| !name.starts_with(without))
        .map(|((name, shape), bytes)| {
            (
                name,
                TensorView::new(Dtype::F32, shape, bytes).expect("a model can be written"),
            )
        })
        .collect();
    let weights = safetensors::serialize(&views, None).expect("a model can be written");
    fs::write(folder.join("model.safetensors"), weights).expect("a model can be written");
    let config = json!({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_attention_heads": 2, "num_hidden_layers": 2,
        "max_position_embeddings": 16, "vocab_size": WORDS.len(), "layer_norm_eps": 1e-12
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("a model can be written");
    let vocabulary: HashMap<&str, usize> = WORDS.iter().zip(0..).map(|(w, i)| (*w, i)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary
        }
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())
        .expect("a model can be written");
}

#[tokio::test]
async fn scores_are_those_of_another_implementation() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), "-");
    let files = Files::in_folder(folder.path()).unwrap();
    let encoder = CrossEncoder::load(&files, Workers::new(1)).unwrap();
    let long = "apple ".repeat(20);
    let texts = ["The apple is red", "the sky is blue", "zebra", "", &long];
    let texts = texts.map(str::to_owned);
    let scores = encoder.scores("What is red", &texts).await.unwrap();
    let expected = [0.231_298, 0.094_273, 0.235_884, 0.283_632, 0.106_042];
    for ((text, found), expected) in texts.iter().zip(&scores).zip(expected) {
        assert!(
            (found - expected).abs() < 1e-4,
            "{text}: {found} is not {expected}"
        );
    }
    assert!(encoder.scores("What is red", &[]).await.unwrap().is_empty());
}

#[test]
fn a_network_without_a_score_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), "classifier");
    let files = Files::in_folder(folder.path()).unwrap();
    let error = CrossEncoder::load(&files, Workers::new(1))
        .err()
        .expect("no classifier");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("classifier.weight"), "{error}");
    // It still embeds.
    let embedder = Embedder::load("tiny", &files, Workers::new(1)).unwrap();
    assert_eq!(embedder.dimension(), WIDTH);
}
