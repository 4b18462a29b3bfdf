//! Sentinel with a failover, and a cluster of three nodes, all over TLS.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use agentflow_redis::{Access, Keeping, Options, Persistence, Redis};
use agentflow_storage::{
    Backend,
    conformance::{cache, checkpoints, counters, events, sessions, signals, threads},
    counter::Rate,
    memory::Memory,
};
use agentflow_testkit::{
    ports,
    servers::{
        certs::{Authority, Identity},
        redis::{self, ADMIN, ADMIN_PASSWORD, Address, Kind, Own},
    },
};
use agentflow_types::Timestamp;
use tempfile::TempDir;

/// How long servers may take to find each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long writes may fail after the primary died: what the sentinel needs to notice it, which
/// is set below, the election, and our longest pause.
const FAILOVER: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

struct Certificates {
    dir: TempDir,
    ca: Authority,
    server: Identity,
    client: Identity,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca").unwrap();
        Self {
            server: ca.server().unwrap(),
            client: ca.client("test").unwrap(),
            ca,
            dir,
        }
    }

    fn options(&self) -> redis::Options {
        // Servers show each other what they show clients, which is not good for a client here.
        redis::Options::default().tls(&self.server, &self.ca.pem(), None)
    }

    /// Nodes of a cluster always ask each other for a certificate that is good for clients.
    fn give_client(&self, own: &Own) {
        let place = |from: &Path, name: &str| {
            let to = own.folder().join(name);
            fs::copy(from, &to).unwrap();
            // The server is another user of the system.
            fs::set_permissions(&to, Permissions::from_mode(0o644)).unwrap();
            to.to_str().unwrap().to_owned()
        };
        let cert = place(&self.client.cert, "client.pem");
        let key = place(&self.client.key, "client.key");
        let set = [
            "CONFIG",
            "SET",
            "tls-client-cert-file",
            &cert,
            "tls-client-key-file",
            &key,
        ];
        assert_eq!(own.address().cli(&set).unwrap(), "OK");
    }

    fn access(&self, url: &str) -> Access {
        assert!(self.dir.path().exists());
        support::access(url, &self.ca.pem(), Some(&self.client))
    }
}

