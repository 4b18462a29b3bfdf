//! The OpenAPI description, generated from our types.

use std::sync::OnceLock;

use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    security::{
        ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
    },
};

/// What the description starts from: title, version, licence.
pub(crate) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("AgentFlow agent API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Assistants, threads, runs, crons and long-term items. Compatible with clients of \
             LangGraph's Agent Server.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").build()))
        .build();
    let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = ComponentsBuilder::new()
        .security_scheme("api_key", SecurityScheme::ApiKey(header))
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .build();
    // Either; and neither on a server that lets everybody in.
    let none: [&str; 0] = [];
    let ways = [
        SecurityRequirement::new("api_key", none),
        SecurityRequirement::new("bearer", none),
        SecurityRequirement::default(),
    ];
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some(ways))
        .build()
}

/// The description of the whole API.
#[must_use]
pub fn document() -> OpenApi {
    crate::router::documented().split_for_parts().1
}

/// The description as JSON text, built once.
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        document()
            .to_pretty_json()
            .unwrap_or_else(|_| "{}".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set to rewrite the snapshot.
    const UPDATE: &str = "AGENTFLOW_UPDATE_SNAPSHOTS";

    #[test]
    fn snapshot_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let now = format!("{}\n", text());
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == now,
            "openapi.json differs from the types; set {UPDATE}=1 to update"
        );
    }

    #[test]
    fn every_operation_is_described() {
        let api: serde_json::Value = serde_json::from_str(text()).unwrap();
        assert_eq!(api["openapi"].as_str().unwrap(), "3.1.0");
        let paths = api["paths"].as_object().unwrap();
        assert!(paths.len() > 45, "{} paths", paths.len());
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().unwrap() {
                if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                    assert!(operation["summary"].is_string(), "{method} {path}");
                    assert!(operation["tags"].is_array(), "{method} {path}");
                }
            }
        }
    }
}
