//! What `vmm --probe` prints, and what it means.

use serde::Deserialize;
use serde_json::Value;

use super::verdict::Finding;

/// The part of the probe that people hear of. The probe may say more.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Probe {}

impl Probe {
    /// Reads what the monitor printed.
    pub(crate) fn read(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    /// What it means.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}
