//! Tokens of an identity provider: what opens, and what does not.

use std::{collections::BTreeMap, time::Duration};

use agentflow_auth::{
    Algorithm, AuthConfig, Credentials, JwtConfig, KeySet, KeySource, Tokens, parse_algorithm,
};
use agentflow_types::Role;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

use crate::World;

/// An RSA key of 2048 bits, made for these tests.
const RSA_KEY: &str = include_str!("rsa_key.b64");

/// Keys of a provider.
pub struct Provider {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Provider {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        let rsa: String = RSA_KEY.split_whitespace().collect();
        let rsa = base64::engine::general_purpose::STANDARD
            .decode(rsa)
            .unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(scheme, ec.as_ref(), &random).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(&rsa).unwrap(),
        }
    }

    pub fn jwks(&self) -> Value {
        let ec = self.ec.public_key().as_ref();
        let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "alg": "EdDSA",
              "x": B64.encode(self.ed.public_key().as_ref()) },
            { "kty": "EC", "crv": "P-256", "kid": "ec",
              "x": B64.encode(&ec[1..33]), "y": B64.encode(&ec[33..]) },
            { "kty": "RSA", "kid": "rsa", "use": "sig",
              "n": B64.encode(rsa.n), "e": B64.encode(rsa.e) },
            { "kty": "oct", "kid": "oct", "k": B64.encode(b"shared") },
        ] })
    }

    /// A token; `alg` names how it is signed, which need not be what its header says.
    pub fn token(&self, header: &Value, claims: &Value, alg: &str) -> String {
        let part = |value: &Value| B64.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let bytes = message.as_bytes();
        let random = SystemRandom::new();
        let signature = match alg {
            "EdDSA" => self.ed.sign(bytes).as_ref().to_vec(),
            "ES256" => self.ec.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                let signed = self
                    .rsa
                    .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature);
                signed.unwrap();
                signature
            }
            "none" => vec![],
            // With a public key as the secret, as an attacker would.
            "HS256" => {
                let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
                let key = hmac::Key::new(hmac::HMAC_SHA256, &rsa.n);
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            "HS256 shared" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, b"shared");
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            other => panic!("{other}"),
        };
        format!("{message}.{}", B64.encode(signature))
    }
}

fn now() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["agentflow", "other"], "sub": "ada",
        "exp": now() + 600, "org": { "slug": "acme" }, "groups": ["staff", "admins"],
    })
}

fn config() -> JwtConfig {
    let roles = [("staff", Role::User), ("admins", Role::Admin)];
    JwtConfig {
        issuer: "https://id.example".into(),
        audience: vec!["agentflow".into()],
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        leeway_seconds: 30,
        tenant_claim: None,
        principal_claim: "sub".into(),
        role_claim: Some("groups".into()),
        roles: roles.map(|(word, role)| (word.to_owned(), role)).into(),
        default_role: None,
    }
}

pub fn world(config: JwtConfig, source: KeySource) -> World {
    world_with(
        config,
        KeySet::new(source, Duration::from_secs(600)).unwrap(),
    )
}

pub fn world_with(config: JwtConfig, keys: KeySet) -> World {
    let tokens = Tokens::new(config, keys).unwrap();
    World::with(AuthConfig::default(), Some(tokens))
}

fn file(provider: &Provider) -> (tempfile::TempDir, KeySource) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, provider.jwks().to_string()).unwrap();
    (dir, KeySource::File(path))
}

async fn ask(world: &World, token: &str) -> String {
    match world.ask(Credentials::Bearer(token)).await {
        Ok(caller) => format!(
            "{} {} {}",
            caller.scope.tenant(),
            caller.scope.principal(),
            caller.role
        ),
        Err(text) => text,
    }
}

