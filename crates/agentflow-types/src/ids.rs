//! Newtype ids. All are UUIDs; the server mints version 7.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DEFAULT_TENANT, Error, Result};

/// Namespace in which the ids of system assistants are derived from graph ids (RFC 9562's DNS
/// namespace, as LangGraph's server uses it).
const SYSTEM_ASSISTANT_NAMESPACE: Uuid = Uuid::from_u128(0x6ba7b821_9dad_11d1_80b4_00c04fd430c8);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new time-ordered id.
            #[must_use]
            pub fn mint() -> Self {
                Self(Uuid::now_v7())
            }

            /// The text form (hyphenated, lowercase).
            #[must_use]
            pub fn text(&self) -> String {
                self.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// # Errors
            /// `Unprocessable` if the text is not a UUID.
            fn from_str(text: &str) -> Result<Self> {
                Uuid::parse_str(text).map(Self).map_err(|_| {
                    Error::unprocessable(concat!("Invalid ", $word, " ID: must be a UUID"))
                })
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )*};
}

ids! {
    /// A thread: one line of checkpoints.
    ThreadId, "thread";
    /// A run: one execution of an assistant on a thread.
    RunId, "run";
    /// An assistant: a graph with configuration.
    AssistantId, "assistant";
    /// A cron: a schedule that creates runs.
    CronId, "cron";
    /// A letter: something that must reach somebody outside.
    LetterId, "letter";
    /// A user: somebody who logs in with a password.
    UserId, "user";
    /// An API key.
    KeyId, "key";
    /// A memory: a fact, or a turn of a conversation.
    MemoryId, "memory";
    /// A job: work on memories that goes on after its request was answered.
    JobId, "job";
}

impl AssistantId {
    /// The id of the assistant that exists for each graph from the start.
    #[must_use]
    pub fn system(graph_id: &str) -> Self {
        Self(Uuid::new_v5(
            &SYSTEM_ASSISTANT_NAMESPACE,
            graph_id.as_bytes(),
        ))
    }

    /// The id of that assistant in a tenant. In the default tenant it is [`Self::system`]; in
    /// others it is derived from the tenant's name too, because ids are unique in a database.
    #[must_use]
    pub fn system_in(tenant: &str, graph_id: &str) -> Self {
        if tenant == DEFAULT_TENANT {
            return Self::system(graph_id);
        }
        let of_tenant = Uuid::new_v5(&SYSTEM_ASSISTANT_NAMESPACE, tenant.as_bytes());
        Self(Uuid::new_v5(&of_tenant, graph_id.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_assistant_id_is_the_one_langgraph_derives() {
        let id = AssistantId::system("agent");
        assert_eq!(id.text(), "fe096781-5601-53d2-b2f6-0d3403f7e9ca");
    }

    #[test]
    fn each_tenant_has_its_own_system_assistants() {
        let id = |tenant| AssistantId::system_in(tenant, "agent");
        assert_eq!(id("default"), AssistantId::system("agent"));
        assert_ne!(id("acme"), id("default"));
        assert_ne!(id("acme"), id("other"));
    }

    #[test]
    fn bad_id_says_what_is_wanted() {
        let err = "nope".parse::<ThreadId>().unwrap_err();
        assert_eq!(err.message(), "Invalid thread ID: must be a UUID");
    }
}
