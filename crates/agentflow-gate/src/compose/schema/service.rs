//! A service and its parts.

use super::{
    ANY_TEXT, BOOL, FLAG, INT, INT_OR_TEXT, MapShape, NULL, NUMBER, NUMBER_OR_TEXT, ONLY_BOOL,
    ONLY_NUMBER, OPTIONS, Others, PAIRS, SCALAR, Shape, TEXT, TEXT_OR_SET, TEXT_SET, TEXTS,
    is_name, not_empty,
};

pub(super) static SERVICE: Shape = Shape::map(0, &SERVICE_MAP);
static SERVICE_MAP: MapShape = MapShape::of(&[
    ("develop", &DEVELOP),
    ("deploy", &DEPLOY),
    ("annotations", &PAIRS),
    ("attach", &FLAG),
    ("build", &BUILD),
    ("blkio_config", &BLKIO),
    ("cap_add", &TEXT_SET),
    ("cap_drop", &TEXT_SET),
    ("cgroup", &CGROUP),
    ("cgroup_parent", &ANY_TEXT),
    ("command", &COMMAND),
    ("configs", &FILE_MOUNTS),
    ("container_name", &CONTAINER_NAME),
    ("cpu_count", &CPU_COUNT),
    ("cpu_percent", &CPU_PERCENT),
    ("cpu_shares", &NUMBER_OR_TEXT),
    ("cpu_quota", &NUMBER_OR_TEXT),
    ("cpu_period", &NUMBER_OR_TEXT),
    ("cpu_rt_period", &NUMBER_OR_TEXT),
    ("cpu_rt_runtime", &NUMBER_OR_TEXT),
    ("cpus", &NUMBER_OR_TEXT),
    ("cpuset", &ANY_TEXT),
    ("credential_spec", &CREDENTIAL_SPEC),
    ("depends_on", &DEPENDS_ON),
    ("device_cgroup_rules", &TEXT_SET),
    ("devices", &DEVICES),
    ("dns", &TEXT_OR_SET),
    ("dns_opt", &TEXT_SET),
    ("dns_search", &TEXT_OR_SET),
    ("domainname", &ANY_TEXT),
    ("entrypoint", &COMMAND),
    ("env_file", &ENV_FILE),
    ("label_file", &TEXT_OR_TEXTS),
    ("environment", &PAIRS),
    ("expose", &NUMBER_OR_TEXT_SET),
    ("extends", &EXTENDS),
    ("provider", &PROVIDER),
    ("external_links", &TEXT_SET),
    ("extra_hosts", &EXTRA_HOSTS),
    ("gpus", &GPUS),
    ("group_add", &NUMBER_OR_TEXT_SET),
    ("healthcheck", &HEALTHCHECK),
    ("hostname", &ANY_TEXT),
    ("image", &ANY_TEXT),
    ("init", &FLAG),
    ("ipc", &ANY_TEXT),
    ("isolation", &ANY_TEXT),
    ("labels", &PAIRS),
    ("links", &TEXT_SET),
    ("logging", &LOGGING),
    ("mac_address", &ANY_TEXT),
    ("mem_limit", &NUMBER_OR_TEXT),
    ("mem_reservation", &INT_OR_TEXT),
    ("mem_swappiness", &INT_OR_TEXT),
    ("memswap_limit", &NUMBER_OR_TEXT),
    ("network_mode", &ANY_TEXT),
    ("models", &MODELS),
    ("networks", &NETWORKS),
    ("oom_kill_disable", &FLAG),
    ("oom_score_adj", &OOM_SCORE),
    ("pid", &TEXT_OR_NULL),
    ("pids_limit", &NUMBER_OR_TEXT),
    ("platform", &ANY_TEXT),
    ("ports", &PORTS),
    ("post_start", &HOOKS),
    ("pre_stop", &HOOKS),
    ("privileged", &FLAG),
    ("profiles", &TEXT_SET),
    ("pull_policy", &PULL_POLICY),
    ("pull_refresh_after", &ANY_TEXT),
    ("read_only", &FLAG),
    ("restart", &ANY_TEXT),
    ("runtime", &ANY_TEXT),
    ("scale", &INT_OR_TEXT),
    ("security_opt", &TEXT_SET),
    ("shm_size", &NUMBER_OR_TEXT),
    ("secrets", &FILE_MOUNTS),
    ("sysctls", &PAIRS),
    ("stdin_open", &FLAG),
    ("stop_grace_period", &ANY_TEXT),
    ("stop_signal", &ANY_TEXT),
    ("storage_opt", &FREE_MAP),
    ("tmpfs", &TEXT_OR_SET),
    ("tty", &FLAG),
    ("ulimits", &ULIMITS),
    ("use_api_socket", &ONLY_BOOL),
    ("user", &ANY_TEXT),
    ("uts", &ANY_TEXT),
    ("userns_mode", &ANY_TEXT),
    ("volumes", &VOLUMES),
    ("volumes_from", &TEXT_SET),
    ("working_dir", &ANY_TEXT),
]);