/// Asks a server until its answer holds the words.
async fn says(address: &Address, command: &[&str], words: &str) {
    let started = Instant::now();
    loop {
        let said = address.cli(command).unwrap_or_default();
        if said.contains(words) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{command:?}: {said}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn writes_work_again_after_a_failover() {
    let certificates = Certificates::new();
    let data = certificates
        .options()
        .acl(&support::users())
        .set("masteruser", ADMIN)
        .set("masterauth", ADMIN_PASSWORD)
        .set("repl-diskless-sync-delay", "0");
    let mut primary = Own::start(&data).unwrap();
    let port = primary.address().port;
    let replica = data.set("replicaof", &format!("127.0.0.1 {port}"));
    let replica = Own::start(&replica).unwrap();
    says(
        replica.address(),
        &["INFO", "replication"],
        "master_link_status:up",
    )
    .await;
    // It has no users of ours: the login is tried, and then none.
    let mut watch = certificates.options();
    watch.kind = Kind::Sentinel;
    let watch = watch
        .set("sentinel", &format!("monitor main 127.0.0.1 {port} 1"))
        .set("sentinel", &format!("auth-user main {ADMIN}"))
        .set("sentinel", &format!("auth-pass main {ADMIN_PASSWORD}"))
        .set("sentinel", "down-after-milliseconds main 1000")
        .set("sentinel", "failover-timeout main 10000");
    let sentinel = Own::start(&watch).unwrap();
    let known = replica.address().port.to_string();
    says(
        sentinel.address(),
        &["SENTINEL", "REPLICAS", "main"],
        &known,
    )
    .await;

    let dead = ports::free().unwrap();
    let url = format!(
        "rediss+sentinel://127.0.0.1:{dead},127.0.0.1:{}/main",
        sentinel.address().port
    );
    let options: Options = support::options(certificates.access(&url));
    let backend = Redis::open(options).await.unwrap().over(Memory::open());
    let rate = Rate {
        limit: 1000,
        period: Duration::from_secs(1000),
    };
    let take = || backend.counters.take("k", 1, rate, Timestamp(0));
    assert!(take().await.unwrap().is_granted());
    says(replica.address(), &["DBSIZE"], "1").await;

    primary.kill().unwrap();
    let started = Instant::now();
    while take().await.is_err() {
        assert!(started.elapsed() < FAILOVER, "writes fail for too long");
        tokio::time::sleep(PAUSE).await;
    }
    println!("writes worked again after {:?}", started.elapsed());
    says(replica.address(), &["ROLE"], "master").await;
}

/// Three nodes that share all slots.
async fn cluster(certificates: &Certificates) -> Vec<Own> {
    let node = || {
        let bus = ports::free().unwrap().to_string();
        let options = certificates
            .options()
            .acl(&support::users())
            .set("cluster-enabled", "yes")
            .set("cluster-port", &bus)
            .set("tls-cluster", "yes");
        let own = Own::start(&options).unwrap();
        certificates.give_client(&own);
        (own, bus)
    };
    let nodes = [node(), node(), node()];
    let first = nodes[0].0.address();
    for ((own, bus), slots) in nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
        let (from, to) = (slots.0.to_string(), slots.1.to_string());
        let port = own.address().port.to_string();
        let cli = |arguments: &[&str]| own.address().cli(arguments).unwrap();
        cli(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
        first
            .cli(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])
            .unwrap();
    }
    for (own, _) in &nodes {
        let address = own.address();
        says(address, &["CLUSTER", "INFO"], "cluster_state:ok").await;
        says(address, &["CLUSTER", "INFO"], "cluster_known_nodes:3").await;
    }
    nodes.into_iter().map(|(own, _)| own).collect()
}

/// Cases of the suites, one after the other, each with keys of its own.
macro_rules! all {
    ($open:expr, $($suite:ident: $($case:ident)*;)*) => {$($(
        $suite::$case($open.await).await.unwrap();
    )*)*};
}

#[tokio::test]
async fn a_cluster_holds_what_belongs_together() {
    let certificates = Certificates::new();
    let nodes = cluster(&certificates).await;
    let hosts: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.address().port))
        .collect();
    let url = format!("rediss+cluster://{}", hosts[..2].join(","));
    let open = async || -> Backend {
        let options = support::options(certificates.access(&url));
        Redis::open(options).await.unwrap().over(Memory::open())
    };
    all!(open(),
        sessions: a_session_is_read_back a_token_is_used_once a_touch_renews_the_idle_time
            a_deleted_session_is_gone a_principal_is_signed_out_everywhere;
        counters: a_full_bucket_gives_its_limit keys_are_apart takes_at_once_stay_within_the_limit
            spends_at_once_stay_within_the_quota what_was_not_used_is_given_back a_reset_forgets;
        cache: a_value_is_read_back entries_are_apart clearing_reaches_namespaces_below
            clearing_all_leaves_nothing what_is_put_after_a_clear_stays;
        signals: every_listener_hears_a_signal a_listener_hears_all_places;
        events: events_are_read_back the_last_number_never_falls;
        threads: deleting_a_thread_removes_everything;
    );
    let open = async || -> Backend {
        let options = support::options(certificates.access(&url));
        let redis = Redis::open(options).await.unwrap();
        redis.check_checkpoints().await.unwrap();
        assert_eq!(redis.persistence().await.unwrap(), Persistence::Memory);
        assert_eq!(redis.eviction().await.unwrap(), "noeviction");
        redis.keep_checkpoints(Memory::open(), Keeping::default())
    };
    all!(open(),
        checkpoints: what_is_put_is_read_back values_keep_their_types a_put_replaces
            the_newest_has_the_greatest_id namespaces_are_apart slots_are_special_or_positions
            writes_need_no_checkpoint list_is_newest_first list_compares_metadata_entries
            a_fence_must_hold a_commit_is_all_or_nothing a_thread_is_deleted_whole
            a_copy_is_independent runs_take_their_checkpoints_along
            pruning_keeps_the_newest_of_each_namespace pruning_can_remove_all
            what_a_thread_takes_is_told pruning_keeps_what_deltas_need large_values_are_kept;
        threads: rolling_back_removes_the_run_and_its_checkpoints
            deleting_a_thread_removes_everything;
    );
    let sizes = nodes
        .iter()
        .map(|node| node.address().cli(&["DBSIZE"]).unwrap());
    let sizes: Vec<u64> = sizes.map(|size| size.parse().unwrap()).collect();
    assert!(
        sizes.iter().all(|size| *size > 0),
        "keys are spread: {sizes:?}"
    );
}
