//! Published ports.

use std::net::IpAddr;

use api::{Protocol, Publish};

/// Where it is on this host: `0.0.0.0:8080`.
pub(crate) fn host(port: &Publish) -> String {
    match port.host_ip {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{}", port.host_port),
        Some(IpAddr::V4(ip)) => format!("{ip}:{}", port.host_port),
        None => format!("*:{}", port.host_port),
    }
}

/// `80/tcp -> 0.0.0.0:8080`, as docker writes it.
pub(crate) fn line(port: &Publish) -> String {
    let protocol = protocol(port.protocol);
    format!("{}/{protocol} -> {}", port.guest_port, host(port))
}

/// `8080->80/tcp`, for a table.
pub(crate) fn short(ports: &[Publish]) -> String {
    let one = |port: &Publish| {
        let protocol = protocol(port.protocol);
        let from = match port.host_ip {
            Some(_) => host(port),
            None => port.host_port.to_string(),
        };
        format!("{from}->{}/{protocol}", port.guest_port)
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// As it is written behind a port.
pub(crate) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}
