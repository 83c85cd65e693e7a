//! Images.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Image {
    /// The hash of its content: what it is.
    pub digest: String,
    /// The names that it goes by.
    pub names: Vec<String>,
    /// Its size.
    pub bytes: u64,
    /// What it is: `elf`, a library-OS program.
    pub kind: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
    /// How many VMs use it; one that is used cannot be removed.
    pub used_by: u32,
    /// What booting it takes; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<ImageBoot>,
}

/// What booting an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ImageBoot {
    /// Guest-physical address at which its monitor enters it.
    pub entry: u64,
    /// Bytes from the start of memory to the end of its last segment: a VM needs more than this.
    pub memory_bytes: u64,
}

/// `POST /v1/images?name=`
#[derive(Clone, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AddImageQuery {
    /// The name it goes by from now on, also where another image had it.
    pub name: String,
}

/// `POST /v1/images/gc`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Collected {
    /// Digests of the images that had no name and no VM, and are gone now.
    pub removed: Vec<String>,
    /// Bytes that this freed.
    pub bytes: u64,
}
