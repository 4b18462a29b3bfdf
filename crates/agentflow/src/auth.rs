//! The configuration's authentication, put together.

use std::{sync::Arc, time::Duration};

use agentflow_auth::{
    Auth, AuthConfig, JwtConfig, KeySet, KeySource, Limits, Tokens, parse_algorithm,
};
use agentflow_server::{AppState, Cors, Doors, Secure, Security, Tls, TlsFiles};
use agentflow_storage::Backend;
use agentflow_types::{Result, SystemClock};

use crate::{
    config::{Config, JwtSection, Profile},
    database,
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Lets callers in as the configuration says.
///
/// # Errors
/// `Invalid` for a secret that cannot be read, or tokens that nothing restricts.
pub(crate) fn open(config: &Config, backend: Backend) -> Result<Arc<Auth>> {
    let auth = &config.auth;
    let bootstrap_key = match (
        auth.bootstrap_key.is_empty(),
        auth.bootstrap_key_file.as_os_str().is_empty(),
    ) {
        (false, _) => Some(auth.bootstrap_key.clone()),
        (true, false) => Some(database::secret(&auth.bootstrap_key_file)?),
        (true, true) => None,
    };
    let limits = &config.limits;
    let settings = AuthConfig {
        bootstrap_key,
        // Who reaches a production server first need not be who owns it.
        open_registration: config.profile != Profile::Production,
        cache: Duration::from_secs(auth.cache_seconds),
        session_idle: Duration::from_secs(auth.session_idle_minutes.saturating_mul(60)),
        session_life: Duration::from_secs(auth.session_hours.saturating_mul(HOUR)),
        login_attempts: auth.login_attempts_per_minute,
        password_length: auth.password_min_length,
        audit_retention: Duration::from_secs(config.audit.retention_days.saturating_mul(DAY)),
        audit_entries: config.audit.max_entries,
        limits: Limits {
            requests_per_minute: limits.requests_per_minute,
            tenant_requests_per_minute: limits.tenant_requests_per_minute,
            concurrent_runs: limits.concurrent_runs,
            runs_per_day: limits.runs_per_day,
            open_streams: limits.open_streams,
        },
    };
    let tokens = tokens(&auth.jwt)?;
    Ok(Auth::new(backend, Arc::new(SystemClock), settings, tokens))
}

/// Tokens of an identity provider, if one is named.
fn tokens(jwt: &JwtSection) -> Result<Option<Tokens>> {
    if jwt.issuer.is_empty() {
        return Ok(None);
    }
    let source = if !jwt.jwks_file.as_os_str().is_empty() {
        KeySource::File(jwt.jwks_file.clone())
    } else if !jwt.jwks_url.is_empty() {
        KeySource::Url(jwt.jwks_url.clone())
    } else {
        KeySource::Issuer(jwt.issuer.clone())
    };
    let keys = KeySet::new(source, Duration::from_secs(jwt.refresh_seconds))?;
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let roles = jwt.roles.iter();
    let roles: Result<_> = roles
        .map(|(word, role)| Ok((word.clone(), role.parse()?)))
        .collect();
    let algorithms: Result<_> = jwt
        .algorithms
        .iter()
        .map(|name| parse_algorithm(name))
        .collect();
    let config = JwtConfig {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        algorithms: algorithms?,
        leeway_seconds: jwt.leeway_seconds,
        tenant_claim: some(&jwt.tenant_claim),
        principal_claim: jwt.principal_claim.clone(),
        role_claim: some(&jwt.role_claim),
        roles: roles?,
        default_role: some(&jwt.default_role)
            .map(|role| role.parse())
            .transpose()?,
    };
    Tokens::new(config, keys).map(Some)
}

/// What the banner says about who is let in.
///
/// # Errors
/// Errors of the backend.
pub(crate) async fn told(config: &Config, auth: &Auth) -> Result<String> {
    if !config.auth.is_on() {
        return Ok("off, loopback only".into());
    }
    if auth.anybody().await? {
        return Ok("on".into());
    }
    let first = match auth.config().open_registration {
        true => "the first to POST /auth/register is an administrator: do so, or ",
        false => "",
    };
    let text = format!(
        "nobody can be let in yet; {first}stop and run `agentflow keys create NAME --role \
        operator`, or set auth.bootstrap_key_file"
    );
    tracing::warn!("{text}");
    Ok(format!("on; {text}"))
}

/// Puts doors, headers and TLS around a server.
///
/// # Errors
/// `Invalid` for certificates that do not fit.
pub(crate) fn protect(config: &Config, state: AppState, auth: Arc<Auth>) -> Result<AppState> {
    let server = &config.server;
    let doors = match config.auth.is_on() {
        true => Doors::Guarded,
        false => Doors::Open,
    };
    let secure = match server.tls.is_on() || server.behind_tls {
        true => Secure::Yes,
        false => Secure::No,
    };
    let state = state.with_auth(auth, doors).with_security(Security {
        cors: Cors {
            origins: server.cors.origins.clone(),
            private_network: server.cors.private_network,
        },
        secure,
    });
    if !server.tls.is_on() {
        return Ok(state);
    }
    let client_ca = Some(server.tls.client_ca_file.clone());
    let tls = Tls::load(TlsFiles {
        cert: server.tls.cert_file.clone(),
        key: server.tls.key_file.clone(),
        client_ca: client_ca.filter(|path| !path.as_os_str().is_empty()),
    })?;
    Ok(state.with_tls(Arc::new(tls)))
}
