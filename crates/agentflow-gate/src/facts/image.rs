//! What is known of images that deployments use much.

/// The name of an image in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Registry and path, as `qdrant/qdrant`.
    pub repository: &'a str,
    /// The tag, if there is one.
    pub tag: Option<&'a str>,
    /// Whether a digest pins it.
    pub pinned: bool,
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL and what is built on it.
    Postgres,
    /// A pooler of PostgreSQL connections.
    Pooler,
    /// Redis, Valkey and their like.
    Redis,
    /// Qdrant.
    Qdrant,
    /// R2R.
    R2r,
    /// Another database or queue.
    OtherStore,
}

impl Engine {
    /// Whether it keeps data.
    pub fn is_store(self) -> bool {
        matches!(
            self,
            Self::Postgres | Self::Redis | Self::Qdrant | Self::OtherStore
        )
    }
}

impl<'a> Image<'a> {
    /// Reads a name; nothing if it is empty or holds a variable.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.is_empty() || text.contains('$') {
            return None;
        }
        let (name, pinned) = match text.split_once('@') {
            Some((name, _)) => (name, true),
            None => (text, false),
        };
        let last = name.rfind('/').map_or(0, |at| at + 1);
        let (repository, tag) = match name[last..].rfind(':') {
            Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
            None => (name, None),
        };
        Some(Self {
            repository,
            tag: tag.filter(|it| !it.is_empty()),
            pinned,
        })
    }

    /// The last part of its path.
    pub fn last(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// The numbers that its tag begins with, as `[16, 2]`.
    pub fn version(&self) -> Vec<u32> {
        let tag = self.tag.unwrap_or_default().trim_start_matches('v');
        let digits = tag.find(|c: char| !c.is_ascii_digit() && c != '.');
        tag[..digits.unwrap_or(tag.len())]
            .split('.')
            .map_while(|part| part.parse().ok())
            .collect()
    }

    /// Its first number. Images of PostgreSQL that name another version write `pg16`.
    pub fn major(&self) -> Option<u32> {
        let tag = self.tag.unwrap_or_default();
        let named = tag.split(['-', '_', '.']).find_map(|part| {
            let digits = part.strip_prefix("pg")?;
            digits.parse().ok()
        });
        named.or_else(|| self.version().first().copied())
    }

    /// Whether its tag says that it is Alpine Linux.
    pub fn is_alpine(&self) -> bool {
        self.tag.is_some_and(|tag| tag.contains("alpine"))
    }

    /// What kind of server it holds.
    pub fn engine(&self) -> Option<Engine> {
        Some(match self.last() {
            "postgres" | "postgresql" | "pgvector" | "postgis" | "timescaledb"
            | "timescaledb-ha" | "postgresql-repmgr" | "pgvecto-rs" => Engine::Postgres,
            "pgbouncer" | "pgcat" | "odyssey" | "supavisor" | "pgpool" | "pgdog" => Engine::Pooler,
            "redis" | "redis-stack" | "redis-stack-server" | "valkey" | "keydb" | "dragonfly" => {
                Engine::Redis
            }
            "qdrant" => Engine::Qdrant,
            "r2r" => Engine::R2r,
            "mysql" | "mariadb" | "mongo" | "mongodb" | "elasticsearch" | "opensearch"
            | "rabbitmq" | "memcached" | "clickhouse" | "clickhouse-server" | "neo4j"
            | "cassandra" | "etcd" | "influxdb" | "minio" | "weaviate" | "milvus" | "chroma"
            | "kafka" | "zookeeper" | "couchdb" | "percona" | "nats" | "meilisearch"
            | "mssql-server" | "cockroach" => Engine::OtherStore,
            _ => return None,
        })
    }

    /// Whether it is the official image of its kind, whose contents are known.
    fn is_official(&self) -> bool {
        let path = self.repository;
        let path = path.strip_prefix("docker.io/").unwrap_or(path);
        let path = path.strip_prefix("library/").unwrap_or(path);
        !path.contains('/') || path == "qdrant/qdrant" || path == "pgvector/pgvector"
    }

    /// The user and group that its server may run as from the start, if that is known and the
    /// image starts as root.
    pub fn user(&self) -> Option<&'static str> {
        if !self.is_official() {
            return None;
        }
        Some(match (self.last(), self.is_alpine()) {
            ("postgres", true) => "70:70",
            ("postgres" | "pgvector", false) => "999:999",
            ("redis", true) => "999:1000",
            ("redis", false) => "999:999",
            ("valkey", _) => "999:1000",
            ("qdrant", _) => "1000:1000",
            ("mongo" | "mysql" | "mariadb" | "rabbitmq", _) => "999:999",
            _ => return None,
        })
    }

    /// Whether the image says itself that it does not run as root.
    pub fn is_unprivileged(&self) -> bool {
        let tag = self.tag.unwrap_or_default();
        tag.contains("unprivileged")
            || tag.contains("nonroot")
            || tag.contains("rootless")
            || self.last().contains("unprivileged")
            || matches!(
                self.last(),
                "grafana"
                    | "prometheus"
                    | "alertmanager"
                    | "node-exporter"
                    | "pgbouncer"
                    | "elasticsearch"
                    | "opensearch"
                    | "keycloak"
                    | "kibana"
                    | "logstash"
            )
            || self.repository.contains("bitnami")
    }

    /// Why a program that health checks use is not in the image; nothing if it may be.
    pub fn lacks(&self, program: &str) -> Option<&'static str> {
        let fetches = matches!(program, "curl" | "wget");
        let last = self.last();
        if fetches && last == "qdrant" {
            return Some("the image of Qdrant holds neither `curl` nor `wget`");
        }
        if program == "curl"
            && self.is_official()
            && matches!(last, "postgres" | "redis" | "valkey")
        {
            return Some("this image holds no `curl`");
        }
        let shells = fetches || matches!(program, "sh" | "bash" | "nc" | "CMD-SHELL");
        if shells && self.repository.contains("distroless") {
            return Some("an image without a distribution holds no shell and no tools");
        }
        if program == "curl" && self.is_alpine() && self.is_official() {
            let holds = matches!(last, "nginx" | "httpd" | "php");
            return (!holds).then_some("images of Alpine Linux hold `wget`, not `curl`");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_repository_tag_and_version() {
        let image = |text| Image::parse(text).expect("it is an image");
        let it = image("registry.local:5000/a/postgres:16.2-alpine");
        assert_eq!(it.repository, "registry.local:5000/a/postgres");
        assert_eq!(
            (it.last(), it.version(), it.is_alpine()),
            ("postgres", vec![16, 2], true)
        );
        assert_eq!(image("pgvector/pgvector:0.8.1-pg17").major(), Some(17));
        assert_eq!(image("localhost:5000/x").tag, None);
        assert!(image("a@sha256:00").pinned);
        assert_eq!(Image::parse("${X}"), None);
    }
}
