//! Creates and removes, many times: the host must hold afterwards what it held before.

use anyhow::{Result, ensure};

use super::{Bench, Figure};
use crate::host::{self, Footprint};
use crate::shoal::{Shoal, request};

pub(super) const BENCH: Bench = Bench {
    name: "leak",
    about: "what 1,000 creates and removes leave behind: processes, descriptors, files, sockets, cgroups, memory",
    run,
};

const RUNS: usize = 1000;
/// Creates and removes before the first count: whatever is made once is there then.
const WARM: usize = 50;
/// How many VMs there are at a time.
const AT_ONCE: usize = 5;

/// What is held before and after.
#[derive(Clone, Debug)]
pub struct Leak {
    /// Before the first create.
    pub before: Footprint,
    /// After the last removal.
    pub after: Footprint,
    /// The daemon's own memory (KiB), before and after.
    pub memory_kib: (u64, u64),
}

fn run(runs: Option<usize>, _: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let leak = measure(runs)?;
    let pairs = [
        (
            "monitors",
            leak.before.processes.len(),
            leak.after.processes.len(),
        ),
        (
            "children of vmd",
            leak.before.children.len(),
            leak.after.children.len(),
        ),
        (
            "descriptors of vmd",
            leak.before.descriptors,
            leak.after.descriptors,
        ),
        ("files", leak.before.files.len(), leak.after.files.len()),
        ("sockets", leak.before.sockets, leak.after.sockets),
        (
            "cgroups on the host",
            leak.before.cgroups,
            leak.after.cgroups,
        ),
    ];
    let mut figures: Vec<Figure> = pairs
        .into_iter()
        .map(|(what, before, after)| {
            Figure::single("leak", format!("{what}, after"), after as f64, "")
                .of_runs(runs)
                .beside("before", before as f64)
        })
        .collect();
    let (before, after) = leak.memory_kib;
    figures.push(
        Figure::single(
            "leak",
            "memory of vmd (anonymous), after",
            after as f64 / 1024.0,
            "MiB",
        )
        .of_runs(runs)
        .beside("before", before as f64 / 1024.0),
    );
    Ok(figures)
}

/// Creates and removes `runs` VMs.
///
/// # Errors
/// Where a create or a removal is refused.
pub fn measure(runs: usize) -> Result<Leak> {
    let shoal = Shoal::start();
    churn(&shoal, WARM.min(runs))?;
    let before = shoal.at_rest();
    let memory_before = memory(&shoal);
    churn(&shoal, runs)?;
    let after = shoal.at_rest();
    Ok(Leak {
        before,
        after,
        memory_kib: (memory_before, memory(&shoal)),
    })
}

fn memory(shoal: &Shoal) -> u64 {
    host::status_kib(shoal.pid(), "RssAnon").unwrap_or(0)
}

fn churn(shoal: &Shoal, count: usize) -> Result<()> {
    let socket = &shoal.socket();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|client| {
                scope.spawn(move || {
                    for n in (client..count).step_by(AT_ONCE) {
                        // Some end by themselves, some are ended.
                        let args = if n % 2 == 0 { r#"["--wait"]"# } else { "[]" };
                        let body =
                            format!(r#"{{"image":"hello","args":{args},"timeout_ms":120000}}"#);
                        let (_, vm) = request(socket, "POST", "/v1/vms", &body);
                        let Some(id) = vm["id"].as_str() else {
                            anyhow::bail!("a create was refused: {vm}");
                        };
                        let until = if n % 2 == 0 { "running" } else { "ended" };
                        let _ = request(
                            socket,
                            "GET",
                            &format!("/v1/vms/{id}/wait?until={until}"),
                            "",
                        );
                        let (status, answer) =
                            request(socket, "DELETE", &format!("/v1/vms/{id}?force=true"), "");
                        ensure!(
                            status == 200 || status == 204,
                            "no removal: {status} {answer}"
                        );
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })
}
