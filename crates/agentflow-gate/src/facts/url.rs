//! Addresses of servers, as far as rules look at them.

/// An address in parts. All of it may hold variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    /// Before `://`, without a driver as in `postgresql+asyncpg`.
    pub(crate) scheme: &'a str,
    /// The driver behind `+`.
    pub(crate) driver: &'a str,
    /// The user, if one is named.
    pub(crate) user: &'a str,
    /// The password, if there is one.
    pub(crate) password: Option<&'a str>,
    /// Without brackets.
    pub(crate) host: &'a str,
    /// The port as it is written.
    pub(crate) port: Option<&'a str>,
    /// From the first slash on, without the query.
    pub(crate) path: &'a str,
    /// Behind the question mark.
    pub(crate) query: &'a str,
}

impl<'a> Url<'a> {
    /// Reads an address; nothing if the text is none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        if scheme.is_empty() || !scheme.chars().all(plain) {
            return None;
        }
        let (scheme, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (login, place),
            None => ("", authority),
        };
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
                (host, after.strip_prefix(':'))
            }
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        Some(Self {
            scheme,
            driver,
            user,
            password: password.filter(|it| !it.is_empty()),
            host,
            port: port.filter(|it| !it.is_empty()),
            path,
            query,
        })
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.query.split('&').filter_map(|it| it.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }

    /// Whether it is of PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.scheme, "postgres" | "postgresql")
    }

    /// Whether it is of Redis.
    pub(crate) fn is_redis(&self) -> bool {
        matches!(self.scheme, "redis" | "rediss" | "valkey" | "valkeys")
    }

    /// Whether the server is on the same machine, where nobody listens in between.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.host, "" | "localhost" | "127.0.0.1" | "::1") || self.host.starts_with('/')
    }

    /// Whether the host is one of the internet.
    pub(crate) fn is_public(&self) -> bool {
        let suffix = [
            ".internal",
            ".local",
            ".localhost",
            ".lan",
            ".test",
            ".example",
        ];
        self.host.contains('.')
            && !self.host.contains('$')
            && self.host.chars().any(|c| c.is_ascii_alphabetic())
            && !suffix.iter().any(|it| self.host.ends_with(it))
    }
}

/// Every address in a text, as a shell command holds them.
pub(crate) fn all(text: &str) -> impl Iterator<Item = Url<'_>> {
    let word = |c: char| c.is_whitespace() || "\"'`()<>|;,".contains(c);
    text.split(word).filter_map(Url::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_parts() {
        let url = Url::parse("postgresql+asyncpg://u:p@w@db:5432/app?sslmode=disable&x=1");
        let url = url.expect("it is an address");
        assert_eq!((url.scheme, url.driver), ("postgresql", "asyncpg"));
        assert_eq!((url.user, url.password), ("u", Some("p@w")));
        assert_eq!((url.host, url.port, url.path), ("db", Some("5432"), "/app"));
        assert_eq!(url.parameter("sslmode"), Some("disable"));
        let url = Url::parse("redis://[::1]:6379").expect("it is an address");
        assert_eq!((url.host, url.port), ("::1", Some("6379")));
        assert!(url.is_local() && !url.is_public());
        assert!(Url::parse("https://api.example.com").is_some_and(|it| it.is_public()));
        assert_eq!(Url::parse("no address"), None);
    }
}
