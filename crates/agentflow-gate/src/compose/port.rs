//! The short form of a published port: `address:published:target/protocol`.

use std::net::IpAddr;

/// Most ports that the ranges of one load may stand for.
pub const MAX_PORTS: usize = 262_144;

/// One published port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) address: String,
    pub(super) published: String,
    pub(super) target: u16,
    pub(super) protocol: &'static str,
}

/// Reads the short form; a range gives a port for each number, sorted as text.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(spec: &str) -> Result<Vec<Port>, String> {
    let (rest, target) = spec.rsplit_once(':').unwrap_or(("", spec));
    let (address, published) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (target, protocol) = target.split_once('/').unwrap_or((target, ""));
    let protocol = match protocol
        .split('/')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => return Err(format!("`{spec}`: the protocol `{other}` is not known")),
    };
    let address = match address.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| wrong(spec, "address"))?,
        None => address,
    };
    if !address.is_empty() && !is_address(address) {
        return Err(wrong(spec, "address"));
    }
    let (first, last) = range(target).ok_or_else(|| wrong(spec, "container port"))?;
    let host = match published {
        "" => None,
        text => Some(range(text).ok_or_else(|| wrong(spec, "published port"))?),
    };
    if let Some((start, end)) = host
        && end - start != last - first
        && first != last
    {
        return Err(format!("`{spec}`: the two ranges have different lengths"));
    }
    let published = |offset: u16| match host {
        None => String::new(),
        Some((start, end)) if first == last && start != end => format!("{start}-{end}"),
        Some((start, _)) => u32::from(start)
            .saturating_add(u32::from(offset))
            .to_string(),
    };
    let mut ports: Vec<Port> = (first..=last)
        .map(|target| Port {
            address: address.to_owned(),
            published: published(target - first),
            target,
            protocol,
        })
        .collect();
    ports.sort_by_cached_key(|port| format!("{}/{}", port.target, port.protocol));
    Ok(ports)
}

fn wrong(spec: &str, part: &str) -> String {
    format!("`{spec}`: the {part} is not valid")
}

/// Whether this is an address without a zone.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn range(text: &str) -> Option<(u16, u16)> {
    let digits = |text: &str| {
        let only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| only)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (digits(first)?, digits(last)?),
        None => (digits(text)?, digits(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: &[(&str, &str, u16, &str)]) {
        let ports = parse(spec).expect(spec);
        let ports: Vec<_> = ports
            .iter()
            .map(|it| {
                (
                    it.address.as_str(),
                    it.published.as_str(),
                    it.target,
                    it.protocol,
                )
            })
            .collect();
        assert_eq!(ports, expected, "{spec}");
    }

    #[test]
    fn short_forms_are_taken_apart() {
        check("80", &[("", "", 80, "tcp")]);
        check("8080:80/UDP", &[("", "8080", 80, "udp")]);
        check("127.0.0.1::80", &[("127.0.0.1", "", 80, "tcp")]);
        check("[::1]:5:6", &[("::1", "5", 6, "tcp")]);
        check("1-3:80", &[("", "1-3", 80, "tcp")]);
        check("9-10:9-10", &[("", "10", 10, "tcp"), ("", "9", 9, "tcp")]);
        for wrong in [
            "",
            "80:",
            "a:80",
            "80/foo",
            "1-3:80-81",
            "99999",
            "3-1",
            "x:1:2",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
