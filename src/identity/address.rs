//! The client's address: the socket's, unless a proxy that is trusted says whose connection it passes on.
//!
//! `X-Forwarded-For` is read from its end, where the nearest proxy wrote. As long as the writer is trusted its word is
//! taken; the first address that is not a trusted proxy is the client, and what stands before it was written by the client
//! and is worth nothing. So nobody can add a line that buys a second bucket.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use tidegate_filters::engine::RequestHead;

#[cfg(test)]
mod tests;

/// Whether `address` is in one of `networks`.
pub(super) fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// `networks`, with IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) brought to IPv4, like addresses are.
pub(super) fn canonical(networks: &[IpNet]) -> Box<[IpNet]> {
    networks.iter().map(|&network| mapped(network).unwrap_or(network)).collect()
}

fn mapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else { return None };
    let length = v6.prefix_len().checked_sub(96)?;
    Some(IpNet::V4(Ipv4Net::new(v6.addr().to_ipv4_mapped()?, length).ok()?))
}

/// The client behind `peer`, in canonical form (never IPv4 written as IPv6).
pub(super) fn client(trusted: &[IpNet], peer: IpAddr, head: &RequestHead<'_>) -> IpAddr {
    let mut nearest = peer.to_canonical();
    if !within(trusted, nearest) {
        return nearest;
    }
    // Several lines are one list (RFC 9110, section 5.3), so the last line is the nearest.
    for (name, value) in head.headers.iter().rev() {
        if !name.eq_ignore_ascii_case(b"x-forwarded-for") {
            continue;
        }
        for hop in value.rsplit(|&byte| byte == b',') {
            // Past a word that is no address (`unknown`, an empty one) nobody known to be honest has written.
            let Some(hop) = parse(hop.trim_ascii()) else { return nearest };
            nearest = hop;
            if !within(trusted, nearest) {
                return nearest;
            }
        }
    }
    nearest
}

/// An address as proxies write them: bare, in brackets, or with a port.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = hop.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}
