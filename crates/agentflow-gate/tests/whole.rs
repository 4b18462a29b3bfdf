//! Projects with their variables filled in, and what is wrong with them as a whole.

use std::path::PathBuf;

use agentflow_gate::{
    Kind,
    compose::{self, InMemory, Loaded, Request},
};
use serde_json::{Value as Json, json};

fn request() -> Request {
    Request {
        files: vec![PathBuf::from("/p/compose.yaml")],
        ..Request::default()
    }
}

fn load_with(files: InMemory, request: &Request) -> Loaded {
    compose::load(&files, request)
}

fn load(text: &str) -> Loaded {
    load_with(
        InMemory::default().with("/p/compose.yaml", text),
        &request(),
    )
}

/// What is wrong with a project, without where.
fn check(text: &str, expected: &[&str]) {
    let loaded = load(text);
    let found = match loaded.project {
        Ok(project) => project.check(),
        Err(found) => found,
    };
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{text}");
}

/// The part of a model at a JSON pointer.
fn part(loaded: &Loaded, pointer: &str) -> Json {
    let project = loaded.project.as_ref().expect("the project loads");
    project
        .to_json()
        .pointer(pointer)
        .cloned()
        .unwrap_or(Json::Null)
}

#[test]
fn variables_come_from_the_process_then_from_files() {
    let files = InMemory::default()
        .with(
            "/p/compose.yaml",
            "services: {a: {image: \"x:${TAG:-1}\", scale: \"${COUNT}\", privileged: \"yes\",
               ports: [\"${PORT}:80\"], environment: [HOME, TAG, NONE], container_name: \"$${AB}\"}}",
        )
        .with("/p/.env", "TAG=file\nCOUNT=2\nPORT=8080\nCOMPOSE_PROJECT_NAME=Named");
    let mut request = request();
    request
        .environment
        .insert("TAG".to_owned(), "process".to_owned());
    let loaded = load_with(files, &request);
    assert_eq!(part(&loaded, "/services/a/image"), "x:process");
    assert_eq!(part(&loaded, "/services/a/scale"), 2);
    assert_eq!(part(&loaded, "/services/a/privileged"), true);
    assert_eq!(part(&loaded, "/services/a/ports/0/published"), "8080");
    assert_eq!(part(&loaded, "/services/a/container_name"), "${AB}");
    let environment = json!(["HOME", "TAG=process", "NONE"]);
    assert_eq!(part(&loaded, "/services/a/environment"), environment);
    assert_eq!(part(&loaded, "/networks/default/name"), "Named_default");
}

#[test]
fn a_variable_without_value_is_a_warning_at_its_place() {
    let loaded = load("services: {a: {image: \"x${NONE}\"}}");
    let warnings: Vec<String> = loaded
        .warnings
        .iter()
        .map(|it| it.line(&loaded.sources))
        .collect();
    let expected =
        "/p/compose.yaml:1:23: services.a.image: the variable `NONE` is not set; it becomes empty";
    assert_eq!(warnings, [expected]);
    for (text, message) in [
        (
            "${NONE:?set it}",
            "services.a.image: `NONE` must be set: set it",
        ),
        (
            "${NONE",
            "services.a.image: `${NONE` holds a `$` that begins no variable; write `$$` for the sign itself",
        ),
    ] {
        check(
            &format!("services: {{a: {{image: \"{text}\"}}}}"),
            &[message],
        );
    }
    check(
        "services: {a: {image: x, scale: many}}",
        &["services.a.scale: `many` is not a whole number"],
    );
}

#[test]
fn paths_start_from_the_folder_of_the_project() {
    let mut request = request();
    request
        .environment
        .insert("HOME".to_owned(), "/home/me".to_owned());
    let files = InMemory::default().with(
        "/p/compose.yaml",
        "services: {a: {build: {context: ./b, additional_contexts: {c: \"https://x\"}}, env_file: e,
           volumes: [\"./v:/v\", \"~/w:/w\", \"nn:/n\"]}}\nvolumes: {nn: }\nsecrets: {s: {file: ../s}}",
    );
    let loaded = load_with(files, &request);
    assert_eq!(part(&loaded, "/services/a/build/context"), "/p/b");
    assert_eq!(
        part(&loaded, "/services/a/build/additional_contexts/c"),
        "https://x"
    );
    assert_eq!(part(&loaded, "/services/a/env_file/0/path"), "/p/e");
    assert_eq!(part(&loaded, "/services/a/volumes/0/source"), "/p/v");
    assert_eq!(part(&loaded, "/services/a/volumes/1/source"), "/home/me/w");
    assert_eq!(part(&loaded, "/services/a/volumes/2/source"), "nn");
    assert_eq!(part(&loaded, "/secrets/s/file"), "/s");
}

#[test]
fn the_name_comes_from_the_file_or_the_folder() {
    let name = |text: &str| {
        load(text)
            .project
            .map(|project| project.name)
            .expect("it loads")
    };
    assert_eq!(name("services: {a: {image: x}}"), "p");
    assert_eq!(name("name: My.App_1\nservices: {a: {image: x}}"), "myapp_1");
}

#[test]
fn profiles_switch_services_off() {
    let text = "services: {a: {image: x, profiles: [dev], depends_on: [c]}, b: {image: y},
       c: {image: z, profiles: [other]}, d: {image: x, depends_on: {c: {required: false, condition: service_started}}}}";
    let names = |profiles: &[&str]| {
        let files = InMemory::default().with("/p/compose.yaml", text);
        let mut request = request();
        request.profiles = profiles.iter().map(|it| (*it).to_owned()).collect();
        let project = load_with(files, &request).project.expect("it loads");
        let names: Vec<String> = project
            .services()
            .map(|(name, _)| name.to_owned())
            .collect();
        (names.join(" "), project.check().len())
    };
    assert_eq!(names(&[]), ("b d".to_owned(), 0));
    assert_eq!(names(&["dev"]), ("a b d".to_owned(), 1));
    assert_eq!(names(&["dev", "other"]), ("a b c d".to_owned(), 0));
    assert_eq!(names(&["*"]), ("a b c d".to_owned(), 0));
}

#[test]
fn what_is_wrong_with_the_whole_is_found() {
    let service = |rest: &str, path: &str, message: &str| {
        let text = format!("services: {{a: {{image: x, {rest}}}, b: {{image: y}}}}");
        let problem = format!("services.a{path}: {message}");
        check(
            &text,
            if message.is_empty() {
                &[]
            } else {
                std::slice::from_ref(&problem)
            }
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice(),
        );
    };
    service(
        "depends_on: [b], stop_grace_period: 1m30s, mem_limit: 1g",
        "",
        "",
    );
    service("networks: [n]", "", "there is no network `n`");
    service("volumes: [\"data:/v\"]", "", "there is no volume `data`");
    service("secrets: [s]", "", "there is no secret `s`");
    service("configs: [s]", "", "there is no config `s`");
    service("models: [m]", "", "there is no model `m`");
    service("depends_on: [c]", "", "there is no service `c`");
    service(
        "network_mode: \"service:b\", networks: [default]",
        "",
        "`network_mode` and `networks` exclude each other",
    );
    service(
        "healthcheck: {test: [curl, x]}",
        "",
        "a health check begins with `CMD`, `CMD-SHELL` or `NONE`",
    );
    service(
        "scale: 2, container_name: aa",
        "",
        "several containers cannot have one `container_name`",
    );
    service(
        "scale: 2, deploy: {replicas: 3}",
        "",
        "`scale` and `deploy.replicas` differ",
    );
    service("scale: -1", "", "there cannot be fewer than no containers");
    service(
        "mem_limit: 1g, deploy: {resources: {limits: {memory: 1gb}}}",
        "",
        "",
    );
    service(
        "mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}",
        "",
        "`mem_limit` and `deploy.resources.limits.memory` differ",
    );
    service(
        "cpus: 1, deploy: {resources: {limits: {pids: 2}}}",
        "",
        "`cpus` and `deploy.resources.limits.cpus` differ",
    );
    service("tmpfs: /t, volumes: [\"/t\"]", "", "`/t` is mounted twice");
    service(
        "platform: p, build: {platforms: [q]}",
        "",
        "`build.platforms` lacks `p`",
    );
    service(
        "build: {dockerfile: a, dockerfile_inline: b}",
        "",
        "`dockerfile` and `dockerfile_inline` exclude each other",
    );
    service(
        "build: {additional_contexts: {c: \"service:b\"}}",
        "",
        "the context `c` needs a service `b` that is built",
    );
    service(
        "develop: {watch: [{path: x, action: sync}]}",
        "",
        "this action needs a `target`",
    );
    service(
        "healthcheck: {interval: soon}",
        ".healthcheck.interval",
        "must be a time, as `1m30s`",
    );
    service("mem_limit: much", ".mem_limit", "must be a size, as `512m`");
    service(
        "command: \"a 'b\"",
        ".command",
        "must be a command line whose quotes are closed",
    );
    service("attach: maybe", ".attach", "must be true or false");
    service(
        "extra_hosts: [a]",
        ".extra_hosts.[]",
        "must be a name and an address, as `name=10.0.0.1`",
    );
    service(
        "environment: [\"A =b\"]",
        ".environment",
        "a space stands before the `=`",
    );
    check(
        "services: {a: {command: x}}",
        &["services.a: a service needs `image` or `build`"],
    );
    check(
        "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}",
        &["services.a: services wait for each other: a, then b, then a"],
    );
    check(
        "services: {a: {image: x, links: [a]}}",
        &["services.a: services wait for each other: a, then a"],
    );
}

#[test]
fn a_file_that_is_not_there_is_reported_where_it_is_named() {
    let loaded = load("services: {a: {extends: {service: b, file: other.yaml}}}");
    let found = loaded.project.expect_err("the file is absent");
    assert_eq!(found[0].kind, Kind::File);
    let line = found[0].line(&loaded.sources);
    assert!(
        line.starts_with("/p/compose.yaml:1:25: `/p/other.yaml` cannot be read"),
        "{line}"
    );
}
