//! What configuration says and refuses.

use super::*;

fn check_with(
    text: Option<&str>,
    env: &[(&str, &str)],
    flags: &[(&str, toml::Value)],
) -> Result<(Config, Merged)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    let names: Vec<String> = env.iter().map(|(k, _)| (*k).to_owned()).collect();
    let lookup = |name: &str| {
        env.iter()
            .find(|(k, _)| *k == name)
            .map(|(_, v)| (*v).to_owned())
    };
    let flags: Vec<_> = flags
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    load(&Sources {
        file: text.is_some().then_some(&*path),
        env: &lookup,
        env_names: &names,
        flags: &flags,
        cwd: dir.path(),
    })
}

#[test]
fn later_sources_win_and_are_remembered() {
    let (config, merged) = check_with(
        Some("[server]\nport = 1\n[runs]\nconcurrency = 2\n"),
        &[
            ("AGENTFLOW_SERVER__PORT", "2"),
            ("AGENTFLOW_STORAGE__READERS", "9"),
        ],
        &[("server.port", toml::Value::Integer(3))],
    )
    .unwrap();
    assert_eq!(
        (
            config.server.port,
            config.runs.concurrency,
            config.storage.readers
        ),
        (3, 2, 9)
    );
    assert_eq!(merged.origin("server.port"), Some(&Origin::Flag));
    assert_eq!(
        merged.origin("storage.readers"),
        Some(&Origin::Env("AGENTFLOW_STORAGE__READERS".into()))
    );
    assert!(matches!(
        merged.origin("runs.concurrency"),
        Some(Origin::File { line: 4, .. })
    ));
    assert_eq!(merged.origin("log.level"), Some(&Origin::Default));
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    for (text, want) in [
        (
            "[server]\nprot = 1\n",
            "line 2: unknown key `server.prot`; did you mean `port`?",
        ),
        (
            "[sever]\nport = 1\n",
            "line 1: unknown key `sever`; did you mean `server`?",
        ),
        ("[server]\nport = \"x\"\n", "server.port"),
        ("[server\n", "line 1"),
        ("[server]\nhost = \"0.0.0.0\"\n", "only loopback"),
        ("profile = \"production\"\n", "callers must be known"),
        ("[auth]\nbootstrap_key = \"short\"\n", "32 characters"),
        (
            "[server.tls]\ncert_file = \"x\"\n",
            "both cert_file and key_file",
        ),
        ("[auth]\nmode = \"maybe\"\n", "auth.mode"),
        ("[runs]\nconcurrency = 0\n", "must be at least 1"),
        (
            "[storage]\ncheckpointer = \"reddis\"\n",
            "storage.checkpointer: unknown variant `reddis`, expected `database` or `redis`; \
             did you mean `redis`?",
        ),
        ("[storage]\ncheckpoint_ttl_seconds = 60\n", "only for"),
        (
            "[models.providers.x]\nkind = \"opnai\"\n",
            "models.providers.x.kind: `opnai` is none of openai, anthropic, ollama; did you mean \
             `openai`?",
        ),
        (
            "[models.providers.x]\nkind = \"openai\"\nbase_ulr = \"u\"\n",
            "did you mean `base_url`?",
        ),
        (
            "[memory]\nembedding = \"olama:nomic-embed-text\"\n",
            "memory.embedding: `olama` is not known; did you mean `ollama`?",
        ),
        ("[memory]\nembedding = \"locla\"\n", "did you mean `local`?"),
        ("[memory]\nreembed = \"aut\"\n", "did you mean `auto`?"),
        (
            "[memory]\nembeding = \"off\"\n",
            "did you mean `embedding`?",
        ),
        ("[qdrant]\napi_kye = \"x\"\n", "did you mean `api_key`?"),
        (
            "[models]\ndefault = \"antropic:x\"\n",
            "did you mean `anthropic`?",
        ),
    ] {
        let err = check_with(Some(text), &[], &[]).unwrap_err().to_string();
        assert!(err.contains(want), "{text:?} gave {err:?}, wanted {want:?}");
    }
}

#[test]
fn environment_mistakes_are_told() {
    let err = check_with(None, &[("AGENTFLOW_SERVER__PROT", "1")], &[]).unwrap_err();
    assert!(
        err.to_string()
            .contains("did you mean `AGENTFLOW_SERVER__PORT`"),
        "{err}"
    );
    let err = check_with(None, &[("AGENTFLOW_SERVER__PORT", "many")], &[]).unwrap_err();
    assert!(err.to_string().contains("AGENTFLOW_SERVER__PORT"), "{err}");
}

