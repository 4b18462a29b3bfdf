//! Rates and quotas.

use agentflow_auth::{AuthConfig, Credentials, Limits};
use agentflow_types::{Role, Scope};

use crate::World;

fn limited(limits: Limits) -> World {
    let config = AuthConfig {
        limits,
        ..AuthConfig::default()
    };
    World::with(config, None)
}

#[tokio::test]
async fn requests_are_counted_by_key_and_by_tenant() {
    let world = limited(Limits {
        requests_per_minute: 3,
        tenant_requests_per_minute: 5,
        ..Limits::default()
    });
    let mut passed = Vec::new();
    for _ in 0..2 {
        let made = world.key(Role::User).await;
        let caller = world.ask(Credentials::Key(&made.secret)).await.unwrap();
        let mut granted = 0;
        for _ in 0..6 {
            granted += usize::from(world.auth.meter(&caller).await.unwrap().is_ok());
        }
        passed.push(granted);
    }
    // The second key finds two places left in the tenant.
    assert_eq!(passed, [3, 2]);
    let made = world.key(Role::User).await;
    let caller = world.ask(Credentials::Key(&made.secret)).await.unwrap();
    let refused = world.auth.meter(&caller).await.unwrap().unwrap_err();
    assert_eq!(refused.text, "Rate limit exceeded: 5 requests per minute.");
    assert_eq!(refused.retry_after.as_secs(), 12);
    world.advance(13);
    assert!(world.auth.meter(&caller).await.unwrap().is_ok());
}

#[tokio::test]
async fn runs_are_counted_by_day_and_at_once() {
    let world = limited(Limits {
        runs_per_day: 2,
        concurrent_runs: 4,
        ..Limits::default()
    });
    let (one, two) = (Scope::new("one", "a"), Scope::new("two", "a"));
    let admit = async |scope: &Scope, live| world.auth.admit_run(scope, live).await.unwrap();
    assert!(admit(&one, 4).await.unwrap_err().text.contains("4 runs"));
    assert!(admit(&one, 3).await.is_ok() && admit(&one, 0).await.is_ok());
    let refused = admit(&one, 0).await.unwrap_err();
    assert_eq!(refused.text, "Quota exceeded: 2 runs per day.");
    assert!(refused.retry_after.as_secs() <= 86_400 && refused.retry_after.as_secs() > 0);
    assert!(
        admit(&two, 0).await.is_ok(),
        "each tenant has its own quota"
    );
    world.advance(86_400);
    assert!(admit(&one, 0).await.is_ok());
}

#[tokio::test]
async fn streams_give_their_place_back() {
    let world = limited(Limits {
        open_streams: 2,
        ..Limits::default()
    });
    let scope = Scope::new("one", "a");
    let first = world.auth.open_stream(&scope).unwrap();
    let _second = world.auth.open_stream(&scope).unwrap();
    assert!(world.auth.open_stream(&scope).is_err());
    assert!(world.auth.open_stream(&Scope::new("two", "a")).is_ok());
    drop(first);
    assert!(world.auth.open_stream(&scope).is_ok());
}
