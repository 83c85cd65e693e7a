//! The daemon is killed at random moments while VMs are created, stopped and removed; then it is started again.
//!
//! Each time: every VM whose create was answered is there (none lost), every living VM has one monitor and every monitor one VM
//! (none doubled), and every state is what the VM's own process says, within a second of the return.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Bench, Figure, Samples};
use crate::fuzz::Random;
use crate::host;
use crate::shoal::{Shoal, request};

pub(super) const BENCH: Bench = Bench {
    name: "recover",
    about: "kill -9 of vmd at 100 random moments under load: VMs lost, doubled, or in a wrong state a second later",
    run,
};

const RUNS: usize = 100;
/// How long the daemon has until everything must be right.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many clients make the load.
const CLIENTS: usize = 4;
/// How many VMs a client keeps.
const KEPT: usize = 3;

/// What went wrong over all kills, and how long right took.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// VMs that were there and are not.
    pub lost: usize,
    /// VMs with two monitors, or monitors without a VM.
    pub doubled: usize,
    /// VMs in a wrong state a second after the return.
    pub wrong: usize,
    /// VMs looked at, over all kills.
    pub seen: usize,
    /// From the daemon's start to everything right, in ms.
    pub right: Samples,
    /// What was wrong, in words.
    pub words: Vec<String>,
}

fn run(runs: Option<usize>, notes: &mut Vec<String>) -> Result<Vec<Figure>> {
    let runs = runs.unwrap_or(RUNS);
    let recovery = measure(runs, 0x5348_4F41)?;
    notes.extend(recovery.words.iter().cloned());
    let count = |figure: &str, value: usize| {
        Figure::single("recover", figure, value as f64, "VMs").of_runs(runs)
    };
    Ok(vec![
        count("seen after a kill, in all", recovery.seen),
        count("lost", recovery.lost),
        count("doubled", recovery.doubled),
        count("in a wrong state after a second", recovery.wrong),
        recovery
            .right
            .figure("recover", "vmd's start to every state right", "ms"),
    ])
}

/// What a client knows of a VM that it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    /// The create was answered, and nothing else was asked.
    Made,
    /// A stop or a removal was asked and not answered: either is right.
    Asked,
    /// It was stopped.
    Stopped,
}

type Known = Mutex<BTreeMap<String, Knows>>;

/// Kills the daemon `kills` times.
///
/// # Errors
/// Where the load cannot be made; what recovery got wrong is told in the answer.
pub fn measure(kills: usize, seed: u64) -> Result<Recovery> {
    let mut shoal = Shoal::start();
    let mut random = Random::new(seed);
    let known: Known = Mutex::default();
    let mut recovery = Recovery::default();
    for kill in 0..kills {
        let wait = Duration::from_micros(random.number() % 150_000);
        load(&mut shoal, &known, &mut random, wait);
        let start = Instant::now();
        shoal.start_daemon();
        let mut wrong = look(&shoal, &known)?;
        while !wrong.is_empty() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
            wrong = look(&shoal, &known)?;
        }
        let known = known.lock().expect("no client panicked");
        recovery.seen += known.len();
        if wrong.is_empty() {
            recovery.right.add_ms(start.elapsed());
        }
        for fault in wrong {
            match fault.kind {
                Kind::Lost => recovery.lost += 1,
                Kind::Doubled => recovery.doubled += 1,
                Kind::Wrong => recovery.wrong += 1,
            }
            recovery.words.push(format!("kill {kill}: {}", fault.words));
        }
    }
    if recovery.right.is_empty() {
        bail!("it never came right: {:?}", recovery.words);
    }
    Ok(recovery)
}

/// Clients at work; the daemon is killed after `wait`.
fn load(shoal: &mut Shoal, known: &Known, random: &mut Random, wait: Duration) {
    let over = AtomicBool::new(false);
    let socket = &shoal.socket();
    let over = &over;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut random = Random::new(random.number());
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    act(socket, known, client, &mut random);
                }
            });
        }
        std::thread::sleep(wait);
        shoal.kill_daemon();
        over.store(true, Ordering::Relaxed);
    });
}

