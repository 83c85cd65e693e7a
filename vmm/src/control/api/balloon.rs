//! `/balloon`: the bodies of requests and answers.

use serde::{Deserialize, Serialize};

use crate::control::BalloonReading;
use crate::spec;
use crate::virtio::balloon::stats::Statistics;

/// `PUT /balloon`, and what `GET /balloon` answers.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Balloon {
    amount_mib: u64,
    deflate_on_oom: bool,
    #[serde(default)]
    stats_polling_interval_s: u16,
    /// Firecracker's other way to find free pages.
    #[serde(default)]
    free_page_hinting: bool,
    #[serde(default)]
    free_page_reporting: bool,
}

impl Balloon {
    /// Whether it asks for what this monitor does not have.
    pub(super) fn wants_hinting(&self) -> bool {
        self.free_page_hinting
    }
}

impl From<Balloon> for spec::Balloon {
    fn from(body: Balloon) -> Self {
        Self {
            target_mib: body.amount_mib,
            deflate_on_oom: body.deflate_on_oom,
            stats_interval_s: body.stats_polling_interval_s,
            free_page_reporting: body.free_page_reporting,
        }
    }
}

impl From<spec::Balloon> for Balloon {
    fn from(balloon: spec::Balloon) -> Self {
        Self {
            amount_mib: balloon.target_mib,
            deflate_on_oom: balloon.deflate_on_oom,
            stats_polling_interval_s: balloon.stats_interval_s,
            free_page_hinting: false,
            free_page_reporting: balloon.free_page_reporting,
        }
    }
}

/// `PATCH /balloon`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BalloonUpdate {
    pub(super) amount_mib: u64,
}

/// `PATCH /balloon/statistics`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatisticsUpdate {
    pub(super) stats_polling_interval_s: u16,
}

/// `GET /balloon/statistics`. Figures that the guest did not give are left out.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct StatisticsView {
    target_pages: u32,
    actual_pages: u32,
    target_mib: u32,
    actual_mib: u32,
    #[serde(flatten)]
    figures: Statistics,
}

impl From<BalloonReading> for StatisticsView {
    fn from(reading: BalloonReading) -> Self {
        const PAGES_PER_MIB: u32 = 256;
        Self {
            target_pages: reading.target_pages,
            actual_pages: reading.actual_pages,
            target_mib: reading.target_pages / PAGES_PER_MIB,
            actual_mib: reading.actual_pages / PAGES_PER_MIB,
            figures: reading.statistics,
        }
    }
}
