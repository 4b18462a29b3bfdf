//! Accounts and their tokens.

use std::net::IpAddr;

use agentflow_auth::{
    AuthConfig, Caller, Credentials, Means, Pair, Refusal, Registration, UserPatch,
};
use agentflow_storage::{account::User, page::PageQuery};
use agentflow_types::{Role, Scope, Value};

use super::{World, operator, why};

const PASSWORD: &str = "correct horse battery";

fn account(email: &str) -> Registration {
    Registration {
        title: "Ada".into(),
        email: email.into(),
        password: PASSWORD.into(),
    }
}

fn peer() -> Option<IpAddr> {
    Some("10.1.2.3".parse().unwrap())
}

fn told<T>(result: Result<T, Refusal>) -> String {
    result.err().map_or("let in".into(), why)
}

async fn signed(world: &World) -> (Pair, Caller) {
    let signed = world.auth.sign_in(None, "ada@x.y", PASSWORD, peer()).await;
    signed.unwrap_or_else(|refusal| panic!("{}", why(refusal)))
}

async fn first(world: &World) -> Pair {
    let made = world.auth.register(None, account("ada@x.y"), peer()).await;
    let (pair, caller) = made.unwrap_or_else(|refusal| panic!("{}", why(refusal)));
    assert_eq!(caller.role, Role::Admin);
    pair
}

#[tokio::test]
async fn the_first_account_is_an_administrator_and_there_is_no_second() {
    let world = World::new();
    assert!(world.auth.needs_setup().await.unwrap());
    let pair = first(&world).await;
    assert!(!world.auth.needs_setup().await.unwrap());
    let caller = world.ask(Credentials::Bearer(&pair.access)).await.unwrap();
    assert_eq!(caller.scope.principal(), "ada@x.y");
    assert!(matches!(caller.means, Means::Access { .. }));
    let again = world
        .auth
        .register(Some(&caller), account("eve@x.y"), peer());
    assert_eq!(
        told(again.await),
        "403 Registration is closed. An admin account already exists."
    );
}

#[tokio::test]
async fn of_many_first_registrations_one_is_let_through() {
    let world = World::new();
    let all = (0..5).map(|n| {
        let auth = world.auth.clone();
        tokio::spawn(async move {
            let made = auth.register(None, account(&format!("u{n}@x.y")), None);
            made.await.is_ok()
        })
    });
    let mut made = 0;
    for one in all.collect::<Vec<_>>() {
        made += usize::from(one.await.unwrap());
    }
    assert_eq!(made, 1);
    let page = PageQuery::default();
    let users = world.backend.users.search(&operator(), &page).await;
    assert_eq!(users.unwrap().total, 1);
}

#[tokio::test]
async fn nobody_registers_first_where_there_is_a_tenant() {
    let world = World::new();
    let tenant = world.auth.create_tenant("acme".into(), None);
    tenant.await.unwrap();
    let made = world.auth.register(None, account("eve@x.y"), peer()).await;
    assert!(told(made).starts_with("403 This server has keys already"));
}