/// One thing that a client does; a daemon that is gone in the middle of it leaves the client knowing less.
fn act(socket: &std::path::Path, known: &Known, client: usize, random: &mut Random) {
    let set = |name: &str, knows: Option<Knows>| {
        let mut known = known.lock().expect("no client panicked");
        match knows {
            Some(knows) => known.insert(name.to_owned(), knows),
            None => known.remove(name),
        };
    };
    let mine: Vec<String> = {
        let known = known.lock().expect("no client panicked");
        let prefix = format!("c{client}-");
        known
            .keys()
            .filter(|name| name.starts_with(&prefix))
            .cloned()
            .collect()
    };
    if mine.len() < KEPT {
        let name = format!("c{client}-{:x}", random.number() >> 24);
        let body =
            format!(r#"{{"name":"{name}","image":"hello","args":["--wait"],"timeout_ms":600000}}"#);
        // A create that was not answered may have come about or not: only what was answered is promised.
        let (status, _) = request(socket, "POST", "/v1/vms", &body);
        if status == 200 || status == 201 {
            set(&name, Some(Knows::Made));
        }
        return;
    }
    let name = &mine[random.below(mine.len())];
    set(name, Some(Knows::Asked));
    if random.below(2) == 0 {
        let path = format!("/v1/vms/{name}/stop");
        let (status, _) = request(socket, "POST", &path, r#"{"timeout_ms":5000}"#);
        if status == 200 {
            set(name, Some(Knows::Stopped));
        }
    } else {
        let path = format!("/v1/vms/{name}?force=true");
        let (status, _) = request(socket, "DELETE", &path, "");
        if status == 200 || status == 204 || status == 404 {
            set(name, None);
        }
    }
}

enum Kind {
    Lost,
    Doubled,
    Wrong,
}

struct Fault {
    kind: Kind,
    words: String,
}

/// Compares what the daemon says with what the clients know and what lives.
fn look(shoal: &Shoal, known: &Known) -> Result<Vec<Fault>> {
    let (status, list) = request(&shoal.socket(), "GET", "/v1/vms?all=true", "");
    let Some(vms) = list.as_array() else {
        bail!("no list: {status} {list}");
    };
    let monitors = shoal.monitors();
    let mut faults = Vec::new();
    let mut fault = |kind, words: String| faults.push(Fault { kind, words });
    let named: BTreeMap<&str, &Value> = vms
        .iter()
        .filter_map(|vm| Some((vm["name"].as_str()?, vm)))
        .collect();
    let mut claimed: BTreeSet<u32> = BTreeSet::new();
    for (name, vm) in &named {
        let pid = vm["monitor_pid"].as_u64().map(|pid| pid as u32);
        let lives = pid.is_some_and(host::lives);
        match vm["state"].as_str().unwrap_or_default() {
            "starting" | "running" | "paused" | "stopping" if !lives => {
                fault(
                    Kind::Wrong,
                    format!("{name} is {} without a monitor", vm["state"]),
                );
            }
            "exited" | "failed" if lives => {
                fault(
                    Kind::Wrong,
                    format!("{name} is {} with a monitor", vm["state"]),
                );
            }
            "creating" | "starting" | "removing" => {
                fault(Kind::Wrong, format!("{name} is still {}", vm["state"]));
            }
            _ => {}
        }
        if let Some(pid) = pid.filter(|_| lives)
            && !claimed.insert(pid)
        {
            fault(Kind::Doubled, format!("{name} shares monitor {pid}"));
        }
    }
    for pid in monitors.difference(&claimed) {
        fault(Kind::Doubled, format!("monitor {pid} has no VM"));
    }
    for (name, knows) in known.lock().expect("no client panicked").iter() {
        let state = named
            .get(name.as_str())
            .map(|vm| vm["state"].as_str().unwrap_or_default());
        match (knows, state) {
            (Knows::Made | Knows::Stopped, None) => {
                fault(Kind::Lost, format!("{name} is gone ({knows:?})"))
            }
            (Knows::Made, Some(state)) if state != "running" => {
                fault(Kind::Wrong, format!("{name} is {state}, and nobody asked"));
            }
            (Knows::Stopped, Some(state)) if state != "exited" => {
                fault(Kind::Wrong, format!("{name} was stopped and is {state}"));
            }
            _ => {}
        }
    }
    Ok(faults)
}
