//! The real model, against numbers that other programs computed with it.

use agentflow_minilm::{Embedder, Files, Workers};
use agentflow_models::{
    Embed,
    hub::{self, Cache, Network},
};
use agentflow_types::ErrorKind;

const NAME: &str = "sentence-transformers/all-MiniLM-L6-v2";

fn files() -> Files {
    let folder = agentflow_testkit::minilm().expect("the model is installed");
    Files::in_folder(folder).expect("the model is whole")
}

fn embedder() -> Embedder {
    Embedder::load(NAME, &files(), Workers::new(2)).expect("the model can be read")
}

async fn embed(embedder: &Embedder, texts: &[&str]) -> Vec<Vec<f32>> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    embedder
        .embed(NAME, &texts)
        .await
        .expect("texts can be embedded")
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn close(found: f32, expected: f32) {
    assert!((found - expected).abs() < 6e-5, "{found} is not {expected}");
}

/// The package comes from somebody else than the model's publisher.
#[test]
fn files_are_those_of_the_publisher() {
    for file in hub::ALL_MINILM_L6_V2.files {
        let path = files().folder().join(file.name);
        assert_eq!(hub::sha256(&path).unwrap(), file.sha256, "{}", file.name);
        assert_eq!(path.metadata().unwrap().len(), file.bytes, "{}", file.name);
    }
}

#[tokio::test]
async fn vectors_are_those_of_other_implementations() {
    let embedder = embedder();
    assert_eq!(embedder.dimension(), 384);
    let vectors = embed(
        &embedder,
        &[
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
            "The cat sits outside",
        ],
    )
    .await;
    for (other, expected) in [(1, 0.6946), (2, 0.9429), (3, 0.2569)] {
        close(cosine(&vectors[0], &vectors[other]), expected);
    }
    let first = [0.13919, 0.00303, 0.04701, 0.03957];
    for (found, expected) in vectors[4].iter().zip(first) {
        close(*found, expected);
    }
    for vector in &vectors {
        close(cosine(vector, vector), 1.0);
    }
}

#[tokio::test]
async fn company_does_not_change_a_vector() {
    let embedder = embedder();
    let texts: Vec<String> = (0..70)
        .map(|i| format!("sentence {i} {}", "and some more words ".repeat(i % 23)))
        .chain([
            String::new(),
            "word ".repeat(10_000),
            "日本語のテキスト".to_owned(),
        ])
        .collect();
    let together = embedder.embed(NAME, &texts).await.unwrap();
    assert_eq!(together.len(), texts.len());
    for place in [0, 7, 22, 45, 70, 71, 72] {
        let alone = embedder.embed(NAME, &texts[place..=place]).await.unwrap();
        close(cosine(&together[place], &alone[0]), 1.0);
    }
    // What is beyond the 256 tokens that the model reads does not count.
    let shorter = embedder.embed(NAME, &["word ".repeat(254)]).await.unwrap();
    close(cosine(&together[71], &shorter[0]), 1.0);
    assert!(embedder.embed(NAME, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_model_is_refused() {
    let embedder = embedder();
    assert!(embedder.embed("all-MiniLM-L6-v2", &[]).await.is_ok());
    let refused = embedder.embed("bge-small-en", &[]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn files_are_looked_for_where_other_tools_keep_them() {
    let model = &hub::ALL_MINILM_L6_V2;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path()).network(Network::Forbidden);
    let nowhere = Files::locate(None, &cache, model).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
    let named = Files::locate(Some(folder.path()), &cache, model)
        .await
        .unwrap_err();
    assert_eq!(named.kind(), ErrorKind::NotFound);
    let snapshots = "models--sentence-transformers--all-MiniLM-L6-v2/snapshots";
    let snapshot = folder.path().join(snapshots).join("of-somebody-else");
    std::fs::create_dir_all(&snapshot).unwrap();
    for name in hub::FILES {
        std::fs::copy(files().folder().join(name), snapshot.join(name)).unwrap();
    }
    let found = Files::locate(None, &cache, model).await.unwrap();
    assert_eq!(found.folder(), snapshot);
    let named = Files::locate(Some(files().folder()), &cache, model)
        .await
        .unwrap();
    assert_eq!(named.folder(), files().folder());
}

#[test]
fn missing_and_damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Files::in_folder(folder.path()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("config.json"), "{missing}");
    for name in hub::FILES {
        std::fs::copy(files().folder().join(name), folder.path().join(name)).unwrap();
    }
    let load = || {
        let files = Files::in_folder(folder.path()).unwrap();
        Embedder::load(NAME, &files, Workers::new(1))
    };
    assert!(load().is_ok());
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (from, to, word) in [
        (
            "\"model_type\": \"bert\"",
            "\"model_type\": \"gpt2\"",
            "model_type",
        ),
        (
            "\"hidden_size\": 384",
            "\"hidden_size\": 768",
            "word_embeddings",
        ),
        (
            "\"num_attention_heads\": 12",
            "\"num_attention_heads\": 7",
            "heads",
        ),
        ("{", "[", "config.json"),
    ] {
        std::fs::write(&config, text.replacen(from, to, 1)).unwrap();
        let error = load().err().expect("the file is damaged");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(word), "{error}");
    }
}
