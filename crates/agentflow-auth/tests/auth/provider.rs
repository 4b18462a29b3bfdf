//! Keys over HTTP: discovery, rotation, a provider that is away.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use std::time::Duration;

use agentflow_auth::{Algorithm, Credentials, JwtConfig, KeySet, KeySource};
use agentflow_types::Role;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    World,
    tokens::{Provider, claims, world, world_with},
};

/// A provider on this machine.
struct Site {
    url: String,
    /// What it answers with by path; absent ones are 500.
    pages: Arc<Mutex<Vec<(String, Value)>>>,
    asked: Arc<AtomicUsize>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pages: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let asked: Arc<AtomicUsize> = Arc::default();
        let (known, counter) = (pages.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let mut request = vec![0; 4096];
                let n = socket.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..n]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let page = {
                    let known = known.lock().unwrap();
                    known
                        .iter()
                        .find(|(at, _)| *at == path)
                        .map(|(_, page)| page.to_string())
                };
                let (status, body) = match page {
                    Some(page) => ("200 OK", page),
                    None => ("500 Oops", String::new()),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, pages, asked }
    }

    fn set(&self, pages: &[(&str, Value)]) {
        let pages = pages
            .iter()
            .map(|(at, page)| ((*at).to_owned(), page.clone()));
        *self.pages.lock().unwrap() = pages.collect();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn config(issuer: &str) -> JwtConfig {
    JwtConfig {
        issuer: issuer.into(),
        audience: vec!["agentflow".into()],
        algorithms: vec![Algorithm::EdDSA],
        leeway_seconds: 0,
        tenant_claim: None,
        principal_claim: "sub".into(),
        role_claim: None,
        roles: Default::default(),
        default_role: Some(Role::User),
    }
}

fn token(provider: &Provider, issuer: &str, kid: &str) -> String {
    let mut claims = claims();
    claims["iss"] = json!(issuer);
    provider.token(&json!({ "alg": "EdDSA", "kid": kid }), &claims, "EdDSA")
}

async fn opens(world: &World, token: &str) -> bool {
    world.ask(Credentials::Bearer(token)).await.is_ok()
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn keys_are_found_by_the_issuer_and_fetched_once() {
    let (site, provider) = (Site::start().await, Provider::new());
    let described = json!({ "issuer": site.url, "jwks_uri": format!("{}/keys", site.url) });
    site.set(&[(DISCOVERY, described), ("/keys", provider.jwks())]);
    let world = world(config(&site.url), KeySource::Issuer(site.url.clone()));
    let good = token(&provider, &site.url, "ed");
    for _ in 0..20 {
        assert!(opens(&world, &good).await);
    }
    assert_eq!(site.asked(), 2, "the description and the keys");
    // Invented key names do not make us ask again and again.
    for n in 0..50 {
        assert!(!opens(&world, &token(&provider, &site.url, &format!("kid {n}"))).await);
    }
    assert_eq!(site.asked(), 2);
    site.set(&[]);
    assert!(
        opens(&world, &good).await,
        "known keys outlive their provider"
    );
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_noticed() {
    let (site, old, new) = (Site::start().await, Provider::new(), Provider::new());
    site.set(&[("/keys", old.jwks())]);
    let source = KeySource::Url(format!("{}/keys", site.url));
    let keys = KeySet::new(source, Duration::from_secs(600)).unwrap();
    let issuer = "https://id.example";
    let world = world_with(config(issuer), keys.with_pause(Duration::ZERO));
    assert!(opens(&world, &token(&old, issuer, "ed")).await);
    let mut next = new.jwks();
    next["keys"][0]["kid"] = json!("next");
    site.set(&[("/keys", next)]);
    assert!(opens(&world, &token(&new, issuer, "next")).await);
    assert!(
        !opens(&world, &token(&old, issuer, "ed")).await,
        "the old key is gone"
    );
}

#[tokio::test]
async fn a_provider_of_another_name_is_not_believed() {
    let (site, provider) = (Site::start().await, Provider::new());
    let described =
        json!({ "issuer": "https://evil.example", "jwks_uri": format!("{}/keys", site.url) });
    site.set(&[(DISCOVERY, described), ("/keys", provider.jwks())]);
    let world = world(config(&site.url), KeySource::Issuer(site.url.clone()));
    let refused = world
        .ask(Credentials::Bearer(&token(&provider, &site.url, "ed")))
        .await;
    assert!(refused.unwrap_err().starts_with("failed"));
}

#[tokio::test]
async fn a_provider_that_is_away_is_not_asked_for_each_token() {
    let (site, provider) = (Site::start().await, Provider::new());
    let url = format!("{}/keys", site.url);
    let world = world(config("https://id.example"), KeySource::Url(url));
    for _ in 0..5 {
        assert!(!opens(&world, &token(&provider, "https://id.example", "ed")).await);
    }
    assert_eq!(site.asked(), 1);
}