#[test]
fn the_address_of_the_database_comes_from_where_programs_look() {
    let url = "postgres://u:p%40:w@db/x?sslmode=verify-full&sslpassword=pw";
    let env = [
        ("DATABASE_URL", url),
        ("AGENTFLOW_PROFILE", "production"),
        ("AGENTFLOW_AUTH__MODE", "on"),
    ];
    let (config, merged) = check_with(None, &env, &[]).unwrap();
    assert!(config.storage.is_remote());
    assert_eq!(
        (config.storage.url.as_str(), config.profile),
        (url, Profile::Production)
    );
    let shown: Vec<_> = merged
        .rows()
        .into_iter()
        .filter(|row| row.key == "storage.url")
        .collect();
    let masked = "\"postgres://u:***@db/x?sslmode=verify-full&sslpassword=***\"";
    assert_eq!(shown[0].value, masked);
    assert_eq!(shown[0].origin, Origin::Env("DATABASE_URL".into()));
    let printed = format!("{config:?}");
    assert!(
        !printed.contains("p%40") && !printed.contains("pw"),
        "{printed}"
    );
    // Our own variable is the more precise wish.
    let env = [("DATABASE_URL", url), ("AGENTFLOW_STORAGE__URL", "")];
    assert!(!check_with(None, &env, &[]).unwrap().0.storage.is_remote());
    let both = [("DATABASE_URL", url), ("DATABASE_URL_FILE", "f")];
    let err = check_with(None, &both, &[]).unwrap_err();
    assert!(err.message().contains("not both"), "{err}");
}

#[test]
fn with_authentication_any_address_may_be_served() {
    let text = "profile = \"production\"\n[server]\nhost = \"0.0.0.0\"\n\
        [auth]\nmode = \"on\"\n[auth.jwt.roles]\nstaff = \"user\"\n";
    let env = [(
        "AGENTFLOW_SERVER__CORS__ORIGINS",
        "https://a.example, https://b.example",
    )];
    let (config, _) = check_with(Some(text), &env, &[]).unwrap();
    assert!(config.auth.is_on());
    assert_eq!(config.auth.jwt.roles["staff"], "user");
    assert_eq!(
        config.server.cors.origins,
        ["https://a.example", "https://b.example"]
    );
}

#[test]
fn limits_of_mcp_are_configured() {
    let text = "[mcp]\nmax_calls = 3\n[mcp.client]\ntimeout_seconds = 7\nmax_tools = 9\n";
    let (config, _) = check_with(Some(text), &[], &[]).unwrap();
    let limits = config.mcp.limits();
    assert_eq!((config.mcp.max_calls, limits.tools), (3, 9));
    assert_eq!(limits.call, std::time::Duration::from_secs(7));
    // What is shipped is what the client has by itself.
    let (config, _) = check_with(None, &[], &[]).unwrap();
    assert_eq!(config.mcp.limits(), agentflow_mcp::Limits::default());
    let err = check_with(Some("[mcp]\nmax_calls = 0\n"), &[], &[]).unwrap_err();
    assert!(err.to_string().contains("mcp.max_calls"), "{err}");
}

#[test]
fn secrets_are_masked_where_values_are_shown() {
    let text = "[models.providers.x]\nkind = \"openai\"\napi_key = \"sk-secret\"\n";
    let (config, merged) = check_with(Some(text), &[], &[]).unwrap();
    assert!(!format!("{config:?}").contains("sk-secret"));
    let shown: String = merged.rows().into_iter().map(|row| row.value).collect();
    assert!(!shown.contains("sk-secret"), "{shown}");
}

#[test]
fn vectors_are_configured_within_bounds() {
    let text = "[vectors]\nexact_limit = 0\nsearch_width = 200\n";
    let (config, _) = check_with(Some(text), &[], &[]).unwrap();
    let options = config.vectors.options();
    assert_eq!((options.exact_limit, options.search_width), (0, 200));
    // What is shipped is what the database has by itself.
    let (config, _) = check_with(None, &[], &[]).unwrap();
    assert_eq!(
        config.vectors.options(),
        agentflow_embedded::VectorOptions::default()
    );
    for (text, key) in [
        ("max_bytes = 1", "vectors.max_bytes"),
        ("exact_limit = 99999999", "vectors.exact_limit"),
        ("search_width = 1", "vectors.search_width"),
        ("search_widht = 9", "did you mean `search_width`?"),
    ] {
        let text = format!("[vectors]\n{text}\n");
        let err = check_with(Some(&text), &[], &[]).unwrap_err().to_string();
        assert!(err.contains(key), "{text:?} gave {err:?}");
    }
}
