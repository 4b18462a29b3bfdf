//! What clients send and get, as serde types. `Serialize` here is a promise.

pub(crate) mod account;
pub(crate) mod assistant;
pub(crate) mod cron;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod system;
pub(crate) mod thread;
pub(crate) mod webhook;

use agentflow_runs::service::IfExists;
use serde::Deserialize;
use utoipa::ToSchema;

/// What to do when the thing to create exists.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IfExistsWord {
    /// Answer 409.
    #[default]
    Raise,
    /// Return what exists.
    DoNothing,
}

impl From<IfExistsWord> for IfExists {
    fn from(word: IfExistsWord) -> Self {
        match word {
            IfExistsWord::Raise => Self::Raise,
            IfExistsWord::DoNothing => Self::DoNothing,
        }
    }
}

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
        }
    }
}

/// Reads a field that may be absent, null, or set, and keeps the difference.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
