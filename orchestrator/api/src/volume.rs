//! Volumes: disks that outlive VMs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its size in mebibytes.
    pub size_mib: u64,
    /// Bytes of the host's disk that it takes.
    pub used_bytes: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The VMs that have it, by name, those included that have ended. Only one at a time can run.
    pub used_by: Vec<String>,
}

/// `POST /v1/volumes`: make a volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name, as a VM's.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub name: String,
    /// Its size in mebibytes, which takes room only as it is written: 8192 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 16)]
    pub size_mib: Option<u64>,
}

/// `POST /v1/volumes/prune`: every volume that no VM has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct PrunedVolumes {
    /// Names of the volumes that are gone now.
    pub removed: Vec<String>,
    /// Bytes that this freed.
    pub bytes: u64,
}
