//! Tokens of an identity provider: checked, and read as tenant, principal and role.

use std::collections::BTreeMap;

use agentflow_types::{DEFAULT_TENANT, Error, Map, Result, Role, from_value};
use jsonwebtoken::{
    DecodingKey, Validation, decode, decode_header,
    errors::{Error as JwtError, ErrorKind},
    jwk::{AlgorithmParameters, Jwk},
};
use serde_json::Value;

use crate::{Refusal, jwks::KeySet, provider};

pub use jsonwebtoken::Algorithm;

/// Most bytes of a token.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Most keys that are tried for a token that names none.
const MAX_TRIES: usize = 16;

/// Names of algorithms that a token may be signed with: those of public keys.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The algorithm of a name.
///
/// # Errors
/// `Invalid` for any other: `none`, and those that check with the secret that signs.
pub fn parse_algorithm(name: &str) -> Result<Algorithm> {
    let found = ALGORITHMS.iter().find(|(known, _)| *known == name);
    found.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        let known: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
        Error::invalid(format!(
            "algorithm {name:?} is none of {}",
            known.join(", ")
        ))
    })
}

/// How tokens are checked and read. Claims are named by their path, with dots between.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// Who may have made it: `iss`.
    pub issuer: String,
    /// For whom it may be made: one of these must be in `aud`.
    pub audience: Vec<String>,
    /// How it may be signed.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ, in seconds.
    pub leeway_seconds: u64,
    /// Claim with the tenant; `None`: all are of the default tenant.
    pub tenant_claim: Option<String>,
    /// Claim with the principal's name.
    pub principal_claim: String,
    /// Claim with a word, words, or a text of words that stand for roles.
    pub role_claim: Option<String>,
    /// Role for each of these words.
    pub roles: BTreeMap<String, Role>,
    /// Role of who has none of them; `None`: not let in.
    pub default_role: Option<Role>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Tenant.
    pub tenant: String,
    /// Principal.
    pub principal: String,
    /// Role.
    pub role: Role,
    /// All claims, for graphs.
    pub all: Map,
}

/// Checks tokens.
pub struct Tokens {
    config: JwtConfig,
    keys: KeySet,
}

impl Tokens {
    /// With the keys of a provider.
    ///
    /// # Errors
    /// `Invalid` without issuer, audience or algorithms: a token that was made for somebody else
    /// must not open this server.
    pub fn new(config: JwtConfig, keys: KeySet) -> Result<Self> {
        let missing = |what: &'static str| Err(Error::invalid(what));
        if config.issuer.is_empty() {
            return missing("tokens need the name of their issuer");
        }
        if config.audience.is_empty() {
            return missing("tokens need an audience");
        }
        if config.algorithms.is_empty() {
            return missing("tokens need an algorithm");
        }
        provider::install();
        Ok(Self { config, keys })
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] for a token that is not good, [`Refusal::Denied`] for one whose
    /// holder has no role here.
    pub(crate) async fn read(&self, token: &str) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Unknown("The token is too long."));
        }
        let header = decode_header(token).map_err(|err| refusal(&err))?;
        if !self.config.algorithms.contains(&header.alg) {
            return Err(Refusal::Unknown("The token's algorithm is not accepted."));
        }
        if header.extras.inner().contains_key("crit") {
            return Err(Refusal::Unknown("The token has critical extensions."));
        }
        let candidates = self.keys.candidates(header.kid.as_deref()).await?;
        let mut last = Refusal::Unknown("The token's key is unknown.");
        let fitting = candidates.iter().filter(|key| fits(key, header.alg));
        for key in fitting.take(MAX_TRIES) {
            match self.check(token, header.alg, key) {
                Ok(claims) => return self.interpret(claims),
                Err(err) => last = refusal(&err),
            }
        }
        Err(last)
    }

    fn check(&self, token: &str, algorithm: Algorithm, key: &Jwk) -> Result<Value, JwtError> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.config.leeway_seconds;
        validation.validate_nbf = true;
        validation.set_audience(&self.config.audience);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let key = DecodingKey::from_jwk(key)?;
        Ok(decode::<Value>(token, &key, &validation)?.claims)
    }

    fn interpret(&self, claims: Value) -> Result<Claims, Refusal> {
        let config = &self.config;
        let text = |path: &str| claim(&claims, path).and_then(Value::as_str);
        let principal = text(&config.principal_claim)
            .filter(|name| !name.is_empty())
            .ok_or(Refusal::Unknown("The token names no principal."))?;
        let tenant = match &config.tenant_claim {
            None => DEFAULT_TENANT,
            Some(path) => text(path)
                .filter(|name| !name.is_empty())
                .ok_or_else(|| Refusal::Denied("The token names no tenant.".into()))?,
        };
        let words = config
            .role_claim
            .as_deref()
            .map_or_else(Vec::new, |path| words(claim(&claims, path)));
        let role = words
            .iter()
            .filter_map(|word| config.roles.get(*word))
            .max()
            .copied()
            .or(config.default_role)
            .ok_or_else(|| Refusal::Denied("The token gives no role on this server.".into()))?;
        Ok(Claims {
            tenant: tenant.to_owned(),
            principal: principal.to_owned(),
            role,
            all: map(&claims),
        })
    }
}

fn map(claims: &Value) -> Map {
    let value = agentflow_types::to_value(claims).unwrap_or_default();
    from_value::<agentflow_types::Value>(&value)
        .ok()
        .and_then(|value| value.as_map().cloned())
        .unwrap_or_default()
}

/// The claim at a path. A name that itself has dots (`https://example.com/tenant`) is found too.
fn claim<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    path.split('.')
        .try_fold(claims, |value, name| value.get(name))
}

/// The words of a claim: a list of texts, or one text with blanks between.
fn words(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

/// Whether a key may be used with an algorithm: it is of its kind, and for no other.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let named = key.common.key_algorithm.map(|own| own.to_string());
    let is_named = named.is_none_or(|own| ALGORITHMS.contains(&(own.as_str(), algorithm)));
    let of_kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), _) => ALGORITHMS[..6].iter().any(|(_, a)| *a == algorithm),
        (AlgorithmParameters::EllipticCurve(_), Algorithm::ES256 | Algorithm::ES384) => true,
        (AlgorithmParameters::OctetKeyPair(_), Algorithm::EdDSA) => true,
        _ => false,
    };
    is_named && of_kind
}

fn refusal(err: &JwtError) -> Refusal {
    Refusal::Unknown(match err.kind() {
        ErrorKind::ExpiredSignature => "The token has expired.",
        ErrorKind::ImmatureSignature => "The token is not valid yet.",
        ErrorKind::InvalidIssuer => "The token has another issuer.",
        ErrorKind::InvalidAudience => "The token is for another audience.",
        ErrorKind::InvalidSignature => "The token's signature is wrong.",
        ErrorKind::MissingRequiredClaim(_) => "The token lacks exp, iss or aud.",
        _ => "The token is malformed.",
    })
}
