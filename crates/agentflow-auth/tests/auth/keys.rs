//! API keys.

use agentflow_auth::{AuthConfig, Credentials, Means, NewKey};
use agentflow_types::{Permissions, Role, Scope};

use crate::{World, operator};

#[tokio::test]
async fn a_key_opens_in_every_place_where_clients_put_it() {
    let world = World::new();
    let made = world.key(Role::User).await;
    for shown in [
        Credentials::Key(&made.secret),
        Credentials::Bearer(&made.secret),
    ] {
        let caller = world.ask(shown).await.unwrap();
        assert_eq!(
            (caller.scope.tenant(), caller.scope.principal()),
            ("default", "ada")
        );
        assert_eq!(caller.scope.permissions(), Role::User.permissions());
        assert_eq!(caller.means, Means::Key(made.key.key_id));
    }
}

#[tokio::test]
async fn nothing_of_the_key_is_stored_but_its_hash_and_start() {
    let world = World::new();
    let made = world.key(Role::User).await;
    let (_, stored) = world
        .backend
        .keys
        .find(made.key.hash)
        .await
        .unwrap()
        .unwrap();
    let shown = format!("{stored:?}");
    assert!(!shown.contains(&made.secret) && !shown.contains(&made.secret[12..]));
    assert_eq!(stored.prefix, made.secret[..11]);
}

#[tokio::test]
async fn wrong_keys_are_nobody() {
    let world = World::new();
    let made = world.key(Role::User).await;
    let mut other = made.secret.clone();
    other.replace_range(45.., if other.ends_with('a') { "b" } else { "a" });
    for wrong in ["", "af_", "sk-123", &made.secret[..45], &other] {
        let refused = world.ask(Credentials::Key(wrong)).await;
        assert_eq!(refused.unwrap_err(), "401 Invalid API key.", "{wrong}");
        let refused = world.ask(Credentials::Bearer(wrong)).await;
        assert_eq!(refused.unwrap_err(), "401 Invalid API key.", "{wrong}");
    }
}

#[tokio::test]
async fn a_key_ends_when_it_is_revoked_or_its_time_is_over() {
    let world = World::new();
    let revoked = world.key(Role::User).await;
    let new = NewKey {
        memories: None,
        name: "short".into(),
        principal: None,
        role: Role::User,
        scopes: None,
        expires_at: Some(world.auth_now(60)),
        tenant: None,
    };
    let short = world.auth.create_key(&operator(), new).await.unwrap();
    for key in [&revoked, &short] {
        world.ask(Credentials::Key(&key.secret)).await.unwrap();
    }
    let id = revoked.key.key_id;
    world.auth.revoke_key(&operator(), id).await.unwrap();
    world.advance(61);
    let ask = async |secret: &str| world.ask(Credentials::Key(secret)).await.unwrap_err();
    assert_eq!(ask(&revoked.secret).await, "401 The API key was revoked.");
    assert_eq!(ask(&short.secret).await, "401 The API key has expired.");
}

#[tokio::test]
async fn scopes_bound_what_the_role_allows() {
    let world = World::new();
    let new = NewKey {
        memories: None,
        name: "reader".into(),
        principal: None,
        role: Role::Viewer,
        scopes: Some(Permissions::parse(["threads:*", "keys:write"]).unwrap()),
        expires_at: None,
        tenant: None,
    };
    let made = world.auth.create_key(&operator(), new).await.unwrap();
    let caller = world.ask(Credentials::Key(&made.secret)).await.unwrap();
    // A viewer's key cannot write, whatever its scopes say.
    assert_eq!(caller.scope.permissions().words(), ["threads:read"]);
}

#[tokio::test]
async fn keys_belong_to_tenants_that_are_open() {
    let world = World::new();
    let new = |tenant: &str| NewKey {
        memories: None,
        name: "k".into(),
        principal: None,
        role: Role::Admin,
        scopes: None,
        expires_at: None,
        tenant: Some(tenant.to_owned()),
    };
    let missing = world.auth.create_key(&operator(), new("acme")).await;
    assert!(missing.unwrap_err().message().contains("not found"));
    world.auth.create_tenant("acme".into(), None).await.unwrap();
    let made = world
        .auth
        .create_key(&operator(), new("acme"))
        .await
        .unwrap();
    let caller = world.ask(Credentials::Key(&made.secret)).await.unwrap();
    assert_eq!(caller.scope.tenant(), "acme");
    // An admin of a tenant stays in it.
    let admin = caller.scope;
    let other = world.auth.create_key(&admin, new("default")).await;
    assert!(other.unwrap_err().message().contains("another tenant"));
    let shut = world.auth.update_tenant("acme", None, Some(false));
    shut.await.unwrap();
    let refused = world.ask(Credentials::Key(&made.secret)).await;
    assert_eq!(refused.unwrap_err(), "403 The tenant is shut.");
}

#[tokio::test]
async fn the_bootstrap_key_is_an_operator_and_in_no_database() {
    let key = "0123456789abcdef0123456789abcdef";
    let config = AuthConfig {
        bootstrap_key: Some(key.into()),
        ..AuthConfig::default()
    };
    let world = World::with(config, None);
    for shown in [Credentials::Key(key), Credentials::Bearer(key)] {
        let caller = world.ask(shown).await.unwrap();
        assert_eq!(caller.scope.permissions(), Permissions::ALL);
    }
    let wrong = world.ask(Credentials::Key(&key[1..])).await;
    assert_eq!(wrong.unwrap_err(), "401 Invalid API key.");
    let page = agentflow_storage::page::PageQuery::default();
    let stored = world.backend.keys.search(&Scope::local(), &page).await;
    assert_eq!(stored.unwrap().total, 0);
}

impl World {
    /// A moment some seconds from now.
    pub fn auth_now(&self, seconds: u64) -> agentflow_types::Timestamp {
        use agentflow_types::Clock;
        self.clock
            .now()
            .plus(std::time::Duration::from_secs(seconds))
    }
}
