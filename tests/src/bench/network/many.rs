//! Many connections to a memcached: each writes a value of its own and reads it again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

/// How long one may take for a connection, or for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Threads that open and ask: more would wait for a guest that is emulated until they send all again, which makes it slower still.
pub(super) const CLIENTS: usize = 4;

/// What became of the connections.
#[derive(Debug)]
pub(super) struct Outcome {
    /// How many did not get the right answer.
    pub(super) failed: usize,
    /// The first failure, in words.
    pub(super) first: Option<String>,
    /// From the first connection to the last answer.
    pub(super) took: Duration,
}

/// Opens `count` connections, some at a time, each for one request.
pub(super) fn in_turn(server: SocketAddr, count: usize) -> Outcome {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let failures = each_client(|_| {
        let mut failures = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return failures;
            }
            let asked = connect(server).and_then(|mut stream| ask(&mut stream, number));
            failures.extend(asked.err());
        }
    });
    outcome(failures, began)
}

/// Opens `count` connections, and only when all are open asks by each. Says how many the server had then, too.
pub(super) fn at_once(server: SocketAddr, count: usize) -> Result<(Outcome, u64)> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("more files cannot be open")?;
    let (opened, counted) = (Barrier::new(CLIENTS + 1), Barrier::new(CLIENTS + 1));
    let began = Instant::now();
    thread::scope(|scope| {
        let clients = scope.spawn(|| {
            each_client(|client| {
                let numbers = (client..count).step_by(CLIENTS);
                let streams: Vec<_> = numbers.map(|n| (n, connect(server))).collect();
                opened.wait();
                counted.wait();
                let asked = streams
                    .into_iter()
                    .map(|(n, stream)| stream.and_then(|mut stream| ask(&mut stream, n)));
                asked.filter_map(Result::err).collect()
            })
        });
        opened.wait();
        let open = connections(server);
        counted.wait();
        let failures = clients.join().expect("no client panics");
        // This one asked as well.
        Ok((outcome(failures, began), open?.saturating_sub(1)))
    })
}

fn outcome(failures: Vec<anyhow::Error>, began: Instant) -> Outcome {
    Outcome {
        failed: failures.len(),
        first: failures.first().map(|error| format!("{error:#}")),
        took: began.elapsed(),
    }
}

/// What all clients failed at.
fn each_client(client: impl Fn(usize) -> Vec<anyhow::Error> + Sync) -> Vec<anyhow::Error> {
    let client = &client;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        let failures = clients.into_iter().map(|client| client.join());
        failures
            .flat_map(|f| f.expect("no client panics"))
            .collect()
    })
}

/// A connection that does not wait for ever.
pub(super) fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Writes a value that no other number has, and reads it again.
pub(super) fn ask(stream: &mut TcpStream, number: usize) -> Result<()> {
    let value = format!("value {number} of {}", number.wrapping_mul(0x9E37_79B9));
    let length = value.len();
    let request = format!("set k{number} 0 0 {length}\r\n{value}\r\nget k{number}\r\n");
    let right = format!("STORED\r\nVALUE k{number} 0 {length}\r\n{value}\r\nEND\r\n");
    stream.write_all(request.as_bytes()).context("no request")?;
    let mut answer = vec![0; right.len()];
    stream.read_exact(&mut answer).context("no answer")?;
    ensure!(
        answer == right.as_bytes(),
        "a wrong answer: {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// How many connections the server has.
fn connections(server: SocketAddr) -> Result<u64> {
    let mut stream = connect(server)?;
    stream.write_all(b"stats\r\nquit\r\n")?;
    let mut stats = String::new();
    stream.read_to_string(&mut stats)?;
    let open = stats.lines().find_map(|line| {
        let open = line.strip_prefix("STAT curr_connections ")?;
        open.trim().parse().ok()
    });
    open.with_context(|| format!("the server does not say how many: {stats}"))
}
