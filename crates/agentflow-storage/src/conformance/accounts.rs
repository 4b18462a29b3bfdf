//! Cases of [`crate::account::Tenants`], [`crate::account::Users`] and [`crate::account::Keys`].

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    KeyId, MemoryScope, Permission, Permissions, Result, Role, Scope, UserId,
};
use uuid::Uuid;

use super::{
    refused,
    sample::{at, stranger},
    suite,
};
use crate::{
    Backend,
    account::{ApiKey, KeyHash, Tenant, User},
    page::{Order, PageQuery},
};

suite! {
    ($)
    /// Instantiates the cases of the ports of accounts.
    account_conformance:
    a_tenant_is_read_back_and_changed,
    tenants_come_in_pages,
    a_user_is_read_back_and_changed,
    user_names_are_unique_within_a_tenant,
    strangers_see_no_users,
    users_come_in_pages,
    a_key_is_read_back,
    a_key_is_found_by_its_hash_in_any_tenant,
    a_revoked_key_keeps_its_first_time,
    strangers_neither_see_nor_revoke_keys,
    the_last_use_of_a_key_only_moves_on,
    keys_come_in_pages,
}

fn tenant(name: &str, n: i64) -> Tenant {
    Tenant {
        tenant: name.into(),
        title: format!("Title of {name}"),
        enabled: true,
        created_at: at(n),
        updated_at: at(n),
    }
}

fn user(n: u8, name: &str) -> User {
    User {
        user_id: UserId(Uuid::from_u128(u128::from(n) + (5 << 64))),
        name: name.into(),
        title: String::new(),
        password: Some("$argon2id$v=19$hash".into()),
        role: Role::User,
        enabled: true,
        created_at: at(n.into()),
        updated_at: at(n.into()),
    }
}

fn key(n: u8, name: &str) -> ApiKey {
    ApiKey {
        key_id: KeyId(Uuid::from_u128(u128::from(n) + (6 << 64))),
        name: name.into(),
        principal: format!("holder of {name}"),
        prefix: "af_abcdefgh".into(),
        hash: KeyHash::of(&format!("secret {n}")),
        role: Role::Admin,
        scopes: None,
        memories: None,
        created_at: at(n.into()),
        created_by: "ada".into(),
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
    }
}

fn page(sort_by: &str, order: Order, limit: u32, offset: u64) -> PageQuery {
    PageQuery {
        limit,
        offset,
        sort_by: sort_by.into(),
        order,
    }
}

/// Every field; a change keeps the time of creation.
pub async fn a_tenant_is_read_back_and_changed(backend: Backend) -> Result<()> {
    let tenants = &backend.tenants;
    assert_eq!(tenants.get("acme").await?, None);
    tenants.insert(tenant("acme", 1)).await?;
    refused(tenants.insert(tenant("acme", 2)).await, Conflict);
    assert_eq!(tenants.get("acme").await?, Some(tenant("acme", 1)));
    assert_eq!(tenants.get("Acme").await?, None);
    let changed = Tenant {
        title: "Zoë \u{1F600}".into(),
        enabled: false,
        updated_at: at(9),
        ..tenant("acme", 1)
    };
    let sent = Tenant {
        created_at: at(8),
        ..changed.clone()
    };
    assert!(tenants.update(sent).await?);
    assert_eq!(tenants.get("acme").await?, Some(changed));
    assert!(!tenants.update(tenant("other", 1)).await?);
    Ok(())
}

/// By both columns, in both directions.
pub async fn tenants_come_in_pages(backend: Backend) -> Result<()> {
    for (name, n) in [("b", 1), ("a", 2), ("c", 2)] {
        backend.tenants.insert(tenant(name, n)).await?;
    }
    for (page, want) in [
        (page("tenant", Order::Ascending, 2, 0), "ab"),
        (page("tenant", Order::Descending, 9, 1), "ba"),
        (page("created_at", Order::Descending, 9, 0), "cab"),
        (page("created_at", Order::Ascending, 9, 0), "bac"),
    ] {
        let found = backend.tenants.search(&page).await?;
        let names: String = found.items.iter().map(|row| row.tenant.as_str()).collect();
        assert_eq!((names.as_str(), found.total), (want, 3), "{page:?}");
    }
    let wrong = page("title", Order::Ascending, 1, 0);
    refused(backend.tenants.search(&wrong).await, Invalid);
    Ok(())
}

