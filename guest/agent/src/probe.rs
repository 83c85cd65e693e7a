//! Whether a service on loopback answers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use abi::agent::reply::Healthy;
use abi::agent::request::Probe;

/// Looks, and takes at most `timeout` for it.
pub(crate) fn probe(probe: &Probe, timeout: Duration) -> Healthy {
    let until = Instant::now() + timeout;
    let found = match probe {
        Probe::Tcp { port } => connect(*port, until).map(|_| Healthy::new(true, "connected")),
        Probe::Http { port, path } => ask(*port, path, until),
        // The loop runs programs: see `Server::probe`.
        Probe::Exec { .. } => Err(io::ErrorKind::Unsupported.into()),
    };
    found.unwrap_or_else(|error| Healthy::new(false, error))
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// By IPv4 first: most servers listen there, if anywhere.
fn connect(port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::TimedOut.into();
    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(port: u16, path: &str, until: Instant) -> io::Result<Healthy> {
    let mut stream = connect(port, until)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 64];
    // The status line's first words: `HTTP/1.1 200`.
    while answer.len() < 12 {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(judge(&answer))
}

fn judge(answer: &[u8]) -> Healthy {
    let line = answer
        .get(..12)
        .and_then(|line| std::str::from_utf8(line).ok());
    let status = line.and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..)?.parse::<u16>().ok());
    match status {
        Some(status) => Healthy::new(
            (200..400).contains(&status),
            format_args!("HTTP status {status}"),
        ),
        None => Healthy::new(false, "the answer is not HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides() {
        let judged = |answer: &[u8]| (judge(answer).healthy, judge(answer).detail);
        assert_eq!(
            judged(b"HTTP/1.1 200 OK\r\n"),
            (true, "HTTP status 200".into())
        );
        assert_eq!(judged(b"HTTP/1.0 302"), (true, "HTTP status 302".into()));
        assert_eq!(
            judged(b"HTTP/1.1 503 No"),
            (false, "HTTP status 503".into())
        );
        for answer in [
            &b""[..],
            b"HTTP/1.1 2",
            b"SSH-2.0-x 200 OK",
            b"HTTP/1.1 \xff00",
        ] {
            assert!(!judge(answer).healthy, "{answer:?}");
        }
    }
}
