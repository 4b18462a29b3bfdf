//! What a principal may do: permissions, sets of them, and roles that stand for sets.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// One thing that a principal may do. The word has two parts: what, and how.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Permission {
            $($(#[$doc])* $name,)*
        }

        impl Permission {
            /// All permissions, in the order of their words' first mention.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word that stands for it, for example `threads:read`.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

permissions! {
    /// Look at assistants and graphs.
    AssistantsRead = "assistants:read";
    /// Create, change and remove assistants.
    AssistantsWrite = "assistants:write";
    /// Look at threads, their states and their events.
    ThreadsRead = "threads:read";
    /// Create, change and remove threads and their states.
    ThreadsWrite = "threads:write";
    /// Look at runs and their events.
    RunsRead = "runs:read";
    /// Start, stop and remove runs.
    RunsWrite = "runs:write";
    /// Look at crons.
    CronsRead = "crons:read";
    /// Create, change and remove crons.
    CronsWrite = "crons:write";
    /// Read long-term items.
    StoreRead = "store:read";
    /// Write and remove long-term items.
    StoreWrite = "store:write";
    /// Read and search memories, their history and the events about them.
    MemoriesRead = "memories:read";
    /// Add, change and remove memories, and the settings of their projects.
    MemoriesWrite = "memories:write";
    /// Read and search documents and collections.
    DocumentsRead = "documents:read";
    /// Send, change and remove documents and collections.
    DocumentsWrite = "documents:write";
    /// Read figures of the whole server.
    MetricsRead = "metrics:read";
    /// Look at the keys of the tenant, without their secrets.
    KeysRead = "keys:read";
    /// Make and revoke keys of the tenant.
    KeysWrite = "keys:write";
    /// Look at the users of the tenant.
    UsersRead = "users:read";
    /// Make, change and remove users of the tenant.
    UsersWrite = "users:write";
    /// Read the log of changes of the tenant.
    AuditRead = "audit:read";
    /// Look at all tenants.
    TenantsRead = "tenants:read";
    /// Make and change tenants, and act for them.
    TenantsWrite = "tenants:write";
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// Nothing is allowed.
    pub const NONE: Self = Self(0);
    /// Everything is allowed.
    pub const ALL: Self = Self((1 << Permission::ALL.len()) - 1);

    /// What somebody may have who is limited to some memories: whatever else would lead past the
    /// limit. Hosts of tools look at assistants to find the tools.
    pub const OF_MEMORIES: Self = Self(
        (1 << Permission::AssistantsRead as u8)
            | (1 << Permission::MemoriesRead as u8)
            | (1 << Permission::MemoriesWrite as u8),
    );

    /// Whether the set has this permission.
    #[must_use]
    pub fn has(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether everything in this set is also in the other one.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions in the set.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL
            .iter()
            .copied()
            .filter(move |permission| self.has(*permission))
    }

    /// The set that words stand for: `threads:read`, `threads:*`, or `*`.
    ///
    /// # Errors
    /// `Unprocessable` for a word that stands for nothing.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        words.into_iter().try_fold(Self::NONE, |set, word| {
            let more: Self = match word.strip_suffix('*') {
                Some("") => Self::ALL,
                Some(start) if start.ends_with(':') => Permission::ALL
                    .iter()
                    .copied()
                    .filter(|permission| permission.word().starts_with(start))
                    .collect(),
                _ => Permission::ALL
                    .iter()
                    .copied()
                    .filter(|permission| permission.word() == word)
                    .collect(),
            };
            match more.is_empty() {
                true => Err(Error::unprocessable(format!(
                    "scopes: {word:?} is not a permission"
                ))),
                false => Ok(Self(set.0 | more.0)),
            }
        })
    }

    /// The words of the set.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        self.iter().map(Permission::word).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(iter: I) -> Self {
        Self(
            iter.into_iter()
                .fold(0, |set, permission| set | 1 << permission as u8),
        )
    }
}

/// A usual set of permissions under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads what the tenant has.
    Viewer,
    /// Works with it.
    User,
    /// Also manages the tenant's keys and users.
    Admin,
    /// Also manages tenants, and reads the figures of the whole server.
    Operator,
}

impl Role {
    /// All roles, from few to many permissions.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::User, Self::Admin, Self::Operator];

    /// The word that stands for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    /// What it allows.
    #[must_use]
    pub fn permissions(self) -> Permissions {
        use Permission as P;
        const VIEWER: [P; 7] = [
            P::AssistantsRead,
            P::ThreadsRead,
            P::RunsRead,
            P::CronsRead,
            P::StoreRead,
            P::MemoriesRead,
            P::DocumentsRead,
        ];
        const USER: [P; 7] = [
            P::AssistantsWrite,
            P::ThreadsWrite,
            P::RunsWrite,
            P::CronsWrite,
            P::StoreWrite,
            P::MemoriesWrite,
            P::DocumentsWrite,
        ];
        const ADMIN: [P; 5] = [
            P::KeysRead,
            P::KeysWrite,
            P::UsersRead,
            P::UsersWrite,
            P::AuditRead,
        ];
        let parts: &[&[P]] = match self {
            Self::Viewer => &[&VIEWER],
            Self::User => &[&VIEWER, &USER],
            Self::Admin => &[&VIEWER, &USER, &ADMIN],
            Self::Operator => return Permissions::ALL,
        };
        parts.iter().copied().flatten().copied().collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = Error;

    /// # Errors
    /// `Unprocessable` for another word.
    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|role| role.word() == word);
        found.ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|role| role.word()).collect();
            Error::unprocessable(format!("role: {word:?} is none of {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_wildcards_name_sets() {
        for (words, want) in [
            (vec!["threads:read"], vec!["threads:read"]),
            (
                vec!["runs:*", "store:read"],
                vec!["runs:read", "runs:write", "store:read"],
            ),
            (vec![], vec![]),
        ] {
            assert_eq!(Permissions::parse(words).unwrap().words(), want);
        }
        assert_eq!(Permissions::parse(["*"]).unwrap(), Permissions::ALL);
        for wrong in ["threads", "threads:", "thre*", "", "*:read", "Threads:read"] {
            assert!(Permissions::parse([wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_role_allows_more_than_the_one_before() {
        for pair in Role::ALL.windows(2) {
            let (few, many) = (pair[0].permissions(), pair[1].permissions());
            assert!(few.within(many) && !many.within(few), "{pair:?}");
        }
        assert!(
            Role::Viewer
                .permissions()
                .words()
                .iter()
                .all(|w| w.ends_with(":read"))
        );
        assert_eq!("admin".parse::<Role>().unwrap(), Role::Admin);
        assert!("root".parse::<Role>().is_err());
    }
}
