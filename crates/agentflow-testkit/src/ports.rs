//! Free ports for processes that must be told their port.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

/// A loopback port that is free now. Another process may take it before it is used; prefer
/// port 0 where the process can report what it got.
///
/// # Errors
/// If the system has no port left.
pub fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// `count` different ports that are free now.
///
/// # Errors
/// As [`free`].
pub fn free_many(count: usize) -> io::Result<Vec<u16>> {
    // All are held until the last is found, so that none is found twice.
    let held: io::Result<Vec<TcpListener>> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect();
    held?
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let mut ports = free_many(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, free().unwrap())).is_ok());
    }
}
