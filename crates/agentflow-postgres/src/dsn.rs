//! The address of a database, as a URL in libpq's spelling.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use agentflow_types::{Error, Result};
use percent_encoding::percent_decode_str;

/// The port if none is named.
const DEFAULT_PORT: u16 = 5432;
/// Most hosts of one address.
const MAX_HOSTS: usize = 16;
/// How near a known parameter must be to be suggested.
const NEAR: f64 = 0.7;
/// The parameters that an address may have.
const PARAMETERS: [&str; 17] = [
    "user",
    "password",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "ssl_min_protocol_version",
    "channel_binding",
    "connect_timeout",
    "application_name",
    "target_session_attrs",
    "load_balance_hosts",
    "options",
];

/// How a connection is protected, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it; nothing is checked.
    Prefer,
    /// TLS. The certificate is checked only if a root certificate is named.
    Require,
    /// TLS with a certificate from a known authority, for whatever host.
    VerifyCa,
    /// TLS with a certificate from a known authority for this host.
    VerifyFull,
}

/// What protection an address promises, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Plain text, or TLS that an attacker can switch off.
    Plain,
    /// Encrypted, to whoever answers.
    Encrypted,
    /// Encrypted, to a server whose certificate is from a known authority.
    Authority,
    /// Encrypted, to the server that is named; or a socket of this machine.
    Full,
}

/// Which of several servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that takes none.
    ReadOnly,
}

/// Whether the password exchange must be bound to the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It is not.
    Disable,
    /// If the server can.
    Prefer,
    /// Or no connection.
    Require,
}

/// Where one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name or an address; the second, if there, is where to connect while the first is what
    /// the certificate names.
    Tcp(String, Option<IpAddr>),
    /// The directory of a socket.
    Socket(PathBuf),
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where.
    pub place: Place,
    /// Its port, or the number in the name of its socket.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(name, _) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Place::Tcp(name, _) => write!(f, "{name}:{}", self.port),
            Place::Socket(path) => write!(f, "{}/.s.PGSQL.{}", path.display(), self.port),
        }
    }
}

/// A password; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(crate) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Files and rules of TLS. Files are read again for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    /// How a connection is protected.
    pub mode: SslMode,
    /// Our certificate with its chain, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Authorities, PEM; those of the operating system if there are none.
    pub root: Option<PathBuf>,
    /// Whether the server must speak TLS 1.3; at least 1.2 is spoken in any case.
    pub only_13: bool,
}

/// The address of a database with everything that a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// Servers, tried in this order.
    pub hosts: Vec<Host>,
    /// Whether the servers are tried in random order instead.
    pub shuffled: bool,
    /// Who connects.
    pub user: String,
    /// The password, if it is part of the address.
    pub password: Option<Password>,
    /// The database.
    pub dbname: String,
    /// TLS.
    pub ssl: Ssl,
    /// Whether the password exchange must be bound to the TLS connection.
    pub binding: Binding,
    /// How long connecting to one server may take.
    pub connect_timeout: Option<Duration>,
    /// What the server calls us.
    pub application_name: Option<String>,
    /// Which server will do.
    pub target: Target,
    /// Settings for the server; most poolers refuse them.
    pub options: Option<String>,
}

impl Dsn {
    /// Reads `postgres://user:password@host:port/database?parameter=value`. As in libpq, several
    /// hosts are separated by commas, and a host that begins with a slash (written `%2F`, or as
    /// parameter `host`) is the directory of a socket. `sslmode` is `prefer` unless said.
    ///
    /// # Errors
    /// `Invalid` if it is not such a URL, or names a parameter or value that is unknown. The
    /// error never shows the password.
    pub fn parse(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| Error::invalid("a database address begins with postgres://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let mut raw = Raw::default();
        if let Some((user, password)) = login.map(|login| match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        }) {
            raw.user = decoded("user", user)?;
            raw.password = password.map(|text| decoded("password", text)).transpose()?;
        }
        raw.dbname = decoded("dbname", dbname)?;
        raw.read_hosts(hosts)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Error::invalid("a parameter of the database address has no value")
            })?;
            let name = decoded("parameter", name)?;
            let value = decoded("parameter", value)?;
            raw.set(&name, value)?;
        }
        raw.finish()
    }

    /// What protection every connection has at least.
    #[must_use]
    pub fn strength(&self) -> Strength {
        let remote = |host: &Host| matches!(host.place, Place::Tcp(..));
        if !self.hosts.iter().any(remote) {
            return Strength::Full;
        }
        match self.ssl.mode {
            SslMode::Disable | SslMode::Prefer => Strength::Plain,
            SslMode::Require if self.ssl.root.is_none() => Strength::Encrypted,
            SslMode::Require | SslMode::VerifyCa => Strength::Authority,
            SslMode::VerifyFull => Strength::Full,
        }
    }
}

