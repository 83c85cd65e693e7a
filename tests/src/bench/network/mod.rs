//! The network of Linux guests, as their owner has it: `vmctl`, `vmd`, a bridge, published ports.
//!
//! ```text
//!  iperf3 on the host ── loopback ── iperf3 on the host              the reference
//!         └──── published port ── bridge ── tap ── iperf3 in guest a
//!  iperf3 in guest b ── tap ────────┘
//!  10,000 clients ──── published port ──────────── memcached in guest a
//! ```
//! All of it is in a network namespace of its own, and gone with it. The image comes from a recipe, as a user's would.

mod iperf;
mod many;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use vmm::host;

use super::{Bench, Figure, Samples};
use crate::network;
use crate::shoal::Shoal;

pub(super) const BENCH: Bench = Bench {
    name: "network",
    about: "iperf3 between two Linux guests and the host, beside the host's loopback; 10,000 connections through a published port",
    run,
};

const NAME: &str = "network";
const RUNS: usize = 3;
const RECIPE: &str = include_str!("image.toml");
const IMAGE: &str = "network-bench";
const IPERF: u16 = 5201;
const MEMCACHED: u16 = 11211;
/// Room for the sockets of all connections.
const MEMORY: &str = "256M";
/// No guest outlives this.
const DEADLINE: &str = "1h";
/// Connections that are open at once.
const CONNECTIONS: usize = 10_000;
/// Connections, a few at a time.
const TURNS: usize = 2_000;
/// Requests, one after the other, by one connection.
const REQUESTS: usize = 200;

fn run(runs: Option<usize>, notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    if Command::new("iperf3").arg("--version").output().is_err() {
        notes.push("network: not measured, as iperf3 is missing (package iperf3)".to_owned());
        return Ok(Vec::new());
    }
    let emulated = host::probe()?.ring0_emulated;
    if emulated {
        notes.push(
            "this host emulates ring 0: every instruction of a guest's TCP, and every copy to and from its programs, costs a \
             thousand times what it does on hardware; figures of guests are in proportion to that"
                .to_owned(),
        );
    }
    // Packages come from outside, where the guests' network has no way.
    let mut shoal = Shoal::start();
    build(&shoal)?;
    shoal.end_daemon();
    network::own(|| {
        shoal.start_daemon();
        measure(&shoal, runs.unwrap_or(RUNS), notes)
    })
}

fn measure(shoal: &Shoal, runs: usize, notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    for guest in ["a", "b"] {
        let create = ["create", "--wait=ready", "--timeout", DEADLINE];
        let ports = ["-p", "127.0.0.1:0:5201", "-p", "127.0.0.1:0:11211"];
        let rest = ["--memory", MEMORY, "--name", guest, IMAGE];
        shoal.ok(&[&create[..], &ports, &rest].concat());
    }
    let mut figures = throughput(shoal, runs)?;
    figures.push(latency(shoal)?);
    figures.extend(connections(shoal, notes)?);
    Ok(figures)
}

fn build(shoal: &Shoal) -> Result<()> {
    let recipe = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(&recipe, RECIPE)?;
    shoal.ok(&["image", "build", &recipe.path().to_string_lossy()]);
    Ok(())
}

/// Where a port of guest `a` is on the host.
fn published(shoal: &Shoal, port: u16) -> Result<SocketAddr> {
    let said = shoal.ok(&["port", "a", &port.to_string()]);
    said.parse()
        .with_context(|| format!("no address of the host: {said:?}"))
}

/// Who runs iperf3's client; its server is in guest `a`.
#[derive(Clone, Copy)]
enum Client {
    Host,
    GuestB,
}

/// A way that bytes go: its name, who calls, and whether the bytes come back instead.
const WAYS: [(&str, Client, bool); 4] = [
    ("host to guest", Client::Host, false),
    ("guest to host", Client::Host, true),
    ("guest b to guest a", Client::GuestB, false),
    ("guest a to guest b", Client::GuestB, true),
];

fn throughput(shoal: &Shoal, runs: usize) -> Result<Vec<Figure>> {
    let host = || Command::new("env");
    let _on_host = iperf::server(host());
    let _in_guest = iperf::server(shoal.vmctl_command(&["exec", "a"]));
    let at = published(shoal, IPERF)?;
    let mut loopback = Samples::default();
    let mut ways = WAYS.map(|way| (way, Samples::default(), Samples::default()));
    for _ in 0..runs {
        loopback.add(iperf::client(host(), "127.0.0.1", IPERF, false)?);
        for ((_, client, back), rate, frame) in &mut ways {
            let (command, to, port) = match client {
                Client::Host => (host(), at.ip().to_string(), at.port()),
                Client::GuestB => (shoal.vmctl_command(&["exec", "b"]), "a".to_owned(), IPERF),
            };
            let before = frames(shoal, *back);
            rate.add(iperf::client(command, &to, port, *back)?);
            let after = frames(shoal, *back);
            frame.add((after.1 - before.1) / (after.0 - before.0).max(1.0));
        }
    }
    let mut figures = vec![loopback.figure(NAME, "loopback of the host", "Mbit/s")];
    for ((name, ..), rate, frame) in ways {
        let rate = rate.figure(NAME, name, "Mbit/s");
        figures.push(rate.beside("loopback", loopback.median()));
        figures.push(frame.figure(NAME, "  a frame of it, in the middle", "bytes"));
    }
    Ok(figures)
}

/// Frames that guest `a` has sent, or received, and their bytes.
fn frames(shoal: &Shoal, sent: bool) -> (f64, f64) {
    let (_, stats) = shoal.request("GET", "/v1/vms/a/stats", "");
    let count = |name: &str| stats["counters"][name].as_f64().unwrap_or_default();
    match sent {
        true => (count("net_sent"), count("net_sent_bytes")),
        false => (count("net_received"), count("net_received_bytes")),
    }
}

/// A question and its answer, through a published port.
fn latency(shoal: &Shoal) -> Result<Figure> {
    let mut times = Samples::default();
    let mut server = many::connect(published(shoal, MEMCACHED)?)?;
    for number in 0..REQUESTS {
        let asked = Instant::now();
        many::ask(&mut server, number)?;
        times.add_ms(asked.elapsed());
    }
    Ok(times.figure(NAME, "a request to memcached, and its answer", "ms"))
}

fn connections(shoal: &Shoal, notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    let server = published(shoal, MEMCACHED)?;
    let one = |name: &str, value: f64, unit| Figure::single(NAME, name, value, unit);
    let in_turn = many::in_turn(server, TURNS);
    let (at_once, open) = many::at_once(server, CONNECTIONS)?;
    let removed = Instant::now();
    shoal.ok(&["rm", "--force", "a"]);
    let removed = removed.elapsed().as_secs_f64() * 1e3;
    for outcome in [&in_turn, &at_once] {
        notes.extend(
            outcome
                .first
                .iter()
                .map(|e| format!("a connection failed: {e}")),
        );
    }
    let rate = |count, outcome: &many::Outcome| count as f64 / outcome.took.as_secs_f64();
    let turns = format!("{TURNS} connections, {} at a time", many::CLIENTS);
    let all = format!("{CONNECTIONS} connections, then a request by each");
    let open_at_once = one("  open at once, as memcached counts", open as f64, "");
    Ok(vec![
        one(&turns, rate(TURNS, &in_turn), "a second"),
        one("  failed", in_turn.failed as f64, ""),
        one(&all, rate(CONNECTIONS, &at_once), "a second"),
        open_at_once,
        one("  failed", at_once.failed as f64, ""),
        one("rm --force of a guest with them", removed, "ms"),
    ])
}