/// Every field; name and time of creation stay.
pub async fn a_user_is_read_back_and_changed(backend: Backend) -> Result<()> {
    let (users, scope) = (&backend.users, Scope::local());
    let first = user(1, "ada");
    users.insert(&scope, first.clone()).await?;
    assert_eq!(users.get(&scope, first.user_id).await?, Some(first.clone()));
    assert_eq!(users.named(&scope, "ada").await?, Some(first.clone()));
    assert_eq!(users.named(&scope, "Ada").await?, None);
    let changed = User {
        title: "Zoë \u{1F600}".into(),
        password: None,
        role: Role::Operator,
        enabled: false,
        updated_at: at(5),
        ..first.clone()
    };
    let sent = User {
        name: "eve".into(),
        created_at: at(7),
        ..changed.clone()
    };
    let (seen, other) = (first.updated_at, user(2, "bob"));
    assert!(!users.update(&scope, sent.clone(), at(4)).await?);
    assert_eq!(users.get(&scope, first.user_id).await?, Some(first.clone()));
    assert!(users.update(&scope, sent.clone(), seen).await?);
    assert_eq!(users.get(&scope, first.user_id).await?, Some(changed));
    assert!(!users.update(&scope, sent, seen).await?, "it changed");
    assert!(
        !users
            .update(&scope, other.clone(), other.updated_at)
            .await?
    );
    assert!(users.delete(&scope, first.user_id).await?);
    assert!(!users.delete(&scope, first.user_id).await?);
    assert_eq!(users.named(&scope, "ada").await?, None);
    Ok(())
}

/// Two tenants may each have an `ada`.
pub async fn user_names_are_unique_within_a_tenant(backend: Backend) -> Result<()> {
    let (users, scope) = (&backend.users, Scope::local());
    users.insert(&scope, user(1, "ada")).await?;
    refused(users.insert(&scope, user(2, "ada")).await, Conflict);
    refused(users.insert(&scope, user(1, "bob")).await, Conflict);
    refused(users.insert(&stranger(), user(1, "bob")).await, Conflict);
    users.insert(&stranger(), user(3, "ada")).await?;
    let theirs = users.named(&stranger(), "ada").await?;
    assert_eq!(theirs.map(|row| row.user_id), Some(user(3, "").user_id));
    Ok(())
}

/// Not by id, not by name, and they change nothing.
pub async fn strangers_see_no_users(backend: Backend) -> Result<()> {
    let (users, other) = (&backend.users, stranger());
    let mine = user(1, "ada");
    users.insert(&Scope::local(), mine.clone()).await?;
    assert_eq!(users.get(&other, mine.user_id).await?, None);
    assert_eq!(users.named(&other, "ada").await?, None);
    assert!(!users.update(&other, mine.clone(), mine.updated_at).await?);
    assert!(!users.delete(&other, mine.user_id).await?);
    let found = users.search(&other, &PageQuery::default()).await?;
    assert_eq!((found.items.len(), found.total), (0, 0));
    let still = users.get(&Scope::local(), mine.user_id).await?;
    assert_eq!(still, Some(mine));
    Ok(())
}

/// By both columns, in both directions.
pub async fn users_come_in_pages(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    for (n, name) in [(1, "b"), (2, "a"), (3, "c")] {
        backend.users.insert(&scope, user(n, name)).await?;
    }
    for (page, want) in [
        (page("name", Order::Ascending, 2, 1), "bc"),
        (page("name", Order::Descending, 1, 0), "c"),
        (page("created_at", Order::Descending, 9, 0), "cab"),
        (page("created_at", Order::Ascending, 9, 0), "bac"),
    ] {
        let found = backend.users.search(&scope, &page).await?;
        let names: String = found.items.iter().map(|row| row.name.as_str()).collect();
        assert_eq!((names.as_str(), found.total), (want, 3), "{page:?}");
    }
    let wrong = page("role", Order::Ascending, 1, 0);
    refused(backend.users.search(&scope, &wrong).await, Invalid);
    Ok(())
}

/// Every field, set and unset.
pub async fn a_key_is_read_back(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let bare = key(1, "bare");
    let full = ApiKey {
        role: Role::Viewer,
        scopes: Some(Permissions::from_iter([
            Permission::ThreadsRead,
            Permission::RunsWrite,
        ])),
        memories: Some(MemoryScope::parse(
            r#"{"user_id":"Zoë","metadata":{"team":"red","n":3}}"#,
        )?),
        expires_at: Some(at(100)),
        last_used_at: Some(at(50)),
        revoked_at: Some(at(60)),
        ..key(2, "full")
    };
    let nothing = ApiKey {
        scopes: Some(Permissions::NONE),
        ..key(3, "nothing")
    };
    for key in [bare, full, nothing] {
        backend.keys.insert(&scope, key.clone()).await?;
        assert_eq!(backend.keys.get(&scope, key.key_id).await?, Some(key));
    }
    let same_id = ApiKey {
        hash: KeyHash::of("another"),
        ..key(1, "again")
    };
    refused(backend.keys.insert(&scope, same_id).await, Conflict);
    let same_hash = ApiKey {
        key_id: key(9, "").key_id,
        ..key(1, "again")
    };
    refused(backend.keys.insert(&stranger(), same_hash).await, Conflict);
    Ok(())
}