static CGROUP: Shape = Shape::words(&["host", "private"]);
static COMMAND: Shape = Shape::list(&ANY_TEXT).or(TEXT | NULL);
static TEXT_OR_TEXTS: Shape = Shape::list(&ANY_TEXT).or(TEXT);
static TEXT_OR_NULL: Shape = Shape::of(TEXT | NULL);
static NUMBER_OR_TEXT_SET: Shape = Shape::set(&NUMBER_OR_TEXT);
static FREE_MAP: Shape = Shape::map(0, &FREE_MAP_MAP);
static FREE_MAP_MAP: MapShape = MapShape::free();
static CPU_COUNT: Shape = Shape::of(TEXT | INT).within(0, i64::MAX);
static CPU_PERCENT: Shape = Shape::of(TEXT | INT).within(0, 100);
static OOM_SCORE: Shape = Shape::of(TEXT | INT).within(-1000, 1000);
static CONTAINER_NAME: Shape = Shape::of(TEXT).that(
    is_container_name,
    "a name of two or more letters, digits, dots, dashes or underscores",
);
static PULL_POLICY: Shape = Shape::of(TEXT).that(
    is_pull_policy,
    "always, never, build, if_not_present, missing, refresh, daily, weekly or every_<time>",
);

/// Docker looks for such a name anywhere in the text.
fn is_container_name(text: &str) -> bool {
    text.as_bytes().windows(2).any(|pair| {
        let next = pair[1].is_ascii_alphanumeric() || matches!(pair[1], b'.' | b'_' | b'-');
        pair[0].is_ascii_alphanumeric() && next
    })
}

