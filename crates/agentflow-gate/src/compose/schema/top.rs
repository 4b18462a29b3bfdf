//! The parts of a project that are no service.

use super::{
    ANY_TEXT, BOOL, FLAG, MapShape, NULL, ONLY_INT, OPTIONS, PAIRS, Shape, TEXT, TEXT_OR_SET,
    TEXTS, is_name, not_empty, service::SERVICE,
};

/// A whole project.
pub(super) static PROJECT: Shape = Shape::map(0, &PROJECT_MAP);
static PROJECT_MAP: MapShape = MapShape::of(&[
    ("version", &ANY_TEXT),
    ("name", &ANY_TEXT),
    ("include", &INCLUDES),
    ("services", &SERVICES),
    ("models", &MODELS),
    ("networks", &NETWORKS),
    ("volumes", &VOLUMES),
    ("secrets", &SECRETS),
    ("configs", &CONFIGS),
]);

static INCLUDES: Shape = Shape::list(&INCLUDE);
static INCLUDE: Shape = Shape::map(TEXT, &INCLUDE_MAP);
static INCLUDE_MAP: MapShape = MapShape::of(&[
    ("path", &TEXT_OR_SET),
    ("env_file", &TEXT_OR_SET),
    ("project_directory", &ANY_TEXT),
])
.closed();

static SERVICES: Shape = Shape::map(0, &SERVICES_MAP);
static SERVICES_MAP: MapShape = MapShape::named(is_name, &SERVICE, true);
static MODELS: Shape = Shape::map(0, &MODELS_MAP);
static MODELS_MAP: MapShape = MapShape::named(is_name, &MODEL, false);
static NETWORKS: Shape = Shape::map(0, &NETWORKS_MAP);
static NETWORKS_MAP: MapShape = MapShape::named(is_name, &NETWORK, false);
static VOLUMES: Shape = Shape::map(0, &VOLUMES_MAP);
static VOLUMES_MAP: MapShape = MapShape::named(is_name, &VOLUME, true);
static SECRETS: Shape = Shape::map(0, &SECRETS_MAP);
static SECRETS_MAP: MapShape = MapShape::named(is_name, &SECRET, true);
static CONFIGS: Shape = Shape::map(0, &CONFIGS_MAP);
static CONFIGS_MAP: MapShape = MapShape::named(is_name, &CONFIG, true);

static MODEL: Shape = Shape::map(0, &MODEL_MAP);
static MODEL_MAP: MapShape = MapShape::of(&[
    ("name", &ANY_TEXT),
    ("model", &ANY_TEXT),
    ("context_size", &ONLY_INT),
    ("runtime_flags", &TEXTS),
])
.required(&["model"]);

static NETWORK: Shape = Shape::map(NULL, &NETWORK_MAP);
static NETWORK_MAP: MapShape = MapShape::of(&[
    ("name", &ANY_TEXT),
    ("driver", &ANY_TEXT),
    ("driver_opts", &OPTIONS),
    ("ipam", &IPAM),
    ("external", &EXTERNAL),
    ("internal", &FLAG),
    ("enable_ipv4", &FLAG),
    ("enable_ipv6", &FLAG),
    ("attachable", &FLAG),
    ("labels", &PAIRS),
]);
static IPAM: Shape = Shape::map(0, &IPAM_MAP);
static IPAM_MAP: MapShape = MapShape::of(&[
    ("driver", &ANY_TEXT),
    ("config", &RANGES),
    ("options", &TEXT_MAP),
]);
static RANGES: Shape = Shape::list(&RANGE);
static RANGE: Shape = Shape::map(0, &RANGE_MAP);
static RANGE_MAP: MapShape = MapShape::of(&[
    ("subnet", &ANY_TEXT),
    ("ip_range", &ANY_TEXT),
    ("gateway", &ANY_TEXT),
    ("aux_addresses", &TEXT_MAP),
]);
static TEXT_MAP: Shape = Shape::map(0, &TEXT_MAP_MAP);
static TEXT_MAP_MAP: MapShape = MapShape::named(not_empty, &ANY_TEXT, true);

static EXTERNAL: Shape = Shape::map(BOOL | TEXT, &EXTERNAL_MAP);
static EXTERNAL_MAP: MapShape = MapShape::of(&[("name", &ANY_TEXT)]);
static LOOSE_EXTERNAL: Shape = Shape::map(BOOL | TEXT, &LOOSE_EXTERNAL_MAP);
static LOOSE_EXTERNAL_MAP: MapShape = MapShape {
    known: &[("name", &ANY_TEXT)],
    ..MapShape::free()
};

static VOLUME: Shape = Shape::map(NULL, &VOLUME_MAP);
static VOLUME_MAP: MapShape = MapShape::of(&[
    ("name", &ANY_TEXT),
    ("driver", &ANY_TEXT),
    ("driver_opts", &OPTIONS),
    ("external", &EXTERNAL),
    ("labels", &PAIRS),
]);

static SECRET: Shape = Shape::map(0, &SECRET_MAP);
static SECRET_MAP: MapShape = MapShape::of(&[
    ("name", &ANY_TEXT),
    ("environment", &ANY_TEXT),
    ("file", &ANY_TEXT),
    ("external", &LOOSE_EXTERNAL),
    ("labels", &PAIRS),
    ("driver", &ANY_TEXT),
    ("driver_opts", &OPTIONS),
    ("template_driver", &ANY_TEXT),
]);

static CONFIG: Shape = Shape::map(0, &CONFIG_MAP);
static CONFIG_MAP: MapShape = MapShape::of(&[
    ("name", &ANY_TEXT),
    ("content", &ANY_TEXT),
    ("environment", &ANY_TEXT),
    ("file", &ANY_TEXT),
    ("external", &LOOSE_EXTERNAL),
    ("labels", &PAIRS),
    ("template_driver", &ANY_TEXT),
]);
