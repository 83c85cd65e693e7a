//! A Linux guest that takes memory and gives it back, and what its host holds of it meanwhile.
//!
//! ```text
//!   guest: "at rest" --line--> touches so many MiB: "taken" --line--> unmaps them: "given" --line--> touches them again: "taken again"
//!   host:  counts the pages of the file behind guest memory
//! ```

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use vmm::meter::Counter;
use vmm::spec::wire;

use crate::host;
use crate::linux::{Init, guest};
use crate::monitor::Running;
use crate::place;
use crate::shoal::request;

/// How long the host's count may take to change: the guest works for it where ring 0 is emulated.
const PATIENCE: Duration = Duration::from_secs(120);
/// It boots, and then it touches thousands of pages, each a fault.
const DEADLINE: Duration = Duration::from_secs(900);

/// A guest that takes and gives memory.
#[derive(Debug)]
pub struct Guest {
    running: Running,
    dir: TempDir,
}

impl Guest {
    /// One that is at rest, and will take `mib`. Either it reports free pages or not; its balloon is empty.
    ///
    /// # Errors
    /// Where no monitor can be started.
    ///
    /// # Panics
    /// Where the guest does not boot.
    pub fn new(mib: u64, reports: bool) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = UnixListener::bind(dir.path().join("control"))?;
        let balloon = wire::Balloon {
            target_mib: 0,
            deflate_on_oom: false,
            stats_interval_s: 0,
            free_page_reporting: reports,
        };
        let bytes = mib << 20;
        let init = Init::default()
            .say("at rest\n")
            .wait()
            .take_memory(bytes)
            .say("taken\n")
            .wait()
            .give_memory(bytes)
            .say("given\n")
            .wait()
            .take_memory(bytes)
            .say("taken again\n")
            .wait()
            .exit(0);
        let mut running = guest(&place::kernel(), &init)
            .balloon(balloon, listener)
            .deadline(DEADLINE)
            .start()?;
        running.console_shows("at rest");
        Ok(Self { running, dir })
    }

    /// Lets it go on until its console shows `text`.
    ///
    /// # Panics
    /// When it does not.
    pub fn goes_on(&mut self, text: &str) {
        self.running.type_in("\n");
        self.running.console_shows(text);
    }

    /// Sets its balloon's size.
    ///
    /// # Errors
    /// Where the monitor refuses.
    pub fn balloon(&self, mib: u64) -> Result<()> {
        let body = json!({ "amount_mib": mib }).to_string();
        let socket = self.dir.path().join("control");
        let (status, answer) = request(&socket, "PATCH", "/balloon", &body);
        ensure!(status == 204, "the monitor says {status}: {answer}");
        Ok(())
    }

    /// What the host holds of its memory, in MiB.
    ///
    /// # Errors
    /// Where the monitor is gone.
    pub fn held(&self) -> Result<f64> {
        let kib = host::guest_kib(self.running.pid()).context("the monitor has no guest")?;
        Ok(kib as f64 / 1024.0)
    }

    /// Waits until what the host holds, in MiB, is as it should be, and gives it.
    ///
    /// # Errors
    /// Where it does not come to that.
    pub fn held_once(&self, is_so: impl Fn(f64) -> bool) -> Result<f64> {
        let until = Instant::now() + PATIENCE;
        loop {
            let held = self.held()?;
            if is_so(held) {
                return Ok(held);
            }
            ensure!(Instant::now() < until, "the host still holds {held} MiB");
            // Nothing announces it.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the monitor has counted so many MiB of pages.
    ///
    /// # Errors
    /// Where it does not come to that.
    pub fn counted(&self, counter: Counter, mib: u64) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let reading = self.running.reading().context("the meter is empty")?;
            let pages = reading.counter(counter);
            if pages >= mib * 256 {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{counter:?} is {pages} pages");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lets it end.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn ends(mut self) {
        self.running.type_in("\n");
        self.running.wait().exited(0);
    }
}
