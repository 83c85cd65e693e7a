//! iperf3: one stream of TCP for some seconds, by its own count of what arrived.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shoal::Follower;

/// What every measurement runs for.
const SECONDS: &str = "5";

/// Starts a server and waits until it listens. It is gone when the answer is.
pub(super) fn server(mut command: Command) -> Follower {
    command.args(["iperf3", "--server", "--forceflush"]);
    let mut server = Follower::start(command);
    let _listening = server.until("Server listening");
    server
}

/// Megabits a second that arrived, from the client that `command` runs or, where `reverse`, to it.
pub(super) fn client(mut command: Command, to: &str, port: u16, reverse: bool) -> Result<f64> {
    // Random bytes to send would take a guest that is emulated longer than to send them.
    command.args(["iperf3", "--json", "--repeating-payload"]);
    command.args(["--time", SECONDS, "--client", to]);
    command.args(["--port", &port.to_string()]);
    command.args(reverse.then_some("--reverse"));
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "iperf3 to {to} failed: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Value = serde_json::from_str(&said).context("iperf3 printed no JSON")?;
    let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 gave no sum: {said}"))? / 1e6)
}
