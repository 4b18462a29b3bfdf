//! Addresses of Redis: one server, several sentinels, or the nodes of a cluster.

use std::{fmt, str::FromStr};

use agentflow_types::{Error, Result};
use percent_encoding::percent_decode_str;

/// Port of a data server, and of a sentinel, unless the address says otherwise.
const PORTS: (u16, u16) = (6379, 26379);
/// Most hosts of an address.
const MAX_HOSTS: usize = 64;
/// The schemes: name, what it is about, whether with TLS.
const SCHEMES: [(&str, Scheme, bool); 6] = [
    ("redis", Scheme::Single, false),
    ("rediss", Scheme::Single, true),
    ("redis+sentinel", Scheme::Sentinel, false),
    ("rediss+sentinel", Scheme::Sentinel, true),
    ("redis+cluster", Scheme::Cluster, false),
    ("rediss+cluster", Scheme::Cluster, true),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Single,
    Sentinel,
    Cluster,
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Name or address, without brackets.
    pub name: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// What an address leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    Single,
    /// Sentinels, which tell which server is primary.
    Sentinel {
        /// The name under which they watch it.
        service: String,
    },
    /// Nodes of a cluster, which tell of the others.
    Cluster,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An address, for example `rediss://agentflow@redis.internal:6379/0`,
/// `rediss+sentinel://s1:26379,s2:26379/main` or `rediss+cluster://n1:6379,n2:6379`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What it leads to.
    pub kind: Kind,
    /// Whether connections use TLS.
    pub is_tls: bool,
    /// At least one.
    pub hosts: Vec<Host>,
    /// The user; `None` for Redis' user `default`.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Number of the database; 0 in a cluster.
    pub database: u32,
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let hosts = hosts.join(", ");
        match &self.kind {
            Kind::Single => write!(f, "Redis at {hosts}"),
            Kind::Sentinel { service } => write!(f, "Redis {service} by sentinels at {hosts}"),
            Kind::Cluster => write!(f, "Redis Cluster at {hosts}"),
        }
    }
}

fn wrong(message: &'static str) -> Error {
    Error::invalid(message).with("setting", "redis.url")
}

impl FromStr for Address {
    type Err = Error;

    /// # Errors
    /// `Invalid` if the text is no address; the text itself is not shown, it may hold a password.
    fn from_str(text: &str) -> Result<Self> {
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .ok_or_else(|| wrong("the address of Redis has no scheme"))?;
        let Some((_, scheme, is_tls)) = SCHEMES.into_iter().find(|(name, ..)| *name == scheme)
        else {
            let known = SCHEMES.map(|(name, ..)| name).join(", ");
            return Err(wrong("the scheme of the address of Redis is unknown")
                .with("scheme", scheme)
                .with("known", known));
        };
        if rest.contains(['?', '#']) {
            return Err(wrong("the address of Redis takes no parameters"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may hold an @ that was not encoded.
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = login.map_or(Ok((None, None)), parse_login)?;
        let port = match scheme {
            Scheme::Sentinel => PORTS.1,
            Scheme::Single | Scheme::Cluster => PORTS.0,
        };
        let hosts = parse_hosts(hosts, port)?;
        if scheme == Scheme::Single && hosts.len() > 1 {
            return Err(wrong(
                "one server has one host; for more use the scheme of a cluster or of sentinels",
            ));
        }
        let (kind, database) = parse_path(scheme, path)?;
        Ok(Self {
            kind,
            is_tls,
            hosts,
            user,
            password,
            database,
        })
    }
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned)
        .map_err(|_| wrong("the address of Redis is not UTF-8"))
}

fn parse_login(text: &str) -> Result<(Option<String>, Option<Secret>)> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(Secret(decoded(password)?))),
        None => (text, None),
    };
    let user = (!user.is_empty()).then(|| decoded(user)).transpose()?;
    Ok((user, password))
}

