//! Fetching files of local models from a server that may send the wrong thing.

use std::{collections::HashMap, fs, path::Path};

use agentflow_models::hub::{Cache, Network, Pinned, PinnedFile};
use agentflow_types::ErrorKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A model of three small files; the hashes are those of `one`, `two` and `three`.
const MODEL: Pinned = Pinned {
    repo: "some/model",
    revision: "0123456789abcdef0123456789abcdef01234567",
    files: &[
        PinnedFile {
            name: "config.json",
            sha256: "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            bytes: 3,
        },
        PinnedFile {
            name: "tokenizer.json",
            sha256: "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
            bytes: 3,
        },
        PinnedFile {
            name: "model.safetensors",
            sha256: "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f",
            bytes: 5,
        },
    ],
};

/// Serves what `answer` gives for the last part of a path, and counts requests by path.
async fn serve(answer: fn(&str) -> (u16, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let expected = format!("/some/model/resolve/{}/", MODEL.revision);
            let (status, body) = match path.strip_prefix(&expected) {
                Some(name) => answer(name),
                None => (404, "no such path"),
            };
            let response = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    format!("http://{address}/")
}

fn good(name: &str) -> (u16, &'static str) {
    match name {
        "config.json" => (200, "one"),
        "tokenizer.json" => (200, "two"),
        _ => (200, "three"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().expect("plain names"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_model_is_fetched_once_and_found_without_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path()).endpoint(serve(good).await);
    assert_eq!(cache.find(MODEL.repo, None), None);
    let found = cache.fetch(&MODEL).await.unwrap();
    assert_eq!(
        found,
        folder
            .path()
            .join("models--some--model/snapshots")
            .join(MODEL.revision)
    );
    assert_eq!(
        names(&found),
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    assert_eq!(cache.find(MODEL.repo, None), Some(found.clone()));
    assert_eq!(
        cache.find(MODEL.repo, Some(MODEL.revision)),
        Some(found.clone())
    );
    assert_eq!(cache.find(MODEL.repo, Some("other")), None);
    let offline = Cache::new(folder.path()).network(Network::Forbidden);
    assert_eq!(offline.fetch(&MODEL).await.unwrap(), found);
    // What `main` names comes before what is newest.
    let main = folder.path().join("models--some--model/snapshots/main-one");
    fs::create_dir_all(&main).unwrap();
    for name in names(&found) {
        fs::copy(found.join(&name), main.join(&name)).unwrap();
    }
    fs::create_dir_all(folder.path().join("models--some--model/refs")).unwrap();
    fs::write(
        folder.path().join("models--some--model/refs/main"),
        "main-one\n",
    )
    .unwrap();
    assert_eq!(cache.find(MODEL.repo, None), Some(main));
}

#[tokio::test]
async fn what_is_not_the_expected_file_is_thrown_away() {
    for (answer, kind) in [
        (
            (|_| (200, "thr33")) as fn(&str) -> (u16, &'static str),
            ErrorKind::Failed,
        ),
        (|_| (200, "longer than it should be"), ErrorKind::Failed),
        (|_| (200, ""), ErrorKind::Failed),
        (|_| (500, "three"), ErrorKind::Failed),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path()).endpoint(serve(answer).await);
        let error = cache.fetch(&MODEL).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let snapshot = folder
            .path()
            .join("models--some--model/snapshots")
            .join(MODEL.revision);
        assert!(names(&snapshot).is_empty(), "{:?}", names(&snapshot));
        assert_eq!(cache.find(MODEL.repo, None), None);
    }
}

#[tokio::test]
async fn nothing_is_fetched_where_that_is_forbidden_or_impossible() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let env = |pairs: &[(&str, &str)]| {
        let map: HashMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Cache::from_env(move |name| map.get(name).cloned())
    };
    let url = serve(good).await;
    let offline = env(&[
        ("HF_HOME", &path),
        ("HF_ENDPOINT", &url),
        ("HF_HUB_OFFLINE", "1"),
    ])
    .unwrap();
    let error = offline.fetch(&MODEL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("some/model"), "{error}");
    let nobody = env(&[
        ("HF_HUB_CACHE", &path),
        ("HF_ENDPOINT", "http://127.0.0.1:1"),
    ])
    .unwrap();
    assert_eq!(
        nobody.fetch(&MODEL).await.unwrap_err().kind(),
        ErrorKind::Busy
    );
    let online = env(&[
        ("HF_HOME", &path),
        ("HF_ENDPOINT", &url),
        ("HF_HUB_OFFLINE", "0"),
    ])
    .unwrap();
    let found = online.fetch(&MODEL).await.unwrap();
    assert!(
        found.starts_with(folder.path().join("hub")),
        "{}",
        found.display()
    );
    assert_eq!(env(&[]).unwrap_err().kind(), ErrorKind::Invalid);
}