/// The tenant comes with it.
pub async fn a_key_is_found_by_its_hash_in_any_tenant(backend: Backend) -> Result<()> {
    let (scope, other) = (Scope::local(), stranger());
    backend.keys.insert(&scope, key(1, "a")).await?;
    backend.keys.insert(&other, key(2, "b")).await?;
    for (n, name, owner) in [(1, "a", &scope), (2, "b", &other)] {
        let found = backend.keys.find(key(n, name).hash).await?;
        assert_eq!(found, Some((owner.tenant().to_owned(), key(n, name))));
    }
    assert_eq!(backend.keys.find(KeyHash::of("nobody's")).await?, None);
    Ok(())
}

/// Who revokes it again does not change when it was revoked.
pub async fn a_revoked_key_keeps_its_first_time(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let one = key(1, "a");
    backend.keys.insert(&scope, one.clone()).await?;
    assert!(backend.keys.revoke(&scope, one.key_id, at(10)).await?);
    assert!(backend.keys.revoke(&scope, one.key_id, at(20)).await?);
    let found = backend.keys.get(&scope, one.key_id).await?;
    assert_eq!(found.and_then(|key| key.revoked_at), Some(at(10)));
    assert!(
        !backend
            .keys
            .revoke(&scope, key(2, "").key_id, at(1))
            .await?
    );
    Ok(())
}

/// Not by id, not in a page.
pub async fn strangers_neither_see_nor_revoke_keys(backend: Backend) -> Result<()> {
    let (scope, other) = (Scope::local(), stranger());
    let one = key(1, "a");
    backend.keys.insert(&scope, one.clone()).await?;
    assert_eq!(backend.keys.get(&other, one.key_id).await?, None);
    assert!(!backend.keys.revoke(&other, one.key_id, at(10)).await?);
    let found = backend.keys.search(&other, &PageQuery::default()).await?;
    assert_eq!((found.items.len(), found.total), (0, 0));
    assert_eq!(backend.keys.get(&scope, one.key_id).await?, Some(one));
    Ok(())
}

/// Several at once, of any tenant; an earlier time than the known one is passed over.
pub async fn the_last_use_of_a_key_only_moves_on(backend: Backend) -> Result<()> {
    let (scope, other) = (Scope::local(), stranger());
    let (one, two) = (key(1, "a"), key(2, "b"));
    backend.keys.insert(&scope, one.clone()).await?;
    backend.keys.insert(&other, two.clone()).await?;
    backend.keys.used(&[]).await?;
    let uses = [
        (one.key_id, at(10)),
        (two.key_id, at(20)),
        (one.key_id, at(15)),
        (key(3, "").key_id, at(1)),
    ];
    backend.keys.used(&uses).await?;
    backend.keys.used(&[(two.key_id, at(5))]).await?;
    let last = |found: Option<ApiKey>| found.and_then(|key| key.last_used_at);
    let first = backend.keys.get(&scope, one.key_id).await?;
    assert_eq!(last(first), Some(at(15)));
    let second = backend.keys.get(&other, two.key_id).await?;
    assert_eq!(last(second), Some(at(20)));
    Ok(())
}

/// By both columns, in both directions.
pub async fn keys_come_in_pages(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    for (n, name) in [(1, "b"), (2, "a"), (3, "c")] {
        backend.keys.insert(&scope, key(n, name)).await?;
    }
    for (page, want) in [
        (page("name", Order::Ascending, 2, 1), "bc"),
        (page("created_at", Order::Descending, 9, 0), "cab"),
    ] {
        let found = backend.keys.search(&scope, &page).await?;
        let names: String = found.items.iter().map(|row| row.name.as_str()).collect();
        assert_eq!((names.as_str(), found.total), (want, 3), "{page:?}");
    }
    let wrong = page("hash", Order::Ascending, 1, 0);
    refused(backend.keys.search(&scope, &wrong).await, Invalid);
    Ok(())
}