fn parse_hosts(text: &str, default_port: u16) -> Result<Vec<Host>> {
    let hosts = text
        .split(',')
        .map(|part| parse_host(part.trim(), default_port))
        .collect::<Result<Vec<_>>>()?;
    if hosts.len() > MAX_HOSTS {
        return Err(wrong("the address of Redis has too many hosts").with("limit", MAX_HOSTS));
    }
    Ok(hosts)
}

fn parse_host(text: &str, default_port: u16) -> Result<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest
                .split_once(']')
                .ok_or_else(|| wrong("a bracket is open in the address of Redis"))?;
            (name, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    if name.is_empty() {
        return Err(wrong("the address of Redis lacks a host"));
    }
    let port = match port {
        None => default_port,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| wrong("a port in the address of Redis is no port"))?,
    };
    Ok(Host {
        name: decoded(name)?,
        port,
    })
}

fn parse_path(scheme: Scheme, path: &str) -> Result<(Kind, u32)> {
    let database = |text: &str| match text {
        "" => Ok(0),
        number => number
            .parse()
            .map_err(|_| wrong("the database of the address of Redis is no number")),
    };
    match scheme {
        Scheme::Single => Ok((Kind::Single, database(path)?)),
        Scheme::Cluster if path.is_empty() || path == "0" => Ok((Kind::Cluster, 0)),
        Scheme::Cluster => Err(wrong("a cluster of Redis has no numbered databases")),
        Scheme::Sentinel => {
            let (service, number) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return Err(wrong(
                    "the address of sentinels lacks the service: rediss+sentinel://HOSTS/SERVICE",
                ));
            }
            let service = decoded(service)?;
            Ok((Kind::Sentinel { service }, database(number)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str, user: Option<&str>, password: Option<&str>, database: u32) {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), shown, "{text}");
        assert_eq!(address.user.as_deref(), user, "{text}");
        let secret = address.password.as_ref().map(|secret| secret.0.as_str());
        assert_eq!(secret, password, "{text}");
        assert_eq!(address.database, database, "{text}");
        assert_eq!(address.is_tls, text.starts_with("rediss"), "{text}");
    }

    #[test]
    fn addresses_are_read() {
        check("redis://h", "Redis at h:6379", None, None, 0);
        check("rediss://h:7/3", "Redis at h:7", None, None, 3);
        check("redis://:p@h", "Redis at h:6379", None, Some("p"), 0);
        check("redis://u@[::1]:7", "Redis at [::1]:7", Some("u"), None, 0);
        let odd = "rediss://u%40x:p%2F:@b@h/1";
        check(odd, "Redis at h:6379", Some("u@x"), Some("p/:@b"), 1);
        let sentinels = "rediss+sentinel://u:p@a,b:7/main/2";
        let shown = "Redis main by sentinels at a:26379, b:7";
        check(sentinels, shown, Some("u"), Some("p"), 2);
        let cluster = "rediss+cluster://a:1,b:2";
        check(cluster, "Redis Cluster at a:1, b:2", None, None, 0);
    }

    #[test]
    fn mistakes_are_named_without_the_secret() {
        for (text, words) in [
            ("", "no scheme"),
            ("localhost", "no scheme"),
            (
                "http://:hush@h",
                "scheme of the address of Redis is unknown",
            ),
            ("redis://:hush@", "lacks a host"),
            ("redis://:hush@h:0", "no port"),
            ("redis://:hush@h:x", "no port"),
            ("redis://:hush@[h", "bracket"),
            ("redis://:hush@h/x", "no number"),
            ("redis://:hush@h?db=1", "no parameters"),
            ("redis://:hush@a,b", "one host"),
            ("redis+sentinel://:hush@a", "lacks the service"),
            ("redis+cluster://:hush@a/1", "numbered databases"),
            ("redis://:hush%ff@h", "UTF-8"),
        ] {
            let err = text.parse::<Address>().unwrap_err();
            let shown = format!("{err:?}");
            assert!(shown.contains(words), "{text}: {shown}");
            assert!(!shown.contains("hush"), "{shown}");
        }
        let address: Address = "redis://:hush@h".parse().unwrap();
        assert!(!format!("{address:?} {address}").contains("hush"));
    }
}