#[tokio::test]
async fn good_tokens_open_with_each_algorithm() {
    let provider = Provider::new();
    let (_dir, source) = file(&provider);
    let world = world(config(), source);
    for (alg, kid) in [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa")] {
        for header in [
            json!({ "alg": alg, "typ": "JWT", "kid": kid }),
            json!({ "alg": alg }),
        ] {
            let token = provider.token(&header, &claims(), alg);
            assert_eq!(ask(&world, &token).await, "default ada admin", "{header}");
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_nobodys() {
    let (provider, stranger) = (Provider::new(), Provider::new());
    let (_dir, source) = file(&provider);
    let world = world(config(), source);
    let forged = |alg: &str, kid: &str, signed: &str| {
        provider.token(&json!({ "alg": alg, "kid": kid }), &claims(), signed)
    };
    let (accepted, malformed) = (
        "401 The token's algorithm is not accepted.",
        "401 The token is malformed.",
    );
    let unknown = "401 The token's key is unknown.";
    let wrong = "401 The token's signature is wrong.";
    for (token, want) in [
        (forged("none", "rsa", "none"), malformed),
        (forged("HS256", "rsa", "HS256"), accepted),
        (forged("HS256", "oct", "HS256 shared"), accepted),
        (forged("RS256", "rsa", "HS256"), wrong),
        (forged("EdDSA", "oct", "HS256 shared"), unknown),
        (forged("EdDSA", "rsa", "EdDSA"), unknown),
        (forged("ES256", "ed", "ES256"), unknown),
        (forged("RS256", "ec", "RS256"), unknown),
        (forged("RS384", "rsa", "RS256"), accepted),
        (forged("EdDSA", "nobody's", "EdDSA"), unknown),
        (
            stranger.token(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims(), "EdDSA"),
            wrong,
        ),
        ("a.b.c".into(), malformed),
        ("..".into(), malformed),
        ("x".into(), malformed),
    ] {
        assert_eq!(ask(&world, &token).await, want, "{token}");
    }
    // A good token whose claims were changed.
    let token = forged("EdDSA", "ed", "EdDSA");
    let mut parts: Vec<&str> = token.split('.').collect();
    let other = B64.encode(claims().to_string().replace("ada", "eve"));
    parts[1] = &other;
    assert_eq!(ask(&world, &parts.join(".")).await, wrong);
    let long = "x".repeat(20_000);
    assert_eq!(ask(&world, &long).await, "401 The token is too long.");
}

#[tokio::test]
async fn claims_are_checked() {
    let provider = Provider::new();
    let (_dir, source) = file(&provider);
    let world = world(config(), source);
    let lacks = "401 The token lacks exp, iss or aud.";
    let audience = "401 The token is for another audience.";
    let no_role = "403 The token gives no role on this server.";
    let cases: Vec<(&str, Value, &str)> = vec![
        ("exp", json!(now() - 31), "401 The token has expired."),
        ("exp", json!(now() - 20), "default ada admin"),
        ("exp", Value::Null, lacks),
        ("exp", json!("soon"), lacks),
        ("nbf", json!(now() + 60), "401 The token is not valid yet."),
        ("nbf", json!(now() + 20), "default ada admin"),
        (
            "iss",
            json!("https://evil.example"),
            "401 The token has another issuer.",
        ),
        ("iss", Value::Null, lacks),
        ("aud", json!("other"), audience),
        ("aud", json!("agentflow"), "default ada admin"),
        ("aud", json!([]), audience),
        ("aud", Value::Null, lacks),
        ("sub", Value::Null, "401 The token names no principal."),
        ("sub", json!(""), "401 The token names no principal."),
        ("groups", json!([]), no_role),
        ("groups", json!(["strangers"]), no_role),
        ("groups", json!("strangers staff"), "default ada user"),
        ("groups", json!(7), no_role),
    ];
    for (name, value, want) in cases {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            ref value => claims[name] = value.clone(),
        }
        let token = provider.token(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims, "EdDSA");
        let found = ask(&world, &token).await;
        let is_same = found == want || (want == lacks && found == "401 The token is malformed.");
        assert!(is_same, "{name} {value}: {found}");
    }
}

#[tokio::test]
async fn tenants_and_roles_come_from_claims() {
    let provider = Provider::new();
    let (_dir, source) = file(&provider);
    let world = world(
        JwtConfig {
            tenant_claim: Some("org.slug".into()),
            role_claim: None,
            roles: BTreeMap::new(),
            default_role: Some(Role::Viewer),
            ..config()
        },
        source,
    );
    let header = json!({ "alg": "EdDSA", "kid": "ed" });
    let token = provider.token(&header, &claims(), "EdDSA");
    assert_eq!(
        ask(&world, &token).await,
        "403 The tenant is not known here."
    );
    world.auth.create_tenant("acme".into(), None).await.unwrap();
    assert_eq!(ask(&world, &token).await, "acme ada viewer");
    let mut none = claims();
    none["org"] = json!({});
    let token = provider.token(&header, &none, "EdDSA");
    assert_eq!(ask(&world, &token).await, "403 The token names no tenant.");
}

#[test]
fn only_public_key_algorithms_can_be_configured() {
    for good in ["RS256", "PS512", "ES384", "EdDSA"] {
        assert!(parse_algorithm(good).is_ok(), "{good}");
    }
    for bad in ["none", "None", "HS256", "HS512", "rs256", ""] {
        assert!(parse_algorithm(bad).is_err(), "{bad}");
    }
}

#[test]
fn tokens_that_nothing_restricts_are_refused() {
    let source = || KeySource::File("jwks.json".into());
    let keys = || KeySet::new(source(), Duration::from_secs(1)).unwrap();
    for wrong in [
        JwtConfig {
            issuer: String::new(),
            ..config()
        },
        JwtConfig {
            audience: vec![],
            ..config()
        },
        JwtConfig {
            algorithms: vec![],
            ..config()
        },
    ] {
        assert!(Tokens::new(wrong, keys()).is_err());
    }
}
