//! Creates through `vmd`'s own interface: one after the other, and fifty at once.
//!
//! A create is a `POST` that is answered once the VM's monitor was started; each VM is then waited for until it runs, and
//! removed. *Per core-second* is by wall clock and all of the host's processors, idle or not: what a host gives, not what one
//! process used. Beside the creates: what an idle monitor costs in memory, and how large the program is.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Bench, Figure, Samples};
use crate::shoal::{Shoal, request, settles};
use crate::{host, place};

pub(super) const BENCH: Bench = Bench {
    name: "create",
    about: "creates through vmd per core-second, an idle monitor's memory, the monitor's size",
    run,
};

const RUNS: usize = 200;
/// How many clients create at once.
const AT_ONCE: usize = 50;

fn run(runs: Option<usize>, _: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let shoal = Shoal::start();
    let mut figures = Vec::new();
    // Whatever is made once is made now.
    round(&shoal.socket(), 3, 1)?;
    for (figure, count, clients) in [
        ("one after the other", runs, 1),
        ("50 at once", runs.next_multiple_of(AT_ONCE), AT_ONCE),
    ] {
        let round = round(&shoal.socket(), count, clients)?;
        settles("the monitors' end", || shoal.monitors().is_empty());
        let cores = std::thread::available_parallelism()?.get() as f64;
        let rate = |time: Duration| count as f64 / time.as_secs_f64() / cores;
        figures.push(
            Figure::single(
                "create",
                format!("creates, {figure}"),
                rate(round.created),
                "per core-second",
            )
            .of_runs(count),
        );
        figures.push(
            Figure::single(
                "create",
                format!("create to removed, {figure}"),
                rate(round.whole),
                "per core-second",
            )
            .of_runs(count),
        );
        figures.push(
            round
                .answer
                .figure("create", format!("answer to a create, {figure}"), "ms"),
        );
        figures.push(
            round
                .running
                .figure("create", format!("asked to running, {figure}"), "ms"),
        );
    }
    figures.extend(idle_memory(&shoal)?);
    let size = place::program("vmm").metadata()?.len();
    figures.push(Figure::single(
        "create",
        "size of vmm",
        size as f64 / 1048576.0,
        "MiB",
    ));
    Ok(figures)
}

struct Round {
    /// Until every VM was seen running.
    created: Duration,
    /// Until every VM was removed.
    whole: Duration,
    answer: Samples,
    running: Samples,
}

/// Creates `count` VMs by `clients` at once, sees each running, removes each.
fn round(socket: &Path, count: usize, clients: usize) -> Result<Round> {
    let start = Instant::now();
    let made = each_client(clients, |_| {
        (0..count / clients)
            .map(|_| {
                let asked = Instant::now();
                let body = r#"{"image":"hello","args":["--wait"],"timeout_ms":120000}"#;
                let (status, vm) = request(socket, "POST", "/v1/vms", body);
                ensure!(
                    status == 201 || status == 200,
                    "a create was refused: {status} {vm}"
                );
                let answer = asked.elapsed();
                let id = text(&vm, "id")?;
                let (_, vm) = request(
                    socket,
                    "GET",
                    &format!("/v1/vms/{id}/wait?until=running"),
                    "",
                );
                ensure!(text(&vm, "state")? == "running", "it does not run: {vm}");
                Ok((id, answer, asked.elapsed()))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let created = start.elapsed();
    each_client(clients, |client| {
        for (id, ..) in &made[client] {
            let (status, answer) =
                request(socket, "DELETE", &format!("/v1/vms/{id}?force=true"), "");
            ensure!(
                status == 200 || status == 204,
                "a removal was refused: {status} {answer}"
            );
        }
        Ok(())
    })?;
    let whole = start.elapsed();
    let (mut answer, mut running) = (Samples::default(), Samples::default());
    for (_, answered, ran) in made.iter().flatten() {
        answer.add_ms(*answered);
        running.add_ms(*ran);
    }
    ensure!(answer.len() == count / clients * clients, "VMs were lost");
    Ok(Round {
        created,
        whole,
        answer,
        running,
    })
}

fn each_client<T: Send>(
    clients: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..clients).map(|n| scope.spawn(move || work(n))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))?
            })
            .collect()
    })
}

/// What an idle VM's monitor holds, its guest's own pages left out.
fn idle_memory(shoal: &Shoal) -> Result<Vec<Figure>> {
    let mut samples = Samples::default();
    for _ in 0..10 {
        let body = r#"{"image":"hello","args":["--wait"],"timeout_ms":120000}"#;
        let (_, vm) = request(&shoal.socket(), "POST", "/v1/vms", body);
        let id = text(&vm, "id")?;
        let path = format!("/v1/vms/{id}/wait?until=running");
        let (_, vm) = request(&shoal.socket(), "GET", &path, "");
        let pid = vm["monitor_pid"].as_u64().context("no monitor")? as u32;
        // It is idle once it has greeted.
        settles("the greeting", || {
            shoal.vmctl(&["logs", &id]).stdout.contains("Hello")
        });
        let kib = host::pss_kib(pid, "memfd:").context("the monitor is gone")?;
        samples.add(kib as f64 / 1024.0);
    }
    let vms: Vec<String> = shoal.states().into_iter().map(|(name, _)| name).collect();
    let names: Vec<&str> = vms.iter().map(String::as_str).collect();
    shoal.ok(&[&["rm", "-f"], &names[..]].concat());
    Ok(vec![samples.figure(
        "create",
        "idle monitor, PSS less guest pages",
        "MiB",
    )])
}

fn text(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().map(str::to_owned);
    text.with_context(|| format!("no `{key}` in {value}"))
}