fn decoded(what: &'static str, text: &str) -> Result<String> {
    // Only the name of the part is shown: the part may be the password.
    let wrong = || Error::invalid("a part of the database address is not text").with("part", what);
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| wrong())?;
    if text.contains('\0') {
        return Err(wrong());
    }
    Ok(text.into_owned())
}

/// An address while it is read.
#[derive(Default)]
struct Raw {
    user: String,
    password: Option<String>,
    dbname: String,
    hosts: Vec<String>,
    ports: Vec<String>,
    addresses: Vec<String>,
    mode: Option<SslMode>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    root: Option<PathBuf>,
    only_13: bool,
    binding: Option<Binding>,
    connect_timeout: Option<Duration>,
    application_name: Option<String>,
    target: Option<Target>,
    options: Option<String>,
    shuffled: bool,
}

impl Raw {
    fn read_hosts(&mut self, hosts: &str) -> Result<()> {
        if hosts.is_empty() {
            return Ok(());
        }
        for host in hosts.split(',') {
            let (name, port) = split_port(host)?;
            self.hosts.push(decoded("host", name)?);
            self.ports.push(port.to_owned());
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        let list = |value: &str| value.split(',').map(str::to_owned).collect();
        match name {
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "dbname" => self.dbname = value,
            "host" => self.hosts = list(&value),
            "hostaddr" => self.addresses = list(&value),
            "port" => self.ports = list(&value),
            "sslmode" => self.mode = Some(ssl_mode(&value)?),
            "sslcert" => self.cert = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            // libpq's word for the authorities of the operating system.
            "sslrootcert" => self.root = (value != "system").then(|| value.into()),
            "ssl_min_protocol_version" => {
                self.only_13 = one_of(name, &value, &[("TLSv1.2", false), ("TLSv1.3", true)])?;
            }
            "channel_binding" => {
                self.binding = Some(one_of(
                    name,
                    &value,
                    &[
                        ("disable", Binding::Disable),
                        ("prefer", Binding::Prefer),
                        ("require", Binding::Require),
                    ],
                )?);
            }
            "connect_timeout" => {
                let seconds: u32 = number(name, &value)?;
                // In libpq zero means no limit, which ours always has.
                self.connect_timeout =
                    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
            }
            "application_name" => self.application_name = Some(value),
            "target_session_attrs" => {
                let words = [
                    ("any", Target::Any),
                    ("read-write", Target::ReadWrite),
                    ("primary", Target::ReadWrite),
                    ("read-only", Target::ReadOnly),
                    ("standby", Target::ReadOnly),
                ];
                self.target = Some(one_of(name, &value, &words)?);
            }
            "load_balance_hosts" => {
                self.shuffled = one_of(name, &value, &[("disable", false), ("random", true)])?;
            }
            "options" => self.options = Some(value),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Dsn> {
        let hosts = self.places()?;
        if self.user.is_empty() {
            return Err(Error::invalid("the database address names no user"));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(Error::invalid(
                "sslcert and sslkey of the database address belong together",
            ));
        }
        Ok(Dsn {
            hosts,
            shuffled: self.shuffled,
            dbname: if self.dbname.is_empty() {
                self.user.clone()
            } else {
                self.dbname
            },
            user: self.user,
            password: self.password.map(Password),
            ssl: Ssl {
                mode: self.mode.unwrap_or(SslMode::Prefer),
                cert: self.cert,
                key: self.key,
                root: self.root,
                only_13: self.only_13,
            },
            binding: self.binding.unwrap_or(Binding::Prefer),
            connect_timeout: self.connect_timeout,
            application_name: self.application_name,
            target: self.target.unwrap_or(Target::Any),
            options: self.options,
        })
    }

    fn places(&self) -> Result<Vec<Host>> {
        let (hosts, addresses) = (&self.hosts, &self.addresses);
        let count = hosts.len().max(addresses.len());
        if count == 0 {
            return Err(Error::invalid("the database address names no host"));
        }
        if count > MAX_HOSTS {
            return Err(Error::invalid("the database address names too many hosts")
                .with("limit", MAX_HOSTS));
        }
        let fits = |length: usize| length == 0 || length == count;
        if !fits(hosts.len())
            || !fits(addresses.len())
            || self.ports.len() > 1 && !fits(self.ports.len())
        {
            return Err(Error::invalid(
                "the database address names unequal numbers of hosts, addresses and ports",
            ));
        }
        (0..count).map(|index| self.host(index)).collect()
    }

    fn host(&self, index: usize) -> Result<Host> {
        let address = self.addresses.get(index).filter(|text| !text.is_empty());
        let address: Option<IpAddr> = address.map(|text| number("hostaddr", text)).transpose()?;
        let port = self.ports.get(index).or_else(|| self.ports.first());
        let port = match port.map_or("", String::as_str) {
            "" => DEFAULT_PORT,
            text => number("port", text)?,
        };
        let name = self.hosts.get(index).cloned().unwrap_or_default();
        let place = match (name, address) {
            (name, _) if name.starts_with('/') => Place::Socket(name.into()),
            (name, Some(address)) if name.is_empty() => Place::Tcp(address.to_string(), None),
            (name, _) if name.is_empty() => {
                return Err(Error::invalid("the database address names no host"));
            }
            (name, address) => Place::Tcp(name, address),
        };
        Ok(Host { place, port })
    }
}

/// A host and what follows its colon; an IPv6 address is in brackets.
fn split_port(host: &str) -> Result<(&str, &str)> {
    let Some(rest) = host.strip_prefix('[') else {
        return Ok(host.split_once(':').unwrap_or((host, "")));
    };
    let wrong = || Error::invalid("a host of the database address has no closing bracket");
    let (name, rest) = rest.split_once(']').ok_or_else(wrong)?;
    Ok((name, rest.strip_prefix(':').unwrap_or(rest)))
}

fn ssl_mode(value: &str) -> Result<SslMode> {
    if value == "allow" {
        return Err(Error::invalid(
            "sslmode=allow prefers plain text and is not supported; use prefer or, better, verify-full",
        ));
    }
    let words = [
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    one_of("sslmode", value, &words)
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| {
        Error::invalid("a parameter of the database address has a wrong value")
            .with("parameter", name)
            .with("value", value)
    })
}

fn one_of<T: Copy>(name: &str, value: &str, words: &[(&str, T)]) -> Result<T> {
    let found = words.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Error::invalid("a parameter of the database address has a wrong value")
            .with("parameter", name)
            .with("value", value)
            .with("known", known.join(" "))
    })
}

fn unknown(name: &str) -> Error {
    let err = Error::invalid("unknown parameter of the database address").with("parameter", name);
    let near = PARAMETERS
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match near {
        Some((_, known)) => err.with("did you mean", known),
        None => err,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Dsn {
        Dsn::parse(url).expect("a valid address")
    }

    #[track_caller]
    fn refused(url: &str, says: &str) {
        let err = Dsn::parse(url).expect_err("an invalid address").to_string();
        assert!(err.contains(says), "{err}");
        assert!(!err.contains("hunter2"), "{err}");
    }

    #[test]
    fn an_address_has_all_its_parts() {
        let dsn = parsed(
            "postgresql://ann:hunter%322@db.example:6432/app%20data?sslmode=verify-full\
            &sslcert=/c.pem&sslkey=/k.pem&sslrootcert=/ca.pem&ssl_min_protocol_version=TLSv1.3\
            &connect_timeout=7&application_name=x&target_session_attrs=primary\
            &channel_binding=require&load_balance_hosts=random",
        );
        assert_eq!(dsn.user, "ann");
        assert_eq!(dsn.password, Some(Password("hunter22".into())));
        assert_eq!(dsn.dbname, "app data");
        assert_eq!(dsn.hosts[0].to_string(), "db.example:6432");
        assert_eq!(dsn.ssl.mode, SslMode::VerifyFull);
        assert_eq!(dsn.ssl.cert, Some("/c.pem".into()));
        assert_eq!(dsn.ssl.key, Some("/k.pem".into()));
        assert_eq!(dsn.ssl.root, Some("/ca.pem".into()));
        assert!(dsn.ssl.only_13 && dsn.shuffled);
        assert_eq!(dsn.connect_timeout, Some(Duration::from_secs(7)));
        assert_eq!(dsn.application_name.as_deref(), Some("x"));
        assert_eq!(
            (dsn.target, dsn.binding),
            (Target::ReadWrite, Binding::Require)
        );
        assert_eq!(dsn.strength(), Strength::Full);
    }

    #[test]
    fn what_is_not_said_is_as_in_libpq() {
        let dsn = parsed("postgres://ann@db");
        assert_eq!((dsn.dbname.as_str(), dsn.hosts[0].port), ("ann", 5432));
        assert_eq!(dsn.ssl.mode, SslMode::Prefer);
        assert_eq!(dsn.password, None);
        let dsn = parsed("postgres://ann@db?connect_timeout=0&sslrootcert=system");
        assert_eq!((dsn.connect_timeout, dsn.ssl.root), (None, None));
    }

    #[test]
    fn there_may_be_several_hosts() {
        let shown =
            |url: &str| -> Vec<String> { parsed(url).hosts.iter().map(Host::to_string).collect() };
        assert_eq!(
            shown("postgres://u@a,b:1,[::1]:2/d"),
            ["a:5432", "b:1", "[::1]:2"]
        );
        assert_eq!(shown("postgres://u@/d?host=a,b&port=7"), ["a:7", "b:7"]);
        assert_eq!(
            shown("postgres://u@%2Frun%2Fpg:7/d"),
            ["/run/pg/.s.PGSQL.7"]
        );
        assert_eq!(
            shown("postgres:///d?user=u&host=/run/pg"),
            ["/run/pg/.s.PGSQL.5432"]
        );
        let dsn = parsed("postgres://u@db.example/d?hostaddr=10.0.0.7");
        let address = "10.0.0.7".parse().ok();
        assert_eq!(dsn.hosts[0].place, Place::Tcp("db.example".into(), address));
        refused("postgres://u@a,b:1,c/d?port=1,2", "unequal numbers");
        refused("postgres://u@a,,b/d", "names no host");
        refused(
            &format!("postgres://u@{}", ["a"; 17].join(",")),
            "too many hosts",
        );
    }

    #[test]
    fn what_is_wrong_is_refused() {
        refused("host=db password=hunter2", "begins with postgres://");
        refused("postgres://db/d", "names no user");
        refused("postgres://u:hunter2@/d", "names no host");
        refused("postgres://u:hunter2@db:x/d", "parameter: port");
        refused("postgres://u:hunter2%ff@db/d", "part: password");
        refused("postgres://u:hunter2%00@db/d", "part: password");
        refused(
            "postgres://u:hunter2@db/d?sslmod=require",
            "did you mean: sslmode",
        );
        refused("postgres://u:hunter2@db/d?xyzzy=1", "parameter: xyzzy");
        refused(
            "postgres://u:hunter2@db/d?sslmode=verify",
            "known: disable prefer",
        );
        refused("postgres://u:hunter2@db/d?sslmode=allow", "verify-full");
        refused("postgres://u:hunter2@db/d?sslcert=/c", "belong together");
        refused(
            "postgres://u@db/d?ssl_min_protocol_version=TLSv1.1",
            "known: TLSv1.2 TLSv1.3",
        );
        refused("postgres://u@[::1/d", "no closing bracket");
        refused("postgres://u@db/d?sslmode", "has no value");
    }

    #[test]
    fn the_strength_is_that_of_the_weakest_connection() {
        let strength = |rest: &str| parsed(&format!("postgres://u@{rest}")).strength();
        assert_eq!(strength("db"), Strength::Plain);
        assert_eq!(strength("db?sslmode=disable"), Strength::Plain);
        assert_eq!(strength("db?sslmode=require"), Strength::Encrypted);
        assert_eq!(
            strength("db?sslmode=require&sslrootcert=/ca"),
            Strength::Authority
        );
        assert_eq!(strength("db?sslmode=verify-ca"), Strength::Authority);
        assert_eq!(strength("db?sslmode=verify-full"), Strength::Full);
        assert_eq!(strength("%2Frun"), Strength::Full);
        assert_eq!(strength("%2Frun,db"), Strength::Plain);
        assert!(Strength::Plain < Strength::Encrypted && Strength::Authority < Strength::Full);
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = format!("{:?}", parsed("postgres://u:hunter2@db"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
