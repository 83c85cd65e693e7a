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
