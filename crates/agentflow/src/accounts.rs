//! Commands about who may use a server: `keys`, `users`, `tenants`, `audit`.
//!
//! They open the database themselves. A server on the embedded database keeps them out; there,
//! the same is done over HTTP.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use agentflow_auth::{Auth, NewKey, NewUser, UserPatch};
use agentflow_storage::{
    account::{ApiKey, Tenant, User},
    audit::{AuditQuery, Entry},
    page::{MAX_LIMIT, Page, PageQuery},
};
use agentflow_types::{
    Clock, DEFAULT_TENANT, Error, ErrorKind, KeyId, Map, MemoryScope, Permissions, Result, Role,
    Scope, SystemClock,
};
use clap::{Args, Subcommand};

use crate::{app::Keep, auth, config::Config, database, upkeep::Place};

/// Who acts on the command line.
const PRINCIPAL: &str = "cli";
/// Most bytes that are read as a password.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// Whose records.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Tenant.
    #[arg(long, default_value = DEFAULT_TENANT)]
    tenant: String,
    #[command(flatten)]
    place: Place,
}

/// API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key and print it. It is shown this once.
    Create {
        /// What people call it.
        name: String,
        /// `viewer`, `user`, `admin` or `operator`.
        #[arg(long, default_value = "user")]
        role: String,
        /// What of the role it may use, for example `threads:read`; may be repeated.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// The memories that it is limited to, as JSON: `{"user_id": "alice"}`. It opens nothing
        /// else then.
        #[arg(long)]
        memory_scope: Option<String>,
        /// Days until it ends; never if absent.
        #[arg(long)]
        days: Option<u64>,
        /// Who acts with it; the name if absent.
        #[arg(long)]
        principal: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// List the keys, without their secrets.
    List(Whose),
    /// Revoke a key.
    Revoke {
        /// Its id.
        key_id: String,
        #[command(flatten)]
        whose: Whose,
    },
}

