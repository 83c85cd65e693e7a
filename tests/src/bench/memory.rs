//! What a guest costs its host in memory, and what of it comes back.
//!
//! - An idle monitor beside another: its own pages (PSS), and what the host holds of its guest's memory. Both by `vmd`, with all devices.
//! - A guest that takes memory and gives it back: with free page reporting, and with a balloon.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vmm::meter::Counter;

use super::{Bench, Figure};
use crate::host;
use crate::memory::Guest;
use crate::shoal::{Shoal, settles};

pub(super) const BENCH: Bench = Bench {
    name: "memory",
    about: "an idle monitor's memory, with Linux and with the library OS; what a Linux guest frees, back at the host",
    run,
};

/// What the guest takes and gives.
const MIB: u64 = 32;
/// Still for so long is at rest: a guest reports what is free every 2 seconds.
const STILL: Duration = Duration::from_secs(6);

fn run(_: Option<usize>, _: &mut Vec<String>) -> Result<Vec<Figure>> {
    Ok([idle()?, reported()?, ballooned()?].concat())
}

/// One guest of each kind, at rest.
fn idle() -> Result<Vec<Figure>> {
    let shoal = Shoal::start();
    shoal.import_box();
    let create = ["create", "--wait=ready", "--timeout", "400s"];
    shoal.ok(&[&create[..], &["--name", "linux", "box"]].concat());
    shoal.ok(&[
        "create",
        "--timeout",
        "400s",
        "--name",
        "libos",
        "hello",
        "--wait",
    ]);
    settles("the greeting", || {
        shoal.vmctl(&["logs", "libos"]).stdout.contains("Hello")
    });
    let pid = |name: &str| {
        let pid = shoal.inspect(name)["monitor_pid"].as_u64();
        pid.map(|pid| pid as u32).context("no monitor")
    };
    let (linux, libos) = (pid("linux")?, pid("libos")?);
    let own = |pid| mib(host::pss_kib(pid, "memfd:guest")).context("no monitor");
    let guest = |pid| mib(host::guest_kib(pid)).context("no guest");
    still(|| guest(linux))?;
    let figures = vec![
        figure("idle monitor's own pages (PSS), Linux", own(linux)?)
            .beside("library OS", own(libos)?),
        figure("  guest memory that the host holds", guest(linux)?)
            .beside("library OS", guest(libos)?),
    ];
    shoal.ok(&["rm", "-f", "linux", "libos"]);
    Ok(figures)
}

/// Free page reporting.
fn reported() -> Result<Vec<Figure>> {
    let mut guest = Guest::new(MIB, true)?;
    let rest = still(|| guest.held())?;
    guest.goes_on("taken");
    let taken = guest.held()?;
    guest.goes_on("given");
    let given = still(|| guest.held())?;
    guest.goes_on("taken again");
    let again = guest.held()?;
    guest.ends();
    Ok(vec![
        figure("reporting: guest at rest", rest),
        figure(format!("  {MIB} MiB taken"), taken),
        figure("  and freed", given).beside("taken", taken),
        figure("  and taken again", again),
    ])
}

/// The balloon.
fn ballooned() -> Result<Vec<Figure>> {
    let mut guest = Guest::new(MIB, false)?;
    guest.goes_on("taken");
    let taken = guest.held()?;
    guest.goes_on("given");
    let given = still(|| guest.held())?;
    guest.balloon(MIB)?;
    guest.counted(Counter::BalloonInflated, MIB)?;
    let inflated = still(|| guest.held())?;
    guest.balloon(0)?;
    guest.counted(Counter::BalloonDeflated, MIB)?;
    guest.goes_on("taken again");
    let again = guest.held()?;
    guest.ends();
    Ok(vec![
        figure(format!("balloon: {MIB} MiB taken"), taken),
        figure("  and freed, not reported", given),
        figure(format!("  balloon of {MIB} MiB"), inflated).beside("freed", given),
        figure("  balloon of 0, and taken again", again),
    ])
}

/// What `held` is once it has not changed for a while.
fn still(held: impl Fn() -> Result<f64>) -> Result<f64> {
    let (mut last, mut since) = (held()?, Instant::now());
    while since.elapsed() < STILL {
        std::thread::sleep(Duration::from_millis(100));
        let now = held()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

fn mib(kib: Option<u64>) -> Option<f64> {
    kib.map(|kib| kib as f64 / 1024.0)
}

fn figure(what: impl Into<String>, mib: f64) -> Figure {
    Figure::single("memory", what, mib, "MiB")
}
