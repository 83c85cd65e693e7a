//! What VMs use, as a table.

use std::time::Duration;

use api::{Stats, Vm};
use comfy_table::{Cell, Row};
use serde::Serialize;

use crate::output::Style;
use crate::units::bytes;

/// What one VM uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Of one processor, since the look before; absent where there was none.
    pub(crate) cpu_percent: Option<f64>,
    /// All that was told.
    #[serde(flatten)]
    pub(crate) stats: Stats,
}

impl Sample {
    /// What `vm` uses, by two looks at it.
    pub(crate) fn new(vm: &Vm, stats: &Stats, before: Option<(&Stats, Duration)>) -> Self {
        let cpu_percent = before
            // A VM that was started again counts from zero.
            .filter(|(before, time)| before.cpu_ns <= stats.cpu_ns && !time.is_zero())
            .map(|(before, time)| {
                let ran = (stats.cpu_ns - before.cpu_ns) as f64;
                (ran * 1000.0 / time.as_nanos() as f64).round() / 10.0
            });
        Self {
            id: vm.id.clone(),
            name: vm.name.clone(),
            cpu_percent,
            stats: stats.clone(),
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.stats.counters.get(name).copied().unwrap_or(0)
    }
}

/// A line a VM.
pub(crate) fn table(samples: &[Sample], style: Style) -> String {
    let header = [
        "NAME",
        "CPU",
        "GUEST MEMORY",
        "HOST MEMORY",
        "NET IN/OUT",
        "DISK READ/WRITTEN",
        "LOAD",
        "THREADS",
    ];
    let rows = samples.iter().map(|sample| {
        let guest = sample.stats.guest.as_ref();
        let of_guest =
            |tell: &dyn Fn(&api::GuestReport) -> String| guest.map_or("-".to_owned(), tell);
        let pair = |a: &str, b: &str| {
            format!(
                "{} / {}",
                bytes(sample.counter(a)),
                bytes(sample.counter(b))
            )
        };
        Row::from(vec![
            Cell::new(&sample.name),
            Cell::new(
                sample
                    .cpu_percent
                    .map_or("-".to_owned(), |cpu| format!("{cpu:.1}%")),
            ),
            Cell::new(of_guest(&|g| {
                let used = g
                    .memory_total_bytes
                    .saturating_sub(g.memory_available_bytes);
                format!("{} / {}", bytes(used), bytes(g.memory_total_bytes))
            })),
            Cell::new(sample.stats.host_memory_bytes.map_or("-".to_owned(), bytes)),
            Cell::new(pair("net_received_bytes", "net_sent_bytes")),
            Cell::new(pair("disk_read_bytes", "disk_write_bytes")),
            Cell::new(of_guest(&|g| format!("{:.2}", g.load[0]))),
            Cell::new(of_guest(&|g| g.threads.to_string())),
        ])
    });
    style.table(&header, rows)
}