/// Docker looks for such a word anywhere in the text.
fn is_pull_policy(text: &str) -> bool {
    let words = [
        "always",
        "never",
        "build",
        "if_not_present",
        "missing",
        "refresh",
        "daily",
        "weekly",
    ];
    words.iter().any(|word| text.contains(word))
        || text.match_indices("every_").any(|(at, word)| {
            let rest = &text.as_bytes()[at + word.len()..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            digits > 0 && matches!(rest.get(digits), Some(b'w' | b'd' | b'h' | b'm' | b's'))
        })
}

static BUILD: Shape = Shape::map(TEXT, &BUILD_MAP);
static BUILD_MAP: MapShape = MapShape::of(&[
    ("context", &ANY_TEXT),
    ("dockerfile", &ANY_TEXT),
    ("dockerfile_inline", &ANY_TEXT),
    ("entitlements", &TEXTS),
    ("args", &PAIRS),
    ("ssh", &PAIRS),
    ("labels", &PAIRS),
    ("cache_from", &TEXTS),
    ("cache_to", &TEXTS),
    ("no_cache", &FLAG),
    ("additional_contexts", &PAIRS),
    ("network", &ANY_TEXT),
    ("provenance", &FLAG),
    ("sbom", &FLAG),
    ("pull", &FLAG),
    ("target", &ANY_TEXT),
    ("shm_size", &INT_OR_TEXT),
    ("extra_hosts", &EXTRA_HOSTS),
    ("isolation", &ANY_TEXT),
    ("privileged", &FLAG),
    ("secrets", &FILE_MOUNTS),
    ("tags", &TEXTS),
    ("ulimits", &ULIMITS),
    ("platforms", &TEXTS),
]);

static BLKIO: Shape = Shape::map(0, &BLKIO_MAP);
static BLKIO_MAP: MapShape = MapShape::of(&[
    ("device_read_bps", &RATES),
    ("device_read_iops", &RATES),
    ("device_write_bps", &RATES),
    ("device_write_iops", &RATES),
    ("weight", &INT_OR_TEXT),
    ("weight_device", &WEIGHTS),
])
.closed();
static RATES: Shape = Shape::list(&RATE);
static RATE: Shape = Shape::map(0, &RATE_MAP);
static RATE_MAP: MapShape = MapShape::of(&[("path", &ANY_TEXT), ("rate", &INT_OR_TEXT)]).closed();
static WEIGHTS: Shape = Shape::list(&WEIGHT);
static WEIGHT: Shape = Shape::map(0, &WEIGHT_MAP);
static WEIGHT_MAP: MapShape =
    MapShape::of(&[("path", &ANY_TEXT), ("weight", &INT_OR_TEXT)]).closed();

static CREDENTIAL_SPEC: Shape = Shape::map(0, &CREDENTIAL_SPEC_MAP);
static CREDENTIAL_SPEC_MAP: MapShape = MapShape::of(&[
    ("config", &ANY_TEXT),
    ("file", &ANY_TEXT),
    ("registry", &ANY_TEXT),
]);

static DEPENDS_ON: Shape = Shape {
    map: Some(&DEPENDS_ON_MAP),
    ..Shape::set(&ANY_TEXT).or(super::MAP)
};
static DEPENDS_ON_MAP: MapShape = MapShape::named(is_name, &DEPENDENCY, true);
static DEPENDENCY: Shape = Shape::map(0, &DEPENDENCY_MAP);
static DEPENDENCY_MAP: MapShape = MapShape::of(&[
    ("restart", &FLAG),
    ("required", &ONLY_BOOL),
    ("condition", &CONDITION),
])
.required(&["condition"]);
static CONDITION: Shape = Shape::words(&[
    "service_started",
    "service_healthy",
    "service_completed_successfully",
]);

static DEVICES: Shape = Shape::list(&DEVICE);
static DEVICE: Shape = Shape::map(TEXT, &DEVICE_MAP);
static DEVICE_MAP: MapShape = MapShape::of(&[
    ("source", &ANY_TEXT),
    ("target", &ANY_TEXT),
    ("permissions", &ANY_TEXT),
])
.required(&["source"]);

static ENV_FILE: Shape = Shape::list(&ENV_FILE_ITEM).or(TEXT);
static ENV_FILE_ITEM: Shape = Shape::map(TEXT, &ENV_FILE_MAP);
static ENV_FILE_MAP: MapShape = MapShape::of(&[
    ("path", &ANY_TEXT),
    ("format", &ANY_TEXT),
    ("required", &FLAG),
])
.closed()
.required(&["path"]);

static EXTENDS: Shape = Shape::map(TEXT, &EXTENDS_MAP);
static EXTENDS_MAP: MapShape = MapShape::of(&[("service", &ANY_TEXT), ("file", &ANY_TEXT)])
    .closed()
    .required(&["service"]);

static PROVIDER: Shape = Shape::map(0, &PROVIDER_MAP);
static PROVIDER_MAP: MapShape =
    MapShape::of(&[("type", &ANY_TEXT), ("options", &PROVIDER_OPTIONS)]).required(&["type"]);
static PROVIDER_OPTIONS: Shape = Shape::map(0, &PROVIDER_OPTIONS_MAP);
static PROVIDER_OPTIONS_MAP: MapShape = MapShape::named(not_empty, &PROVIDER_OPTION, false);
static PROVIDER_OPTION: Shape = Shape::list(&SCALAR).or(TEXT | NUMBER | BOOL);

static EXTRA_HOSTS: Shape = Shape {
    map: Some(&EXTRA_HOSTS_MAP),
    ..Shape::set(&ANY_TEXT).or(super::MAP)
};
static EXTRA_HOSTS_MAP: MapShape = MapShape::named(not_empty, &TEXT_OR_TEXTS, true);

static GPUS: Shape = Shape {
    words: &["all"],
    ..Shape::list(&GPU).or(TEXT)
};
static GPU: Shape = Shape::map(0, &GPU_MAP);
/// Docker leaves keys that it does not know here unchecked.
static GPU_MAP: MapShape = MapShape {
    others: Others::Free,
    ..MapShape::of(DEVICE_REQUEST)
};
static DEVICE_REQUEST: &[(&str, &Shape)] = &[
    ("capabilities", &TEXT_SET),
    ("count", &INT_OR_TEXT),
    ("device_ids", &TEXT_SET),
    ("driver", &ANY_TEXT),
    ("options", &PAIRS),
];

static HEALTHCHECK: Shape = Shape::map(0, &HEALTHCHECK_MAP);
static HEALTHCHECK_MAP: MapShape = MapShape::of(&[
    ("disable", &FLAG),
    ("interval", &ANY_TEXT),
    ("retries", &NUMBER_OR_TEXT),
    ("test", &TEXT_OR_TEXTS),
    ("timeout", &ANY_TEXT),
    ("start_period", &ANY_TEXT),
    ("start_interval", &ANY_TEXT),
]);

static LOGGING: Shape = Shape::map(0, &LOGGING_MAP);
static LOGGING_MAP: MapShape =
    MapShape::of(&[("driver", &ANY_TEXT), ("options", &LOGGING_OPTIONS)]);
static LOGGING_OPTIONS: Shape = Shape::map(0, &LOGGING_OPTIONS_MAP);
static LOGGING_OPTIONS_MAP: MapShape = MapShape::named(not_empty, &LOGGING_OPTION, false);
static LOGGING_OPTION: Shape = Shape::of(TEXT | NUMBER | NULL);

static MODELS: Shape = Shape {
    map: Some(&MODELS_MAP),
    ..Shape::set(&ANY_TEXT).or(super::MAP)
};
static MODELS_MAP: MapShape = MapShape::named(is_name, &MODEL, false);
static MODEL: Shape = Shape::map(NULL, &MODEL_MAP);
static MODEL_MAP: MapShape = MapShape::of(&[("endpoint_var", &ANY_TEXT), ("model_var", &ANY_TEXT)]);

static NETWORKS: Shape = Shape {
    map: Some(&NETWORKS_MAP),
    ..Shape::set(&ANY_TEXT).or(super::MAP)
};
static NETWORKS_MAP: MapShape = MapShape::named(is_name, &NETWORK, true);
static NETWORK: Shape = Shape::map(NULL, &NETWORK_MAP);
static NETWORK_MAP: MapShape = MapShape::of(&[
    ("aliases", &TEXT_SET),
    ("interface_name", &ANY_TEXT),
    ("ipv4_address", &ANY_TEXT),
    ("ipv6_address", &ANY_TEXT),
    ("link_local_ips", &TEXT_SET),
    ("mac_address", &ANY_TEXT),
    ("driver_opts", &OPTIONS),
    ("priority", &ONLY_NUMBER),
    ("gw_priority", &ONLY_NUMBER),
]);

static PORTS: Shape = Shape::set(&PORT);
static PORT: Shape = Shape::map(NUMBER | TEXT, &PORT_MAP);
static PORT_MAP: MapShape = MapShape::of(&[
    ("name", &ANY_TEXT),
    ("mode", &ANY_TEXT),
    ("host_ip", &ANY_TEXT),
    ("target", &INT_OR_TEXT),
    ("published", &INT_OR_TEXT),
    ("protocol", &ANY_TEXT),
    ("app_protocol", &ANY_TEXT),
]);

static HOOKS: Shape = Shape::list(&HOOK);
static HOOK: Shape = Shape::map(0, &HOOK_MAP);
static HOOK_MAP: MapShape = MapShape::of(&[
    ("command", &COMMAND),
    ("user", &ANY_TEXT),
    ("privileged", &FLAG),
    ("working_dir", &ANY_TEXT),
    ("environment", &PAIRS),
])
.required(&["command"]);

static ULIMITS: Shape = Shape::map(0, &ULIMITS_MAP);
static ULIMITS_MAP: MapShape = MapShape::named(is_lower, &ULIMIT, false);
static ULIMIT: Shape = Shape::map(INT | TEXT, &ULIMIT_MAP);
static ULIMIT_MAP: MapShape =
    MapShape::of(&[("hard", &INT_OR_TEXT), ("soft", &INT_OR_TEXT)]).required(&["soft", "hard"]);

fn is_lower(name: &str) -> bool {
    not_empty(name) && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

static VOLUMES: Shape = Shape::set(&VOLUME);
static VOLUME: Shape = Shape::map(TEXT, &VOLUME_MAP);
static VOLUME_MAP: MapShape = MapShape::of(&[
    ("type", &VOLUME_TYPE),
    ("source", &ANY_TEXT),
    ("target", &ANY_TEXT),
    ("read_only", &FLAG),
    ("consistency", &ANY_TEXT),
    ("bind", &BIND),
    ("volume", &VOLUME_OPTIONS),
    ("tmpfs", &TMPFS),
    ("image", &IMAGE),
])
.required(&["type"]);
static VOLUME_TYPE: Shape = Shape::words(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"]);
static BIND: Shape = Shape::map(0, &BIND_MAP);
static BIND_MAP: MapShape = MapShape::of(&[
    ("propagation", &ANY_TEXT),
    ("create_host_path", &FLAG),
    ("recursive", &RECURSIVE),
    ("selinux", &SELINUX),
]);
static RECURSIVE: Shape = Shape::words(&["enabled", "disabled", "writable", "readonly"]);
static SELINUX: Shape = Shape::words(&["z", "Z"]);
static VOLUME_OPTIONS: Shape = Shape::map(0, &VOLUME_OPTIONS_MAP);
static VOLUME_OPTIONS_MAP: MapShape = MapShape::of(&[
    ("labels", &PAIRS),
    ("nocopy", &FLAG),
    ("subpath", &ANY_TEXT),
]);
static TMPFS: Shape = Shape::map(0, &TMPFS_MAP);
static TMPFS_MAP: MapShape = MapShape::of(&[("size", &TMPFS_SIZE), ("mode", &NUMBER_OR_TEXT)]);
static TMPFS_SIZE: Shape = Shape::of(TEXT | INT).within(0, i64::MAX);
static IMAGE: Shape = Shape::map(0, &IMAGE_MAP);
static IMAGE_MAP: MapShape = MapShape::of(&[("subpath", &ANY_TEXT)]);

static FILE_MOUNTS: Shape = Shape::list(&FILE_MOUNT);
static FILE_MOUNT: Shape = Shape::map(TEXT, &FILE_MOUNT_MAP);
static FILE_MOUNT_MAP: MapShape = MapShape::of(&[
    ("source", &ANY_TEXT),
    ("target", &ANY_TEXT),
    ("uid", &ANY_TEXT),
    ("gid", &ANY_TEXT),
    ("mode", &NUMBER_OR_TEXT),
]);

static DEVELOP: Shape = Shape::map(NULL, &DEVELOP_MAP);
static DEVELOP_MAP: MapShape = MapShape::of(&[("watch", &WATCHES)]);
static WATCHES: Shape = Shape::list(&WATCH);
static WATCH: Shape = Shape::map(0, &WATCH_MAP);
static WATCH_MAP: MapShape = MapShape::of(&[
    ("ignore", &TEXT_OR_SET),
    ("include", &TEXT_OR_SET),
    ("path", &ANY_TEXT),
    ("action", &ACTION),
    ("target", &ANY_TEXT),
    ("exec", &HOOK),
    ("initial_sync", &ONLY_BOOL),
])
.required(&["path", "action"]);
static ACTION: Shape = Shape::words(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"]);

static DEPLOY: Shape = Shape::map(NULL, &DEPLOY_MAP);
static DEPLOY_MAP: MapShape = MapShape::of(&[
    ("mode", &ANY_TEXT),
    ("endpoint_mode", &ANY_TEXT),
    ("replicas", &INT_OR_TEXT),
    ("labels", &PAIRS),
    ("rollback_config", &UPDATE),
    ("update_config", &UPDATE),
    ("resources", &RESOURCES),
    ("restart_policy", &RESTART_POLICY),
    ("placement", &PLACEMENT),
]);
static UPDATE: Shape = Shape::map(0, &UPDATE_MAP);
static UPDATE_MAP: MapShape = MapShape::of(&[
    ("parallelism", &INT_OR_TEXT),
    ("delay", &ANY_TEXT),
    ("failure_action", &ANY_TEXT),
    ("monitor", &ANY_TEXT),
    ("max_failure_ratio", &NUMBER_OR_TEXT),
    ("order", &ORDER),
]);
static ORDER: Shape = Shape::words(&["start-first", "stop-first"]);
static RESOURCES: Shape = Shape::map(0, &RESOURCES_MAP);
static RESOURCES_MAP: MapShape =
    MapShape::of(&[("limits", &LIMITS), ("reservations", &RESERVATIONS)]);
static LIMITS: Shape = Shape::map(0, &LIMITS_MAP);
static LIMITS_MAP: MapShape = MapShape::of(&[
    ("cpus", &NUMBER_OR_TEXT),
    ("memory", &ANY_TEXT),
    ("pids", &INT_OR_TEXT),
]);
static RESERVATIONS: Shape = Shape::map(0, &RESERVATIONS_MAP);
static RESERVATIONS_MAP: MapShape = MapShape::of(&[
    ("cpus", &NUMBER_OR_TEXT),
    ("memory", &ANY_TEXT),
    ("generic_resources", &GENERIC_RESOURCES),
    ("devices", &RESERVED_DEVICES),
]);
static GENERIC_RESOURCES: Shape = Shape::list(&GENERIC_RESOURCE);
static GENERIC_RESOURCE: Shape = Shape::map(0, &GENERIC_RESOURCE_MAP);
static GENERIC_RESOURCE_MAP: MapShape = MapShape::of(&[("discrete_resource_spec", &DISCRETE)]);
static DISCRETE: Shape = Shape::map(0, &DISCRETE_MAP);
static DISCRETE_MAP: MapShape = MapShape::of(&[("kind", &ANY_TEXT), ("value", &NUMBER_OR_TEXT)]);
static RESERVED_DEVICES: Shape = Shape::list(&RESERVED_DEVICE);
static RESERVED_DEVICE: Shape = Shape::map(0, &RESERVED_DEVICE_MAP);
static RESERVED_DEVICE_MAP: MapShape = MapShape::of(DEVICE_REQUEST).required(&["capabilities"]);
static RESTART_POLICY: Shape = Shape::map(0, &RESTART_POLICY_MAP);
static RESTART_POLICY_MAP: MapShape = MapShape::of(&[
    ("condition", &ANY_TEXT),
    ("delay", &ANY_TEXT),
    ("max_attempts", &INT_OR_TEXT),
    ("window", &ANY_TEXT),
]);
static PLACEMENT: Shape = Shape::map(0, &PLACEMENT_MAP);
static PLACEMENT_MAP: MapShape = MapShape::of(&[
    ("constraints", &TEXTS),
    ("preferences", &PREFERENCES),
    ("max_replicas_per_node", &INT_OR_TEXT),
]);
static PREFERENCES: Shape = Shape::list(&PREFERENCE);
static PREFERENCE: Shape = Shape::map(0, &PREFERENCE_MAP);
static PREFERENCE_MAP: MapShape = MapShape::of(&[("spread", &ANY_TEXT)]);
