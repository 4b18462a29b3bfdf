//! Sessions of people in a browser.

use agentflow_auth::{Credentials, Login, LoginRequest, Signed, UserPatch};
use agentflow_types::Role;

use crate::{World, operator, why};

const PASSWORD: &str = "correct horse battery";

async fn login(world: &World, user: &str, password: &str) -> Result<Signed, String> {
    let login = Login {
        request: LoginRequest::Password {
            tenant: None,
            user,
            password,
        },
        peer: Some("10.0.0.1".parse().unwrap()),
    };
    world.auth.login(login).await.map_err(why)
}

fn session<'a>(token: &'a str, csrf: Option<&'a str>, changes: bool) -> Credentials<'a> {
    Credentials::Session {
        token,
        csrf,
        changes,
    }
}

#[tokio::test]
async fn a_session_reads_with_its_cookie_and_writes_with_its_second_token() {
    let world = World::new();
    world.user("ada", PASSWORD, Role::Admin).await;
    let signed = login(&world, "ada", PASSWORD).await.unwrap();
    let (token, csrf) = (signed.token.secret(), signed.csrf.as_str());
    let caller = world.ask(session(token, None, false)).await.unwrap();
    assert_eq!(caller.scope.principal(), "ada");
    assert_eq!(caller.scope.permissions(), Role::Admin.permissions());
    assert!(world.ask(session(token, Some(csrf), true)).await.is_ok());
    for wrong in [None, Some(""), Some("x"), Some(token)] {
        let refused = world.ask(session(token, wrong, true)).await.unwrap_err();
        assert!(refused.starts_with("403"), "{refused}");
    }
    let over = "401 The session is over.";
    let nobody = world.ask(session("", None, false)).await;
    assert_eq!(nobody.unwrap_err(), over);
    world.auth.logout(&caller).await.unwrap();
    let refused = world.ask(session(token, Some(csrf), true)).await;
    assert_eq!(refused.unwrap_err(), over);
}

#[tokio::test]
async fn wrong_names_and_wrong_passwords_sound_alike() {
    let world = World::new();
    world.user("ada", PASSWORD, Role::User).await;
    for (user, password) in [
        ("ada", "wrong"),
        ("ada", ""),
        ("eve", PASSWORD),
        ("", PASSWORD),
        ("ada\0", PASSWORD),
        ("Ada", PASSWORD),
    ] {
        let refused = login(&world, user, password).await.unwrap_err();
        assert_eq!(refused, "401 Wrong user or password.", "{user} {password}");
    }
}

#[tokio::test]
async fn too_many_attempts_wait_for_their_account_and_their_address() {
    let world = World::new();
    world.user("ada", PASSWORD, Role::User).await;
    for _ in 0..10 {
        login(&world, "ada", "wrong").await.unwrap_err();
    }
    // Also with the right password: nobody learns whether it was.
    let refused = login(&world, "ada", PASSWORD).await.unwrap_err();
    assert_eq!(refused, "429 Too many attempts to log in. 6");
    world.advance(7);
    assert!(login(&world, "ada", PASSWORD).await.is_ok());
    let mut refused = 0;
    for n in 0..80 {
        let attempt = login(&world, &format!("user {n}"), "wrong").await;
        refused += usize::from(attempt.unwrap_err().starts_with("429"));
    }
    assert!((15..=35).contains(&refused), "{refused} of 80");
}

#[tokio::test]
async fn a_session_ends_unused_and_in_the_end() {
    let world = World::new();
    world.user("ada", PASSWORD, Role::User).await;
    let unused = login(&world, "ada", PASSWORD).await.unwrap();
    world.advance(8 * 3600 + 1);
    let refused = world.ask(session(unused.token.secret(), None, false)).await;
    assert!(refused.is_err());
    let used = login(&world, "ada", PASSWORD).await.unwrap();
    let mut lived = 0;
    while world
        .ask(session(used.token.secret(), None, false))
        .await
        .is_ok()
    {
        world.advance(6 * 3600);
        lived += 6;
        assert!(lived < 1000);
    }
    assert_eq!(lived, 7 * 24);
}

#[tokio::test]
async fn a_session_has_the_rights_of_this_moment() {
    let world = World::new();
    world.user("ada", PASSWORD, Role::User).await;
    let signed = login(&world, "ada", PASSWORD).await.unwrap();
    let token = signed.token.secret();
    let ada = world.auth.user_named(&operator(), "ada").await.unwrap();
    let patch = |role, enabled| UserPatch {
        title: None,
        role,
        enabled,
        password: None,
    };
    let demoted = patch(Some(Role::Viewer), None);
    world
        .auth
        .update_user(&operator(), ada.user_id, demoted)
        .await
        .unwrap();
    let caller = world.ask(session(token, None, false)).await.unwrap();
    assert_eq!(caller.scope.permissions(), Role::Viewer.permissions());
    let shut = patch(None, Some(false));
    world
        .auth
        .update_user(&operator(), ada.user_id, shut)
        .await
        .unwrap();
    assert!(world.ask(session(token, None, false)).await.is_err());
    assert!(login(&world, "ada", PASSWORD).await.is_err());
    // Let in again, the old session is still over.
    let open = patch(None, Some(true));
    world
        .auth
        .update_user(&operator(), ada.user_id, open)
        .await
        .unwrap();
    assert!(world.ask(session(token, None, false)).await.is_err());
}

#[tokio::test]
async fn a_session_of_a_key_ends_with_the_key() {
    let world = World::new();
    let made = world.key(Role::Admin).await;
    let login = Login {
        request: LoginRequest::Key(&made.secret),
        peer: None,
    };
    let signed = world.auth.login(login).await.unwrap();
    let token = signed.token.secret();
    let caller = world.ask(session(token, None, false)).await.unwrap();
    assert_eq!(caller.scope.principal(), "ada");
    world
        .auth
        .revoke_key(&operator(), made.key.key_id)
        .await
        .unwrap();
    let refused = world.ask(session(token, None, false)).await.unwrap_err();
    assert_eq!(refused, "401 The API key was revoked.");
    let login = Login {
        request: LoginRequest::Key(&made.secret),
        peer: None,
    };
    assert!(world.auth.login(login).await.is_err());
}