/// Users.
#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Make a user; the password is read from a file or from standard input.
    Create {
        /// Login name.
        name: String,
        /// `viewer`, `user`, `admin` or `operator`.
        #[arg(long, default_value = "user")]
        role: String,
        /// File with the password.
        #[arg(long)]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        whose: Whose,
    },
    /// List the users.
    List(Whose),
    /// Set a user's password, from a file or from standard input; sessions end.
    Password {
        /// Login name.
        name: String,
        /// File with the password.
        #[arg(long)]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Shut a user out; sessions end.
    Disable {
        /// Login name.
        name: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Let a user in again.
    Enable {
        /// Login name.
        name: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Remove a user; sessions end.
    Delete {
        /// Login name.
        name: String,
        #[command(flatten)]
        whose: Whose,
    },
}

/// Tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenants {
    /// Make a tenant.
    Create {
        /// Name: lowercase letters, digits, `-`, `_`, `.`.
        name: String,
        /// What people call it.
        #[arg(long)]
        title: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List the tenants.
    List(Place),
    /// Shut a tenant: nobody of it is let in.
    Disable {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Open a tenant again.
    Enable {
        /// Its name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// A command about accounts.
#[derive(Debug)]
pub(crate) enum Command {
    /// About keys.
    Keys(Keys),
    /// About users.
    Users(Users),
    /// About tenants.
    Tenants(Tenants),
    /// Prints the newest entries of the log of changes.
    Audit(Whose),
}

impl Command {
    /// Where the database is.
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Keys(
                Keys::Create { whose, .. } | Keys::List(whose) | Keys::Revoke { whose, .. },
            )
            | Self::Users(
                Users::Create { whose, .. }
                | Users::List(whose)
                | Users::Password { whose, .. }
                | Users::Disable { whose, .. }
                | Users::Enable { whose, .. }
                | Users::Delete { whose, .. },
            )
            | Self::Audit(whose) => &whose.place,
            Self::Tenants(
                Tenants::Create { place, .. }
                | Tenants::List(place)
                | Tenants::Disable { place, .. }
                | Tenants::Enable { place, .. },
            ) => place,
        }
    }

    /// Does it and returns what to print.
    ///
    /// # Errors
    /// `Busy` if a server uses the embedded database; errors of what is done.
    pub(crate) async fn run(self, config: &Config) -> Result<String> {
        let database = database::open(config, Keep::OnDisk).await;
        let database = database.map_err(|err| match err.kind() {
            ErrorKind::Busy if !config.storage.is_remote() => Error::busy(
                "a server uses the database: stop it, or use its /admin routes with a key",
            )
            .source_err(err),
            _ => err,
        })?;
        let auth = auth::open(config, database.backend.clone())?;
        match self {
            Self::Keys(keys) => keys.run(&auth).await,
            Self::Users(users) => users.run(&auth).await,
            Self::Tenants(tenants) => tenants.run(&auth).await,
            Self::Audit(whose) => {
                let query = AuditQuery {
                    limit: MAX_LIMIT,
                    ..AuditQuery::default()
                };
                let found = auth.audit(&scope(&whose.tenant), &query).await?;
                Ok(lines(&found, audited))
            }
        }
    }
}

/// The command line may do everything for a tenant.
fn scope(tenant: &str) -> Scope {
    Scope::authenticated(tenant, PRINCIPAL, Permissions::ALL, Map::new())
}

async fn note(auth: &Auth, scope: &Scope, action: &str, target: &str) -> Result<()> {
    auth.record(scope, action, target, "", "ok").await
}

fn all() -> PageQuery {
    PageQuery {
        limit: MAX_LIMIT,
        ..PageQuery::default()
    }
}

impl Keys {
    async fn run(self, auth: &Arc<Auth>) -> Result<String> {
        match self {
            Self::Create {
                name,
                role,
                scopes,
                memory_scope,
                days,
                principal,
                whose,
            } => {
                let scopes = match scopes.is_empty() {
                    true => None,
                    false => Some(Permissions::parse(scopes.iter().map(String::as_str))?),
                };
                let life = days.map(|days| Duration::from_secs(days.saturating_mul(86_400)));
                let new = NewKey {
                    name,
                    principal,
                    role: role.parse()?,
                    scopes,
                    memories: memory_scope
                        .as_deref()
                        .map(MemoryScope::parse)
                        .transpose()?,
                    expires_at: life.map(|life| SystemClock.now().plus(life)),
                    tenant: Some(whose.tenant.clone()),
                };
                // The default tenant as maker, so that an unknown one is noticed.
                let made = auth.create_key(&scope(DEFAULT_TENANT), new).await?;
                let id = made.key.key_id.text();
                note(auth, &scope(&whose.tenant), "keys.create", &id).await?;
                Ok(made.secret)
            }
            Self::List(whose) => {
                let found = auth.keys(&scope(&whose.tenant), &all()).await?;
                Ok(lines(&found, key_line))
            }
            Self::Revoke { key_id, whose } => {
                let scope = scope(&whose.tenant);
                let id: KeyId = key_id.parse()?;
                auth.revoke_key(&scope, id).await?;
                note(auth, &scope, "keys.revoke", &key_id).await?;
                Ok(format!("revoked {key_id}"))
            }
        }
    }
}

impl Users {
    async fn run(self, auth: &Arc<Auth>) -> Result<String> {
        match self {
            Self::Create {
                name,
                role,
                password_file,
                whose,
            } => {
                let new = NewUser {
                    name: name.clone(),
                    title: String::new(),
                    password: password(password_file)?,
                    role: role.parse::<Role>()?,
                    tenant: Some(whose.tenant.clone()),
                };
                let made = auth.create_user(&scope(DEFAULT_TENANT), new).await?;
                let id = made.user_id.text();
                note(auth, &scope(&whose.tenant), "users.create", &id).await?;
                Ok(format!("created {name} ({id})"))
            }
            Self::List(whose) => {
                let found = auth.users(&scope(&whose.tenant), &all()).await?;
                Ok(lines(&found, user_line))
            }
            Self::Password {
                name,
                password_file,
                whose,
            } => {
                let patch = UserPatch {
                    password: Some(password(password_file)?),
                    ..UserPatch::default()
                };
                change(auth, &name, &whose, patch).await
            }
            Self::Disable { name, whose } => change(auth, &name, &whose, let_in(Some(false))).await,
            Self::Enable { name, whose } => change(auth, &name, &whose, let_in(Some(true))).await,
            Self::Delete { name, whose } => {
                let scope = scope(&whose.tenant);
                let user = auth.user_named(&scope, &name).await?;
                auth.delete_user(&scope, user.user_id).await?;
                note(auth, &scope, "users.delete", &user.user_id.text()).await?;
                Ok(format!("removed {name}"))
            }
        }
    }
}

fn let_in(enabled: Option<bool>) -> UserPatch {
    UserPatch {
        enabled,
        ..UserPatch::default()
    }
}

async fn change(auth: &Auth, name: &str, whose: &Whose, patch: UserPatch) -> Result<String> {
    let scope = scope(&whose.tenant);
    let user = auth.user_named(&scope, name).await?;
    let changed = auth.update_user(&scope, user.user_id, patch).await?;
    note(auth, &scope, "users.update", &user.user_id.text()).await?;
    Ok(user_line(&changed))
}

impl Tenants {
    async fn run(self, auth: &Arc<Auth>) -> Result<String> {
        let scope = scope(DEFAULT_TENANT);
        match self {
            Self::Create { name, title, .. } => {
                auth.create_tenant(name.clone(), title).await?;
                note(auth, &scope, "tenants.create", &name).await?;
                Ok(format!("created {name}"))
            }
            Self::List(_) => Ok(lines(&auth.tenants(&all()).await?, tenant_line)),
            Self::Disable { name, .. } => shut(auth, &scope, &name, Some(false)).await,
            Self::Enable { name, .. } => shut(auth, &scope, &name, Some(true)).await,
        }
    }
}

async fn shut(auth: &Auth, scope: &Scope, name: &str, enabled: Option<bool>) -> Result<String> {
    let changed = auth.update_tenant(name, None, enabled).await?;
    note(auth, scope, "tenants.update", name).await?;
    Ok(tenant_line(&changed))
}

/// The password in a file, or on standard input; the line's end does not belong to it.
fn password(file: Option<PathBuf>) -> Result<String> {
    if let Some(path) = file {
        return database::secret(&path);
    }
    if std::io::stdin().is_terminal() {
        eprintln!("password (shown as you type it; better pipe it in): ");
    }
    let mut text = String::new();
    let read = std::io::stdin()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut text);
    read.map_err(|err| Error::invalid("the password cannot be read").source_err(err))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn lines<T>(page: &Page<T>, line: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = page.items.iter().map(line).collect();
    match page.total > page.items.len() as u64 {
        true => format!(
            "{}\n… and {} more",
            shown.join("\n"),
            page.total - page.items.len() as u64
        ),
        false => shown.join("\n"),
    }
}

fn key_line(key: &ApiKey) -> String {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(end)) if !key.is_live(SystemClock.now()) => format!("expired {end}"),
        (None, Some(end)) => format!("until {end}"),
        (None, None) => "no end".to_owned(),
    };
    let scopes = key
        .scopes
        .map_or("all".into(), |scopes| scopes.words().join(","));
    let memories = key
        .memories
        .as_ref()
        .map_or(String::new(), |limit| format!("  memories {limit}"));
    format!(
        "{}  {}…  {}  role {}  scopes {scopes}{memories}  {state}",
        key.key_id, key.prefix, key.name, key.role
    )
}

fn user_line(user: &User) -> String {
    let state = if user.enabled { "enabled" } else { "disabled" };
    format!(
        "{}  {}  role {}  {state}",
        user.user_id, user.name, user.role
    )
}

fn tenant_line(tenant: &Tenant) -> String {
    let state = if tenant.enabled { "open" } else { "shut" };
    format!("{}  {}  {state}", tenant.tenant, tenant.title)
}

fn audited(entry: &Entry) -> String {
    format!(
        "{}  {}  {}  {}  {}",
        entry.at, entry.principal, entry.action, entry.target, entry.outcome
    )
}
