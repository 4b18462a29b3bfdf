//! Who may give what to whom.

use agentflow_auth::{NewKey, NewUser, UserPatch, check_tenant};
use agentflow_storage::{audit::AuditQuery, page::PageQuery};
use agentflow_types::{ErrorKind, Map, Role, Scope};

use crate::{World, operator};

fn admin() -> Scope {
    let permissions = Role::Admin.permissions();
    Scope::authenticated("default", "boss", permissions, Map::new())
}

fn key(role: Role) -> NewKey {
    NewKey {
        memories: None,
        name: "k".into(),
        principal: None,
        role,
        scopes: None,
        expires_at: None,
        tenant: None,
    }
}

fn user(name: &str, role: Role) -> NewUser {
    NewUser {
        title: String::new(),
        name: name.into(),
        password: "correct horse battery".into(),
        role,
        tenant: None,
    }
}

#[tokio::test]
async fn nobody_gives_more_than_he_has() {
    let (world, admin, operator) = (World::new(), admin(), operator());
    for role in [Role::Viewer, Role::User, Role::Admin] {
        world.auth.create_key(&admin, key(role)).await.unwrap();
    }
    let more = world.auth.create_key(&admin, key(Role::Operator)).await;
    assert_eq!(more.unwrap_err().kind(), ErrorKind::Denied);
    let more = world.auth.create_user(&admin, user("root", Role::Operator));
    assert_eq!(more.await.unwrap_err().kind(), ErrorKind::Denied);

    // Nor does he take it from who has more, or make somebody more.
    let root = world
        .auth
        .create_user(&operator, user("root", Role::Operator));
    let root = root.await.unwrap().user_id;
    let strong = world.auth.create_key(&operator, key(Role::Operator)).await;
    let denied = world.auth.revoke_key(&admin, strong.unwrap().key.key_id);
    assert_eq!(denied.await.unwrap_err().kind(), ErrorKind::Denied);
    let denied = world.auth.delete_user(&admin, root).await;
    assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
    let weak = world.auth.create_user(&admin, user("ada", Role::User));
    let patch = UserPatch {
        role: Some(Role::Operator),
        ..UserPatch::default()
    };
    let denied = world
        .auth
        .update_user(&admin, weak.await.unwrap().user_id, patch);
    assert_eq!(denied.await.unwrap_err().kind(), ErrorKind::Denied);
    let patch = UserPatch {
        password: Some("correct horse battery".into()),
        ..UserPatch::default()
    };
    let denied = world.auth.update_user(&admin, root, patch).await;
    assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn bad_names_passwords_and_times_are_refused() {
    let (world, operator) = (World::new(), operator());
    for name in ["", " ", "a\nb", "a\0b", &"x".repeat(201)] {
        let refused = world.auth.create_user(&operator, user(name, Role::User));
        assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Unprocessable);
        let refused = NewKey {
            memories: None,
            name: name.into(),
            ..key(Role::User)
        };
        let refused = world.auth.create_key(&operator, refused).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unprocessable);
    }
    for password in ["", "too short", &"x".repeat(1025)] {
        let refused = NewUser {
            title: String::new(),
            password: password.into(),
            ..user("ada", Role::User)
        };
        let refused = world.auth.create_user(&operator, refused).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unprocessable);
    }
    let past = NewKey {
        memories: None,
        expires_at: Some(world.auth_now(0)),
        ..key(Role::User)
    };
    let refused = world.auth.create_key(&operator, past).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unprocessable);
    for name in ["", "Acme", "a b", "a/b", "ä", "@tenant", &"x".repeat(65)] {
        assert!(check_tenant(name).is_err(), "{name}");
    }
    for name in ["acme", "a-b_c.d", "0"] {
        assert!(check_tenant(name).is_ok(), "{name}");
    }
}

#[tokio::test]
async fn the_log_takes_any_text() {
    let world = World::new();
    let long = "ä".repeat(600);
    let scope = Scope::new("default", "nul \0");
    let noted = world.auth.record(&scope, "a", &long, "id", "ok");
    noted.await.unwrap();
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let found = world.auth.audit(&scope, &query).await.unwrap();
    assert_eq!(found.items[0].target, "ä".repeat(250));
    assert_eq!(found.items[0].principal, "nul \u{fffd}");
}

#[tokio::test]
async fn tenants_are_listed_and_change() {
    let world = World::new();
    world
        .auth
        .create_tenant("acme".into(), Some("Acme Inc".into()))
        .await
        .unwrap();
    let again = world.auth.create_tenant("acme".into(), None).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    let changed = world.auth.update_tenant("acme", Some("Acme".into()), None);
    assert_eq!(changed.await.unwrap().title, "Acme");
    let found = world.auth.tenants(&PageQuery::default()).await.unwrap();
    assert_eq!((found.total, found.items[0].tenant.as_str()), (1, "acme"));
    let missing = world.auth.update_tenant("other", None, Some(true)).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}