#[tokio::test]
async fn what_a_provider_says_of_a_caller_makes_it_no_user() {
    let world = World::new();
    let pair = first(&world).await;
    let mut caller = world.ask(Credentials::Bearer(&pair.access)).await.unwrap();
    let user = world.auth.user_of(&caller).await.unwrap().unwrap();
    let said = [
        ("user_id".to_owned().into(), Value::str(user.user_id.text())),
        ("kind".to_owned().into(), Value::str("token")),
    ];
    let permissions = Role::User.permissions();
    caller.scope = Scope::authenticated("default", "eve", permissions, said.into());
    assert_eq!(world.auth.user_of(&caller).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_given_while_the_password_changed_is_not_believed() {
    let world = World::new();
    first(&world).await;
    let user = world.auth.user_named(&operator(), "ada@x.y").await.unwrap();
    let (pair, _) = signed(&world).await;
    // The change of another server, whose end of all sessions came before this sign-in was stored.
    let changed = User {
        password: Some("another hash".into()),
        ..user.clone()
    };
    let users = &world.backend.users;
    let stored = users.update(&operator(), changed, user.updated_at).await;
    assert!(stored.unwrap());
    let over = world.auth.refresh(&pair.refresh, peer()).await;
    assert_eq!(told(over), "401 Refresh token is no longer valid.");
    let over = world.ask(Credentials::Bearer(&pair.access)).await;
    assert_eq!(over.unwrap_err(), "401 Invalid or expired token.");
}

#[tokio::test]
async fn who_logs_out_gets_no_next_pair() {
    let world = World::new();
    first(&world).await;
    let (pair, other) = (signed(&world).await.0, signed(&world).await.0);
    let caller = world.ask(Credentials::Bearer(&pair.access)).await.unwrap();
    world.auth.logout(&caller).await.unwrap();
    assert!(world.ask(Credentials::Bearer(&pair.access)).await.is_err());
    assert!(world.auth.refresh(&pair.refresh, peer()).await.is_err());
    world.auth.refresh(&other.refresh, peer()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_shut_out_does_not_undo_it_with_a_change_of_its_own() {
    let world = World::new();
    let pair = first(&world).await;
    let caller = world.ask(Credentials::Bearer(&pair.access)).await.unwrap();
    let user = world.auth.user_of(&caller).await.unwrap().unwrap();
    let shut = UserPatch {
        enabled: Some(false),
        ..UserPatch::default()
    };
    let named = |n: usize| UserPatch {
        title: Some(format!("name {n}")),
        ..UserPatch::default()
    };
    let own = (0..20).map(|n| {
        let (auth, scope) = (world.auth.clone(), caller.scope.clone());
        tokio::spawn(async move { auth.update_user(&scope, user.user_id, named(n)).await })
    });
    let own: Vec<_> = own.collect();
    let root = operator();
    let shut = world.auth.update_user(&root, user.user_id, shut);
    shut.await.unwrap();
    for one in own {
        one.await.unwrap().ok();
    }
    let user = world.auth.user(&operator(), user.user_id).await.unwrap();
    assert!(!user.enabled);
    assert!(world.ask(Credentials::Bearer(&pair.access)).await.is_err());
}

#[tokio::test]
async fn a_stranger_registers_nowhere_where_somebody_has_a_key() {
    let world = World::new();
    let user = world.key(Role::User).await.secret;
    let admin = world.key(Role::Admin).await.secret;
    let register = |caller| {
        let auth = world.auth.clone();
        async move { auth.register(caller, account("ada@x.y"), None).await }
    };
    let shut = "403 This server has keys already: register with one that may make users.";
    assert_eq!(told(register(None).await), shut);
    let caller = world.ask(Credentials::Key(&user)).await.unwrap();
    assert_eq!(told(register(Some(&caller)).await), shut);
    let caller = world.ask(Credentials::Key(&admin)).await.unwrap();
    assert_eq!(told(register(Some(&caller)).await), "let in");
    let config = AuthConfig {
        bootstrap_key: Some("0123456789abcdef0123456789abcdef".into()),
        ..AuthConfig::default()
    };
    let world = World::with(config, None);
    let made = world.auth.register(None, account("ada@x.y"), None).await;
    assert_eq!(told(made), shut);
}

#[tokio::test]
async fn where_registration_is_not_open_a_key_makes_the_first_account() {
    let config = AuthConfig {
        open_registration: false,
        ..AuthConfig::default()
    };
    let world = World::with(config, None);
    let made = world.auth.register(None, account("eve@x.y"), None).await;
    assert!(told(made).starts_with("403 The first account is made with a key"));
    let admin = world.key(Role::Admin).await.secret;
    let caller = world.ask(Credentials::Key(&admin)).await.unwrap();
    let made = world.auth.register(Some(&caller), account("ada@x.y"), None);
    assert_eq!(told(made.await), "let in");
}

#[tokio::test]
async fn a_short_password_makes_no_account_and_shuts_nobody_out() {
    let world = World::new();
    let short = Registration {
        password: "short".into(),
        ..account("ada@x.y")
    };
    let refused = told(world.auth.register(None, short, None).await);
    assert!(refused.contains("at least 12 characters"), "{refused}");
    first(&world).await;
}

#[tokio::test]
async fn a_token_gets_one_next_pair() {
    let world = World::new();
    let pair = first(&world).await;
    let next = world.auth.refresh(&pair.refresh, peer()).await.unwrap();
    assert_ne!(next, pair);
    let again = world.auth.refresh(&pair.refresh, peer()).await;
    assert_eq!(told(again), "401 Refresh token is no longer valid.");
    let wrong = world.auth.refresh(&pair.access, peer()).await;
    assert_eq!(told(wrong), "401 Invalid token type.");
    let asked = world.ask(Credentials::Bearer(&next.refresh)).await;
    assert_eq!(asked.unwrap_err(), "401 Invalid API key.");
    let cookie = Credentials::Session {
        token: &next.access,
        csrf: None,
        changes: false,
    };
    assert!(world.ask(cookie).await.is_err(), "a token is no cookie");
    world.ask(Credentials::Bearer(&next.access)).await.unwrap();
}

#[tokio::test]
async fn tokens_end() {
    let world = World::new();
    let pair = first(&world).await;
    world.advance(30 * 60);
    let over = world.ask(Credentials::Bearer(&pair.access)).await;
    assert_eq!(over.unwrap_err(), "401 Invalid or expired token.");
    let pair = world.auth.refresh(&pair.refresh, peer()).await.unwrap();
    world.advance(30 * 86_400);
    let over = world.auth.refresh(&pair.refresh, peer()).await;
    assert_eq!(told(over), "401 Refresh token is no longer valid.");
}

#[tokio::test]
async fn a_new_password_ends_tokens_and_the_old_one_is_asked_for() {
    let world = World::new();
    let pair = first(&world).await;
    let caller = world.ask(Credentials::Bearer(&pair.access)).await.unwrap();
    let change = |current: &'static str, new: &'static str| {
        let (auth, caller) = (world.auth.clone(), caller.clone());
        async move {
            auth.change_password(&caller, current, new.into(), peer())
                .await
        }
    };
    let wrong = told(change("wrong password!", "another long password").await);
    assert_eq!(wrong, "401 Current password is incorrect.");
    let short = told(change(PASSWORD, "short").await);
    assert!(short.contains("at least 12"), "{short}");
    assert_eq!(
        told(change(PASSWORD, "another long password").await),
        "let in"
    );
    assert!(world.ask(Credentials::Bearer(&pair.access)).await.is_err());
    assert!(world.auth.refresh(&pair.refresh, peer()).await.is_err());
    let old = world.auth.sign_in(None, "ada@x.y", PASSWORD, peer()).await;
    assert_eq!(told(old), "401 Invalid email or password.");
    let new = world
        .auth
        .sign_in(None, "ada@x.y", "another long password", peer());
    assert_eq!(told(new.await), "let in");
}

#[tokio::test]
async fn guesses_are_counted() {
    let world = World::new();
    first(&world).await;
    for _ in 0..10 {
        let wrong = world
            .auth
            .sign_in(None, "ada@x.y", "wrong password", peer())
            .await;
        assert_eq!(told(wrong), "401 Invalid email or password.");
    }
    let late = told(world.auth.sign_in(None, "ada@x.y", PASSWORD, peer()).await);
    assert!(late.starts_with("429 "), "{late}");
}
