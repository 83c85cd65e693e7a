//! Images.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::ErrorDetail;

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Image {
    /// The hash of its content: what it is.
    pub digest: String,
    /// The names that it goes by.
    pub names: Vec<String>,
    /// Its size.
    pub bytes: u64,
    /// What it is: `elf`, a library-OS program, or `linux`, a root file system and how to run what is in it.
    pub kind: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
    /// How many VMs use it; one that is used cannot be removed.
    pub used_by: u32,
    /// What booting it takes; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<ImageBoot>,
    /// What a Linux image runs where nobody says otherwise; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ImageConfig>,
}

/// What a Linux image runs, and how, where nobody says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ImageConfig {
    /// What is run, before its arguments.
    pub entrypoint: Vec<String>,
    /// The arguments; where there is no entrypoint, all of what is run.
    pub cmd: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The user, as `name`, `uid`, `name:group` or `uid:gid`; empty is root.
    pub user: String,
    /// The directory; empty is `/`.
    pub workdir: String,
    /// The ports that its program listens on, as `80/tcp`.
    pub ports: Vec<String>,
    /// The paths that it wants kept on volumes.
    pub volumes: Vec<String>,
    /// The signal that asks its program to end; empty is SIGTERM.
    pub stop_signal: String,
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

/// `POST /v1/images/import?name=`, with an archive as its body: `docker save`'s, or an OCI layout, as tar, also compressed.
/// [`ImageEvent`]s come back, one a line.
#[derive(Clone, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportImageQuery {
    /// The name it goes by from now on, also where another image had it.
    pub name: String,
    /// Which image of the archive, by its tag, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// `POST /v1/images/pull`: an image from a registry. [`ImageEvent`]s come back, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// `[registry/]repository[:tag][@digest]`.
    pub reference: String,
    /// The name it goes by from now on, also where another image had it; the reference where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who asks, where the registry wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<RegistryLogin>,
}

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// `POST /v1/images/build`: an image from a recipe. [`ImageEvent`]s come back, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildImage {
    /// The recipe: the text of a TOML file, or the name of one that the installation comes with.
    pub recipe: String,
    /// The name it goes by from now on; the recipe's own where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `GET /v1/recipes`: a recipe that the installation comes with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Recipe {
    /// Its name, by which [`BuildImage`] asks for it.
    pub name: String,
    /// What comes of it, on one line.
    pub description: String,
}

/// What is heard while an image is made. The last one is [`ImageEvent::Done`] or [`ImageEvent::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ImageEvent {
    /// What is being done now, in words.
    Step {
        /// The words.
        message: String,
    },
    /// How much of something is done.
    Progress {
        /// Of what: a layer's digest, for one.
        of: String,
        /// Bytes that are done.
        done: u64,
        /// Bytes in all, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// The image is there.
    Done {
        /// The image.
        image: Box<Image>,
    },
    /// It is not.
    Failed {
        /// Why.
        error: ErrorDetail,
    },
}

/// `POST /v1/images/gc?all=`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CollectQuery {
    /// Those too that have names and no VM.
    #[serde(default)]
    pub all: bool,
}

/// `POST /v1/images/gc`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Collected {
    /// Digests of the images that had no VM and, but for `all`, no name, and are gone now.
    pub removed: Vec<String>,
    /// Bytes that this freed.
    pub bytes: u64,
}
