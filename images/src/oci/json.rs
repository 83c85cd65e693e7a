//! The JSON of the OCI image specification, as far as it is needed.
//!
//! Members that are not known are passed over: the specification asks for that.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::blob::Sha256;
use super::{MAX_LAYERS, OciError};

/// The annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// What a registry is asked for.
pub(super) const ACCEPTED: [&str; 4] = [MANIFESTS[0], MANIFESTS[1], INDEXES[0], INDEXES[1]];

/// A blob, as another one tells of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Sha256,
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, digest: Sha256, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ImageConfig {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default)]
    pub(super) config: Option<Run>,
    rootfs: RootFs,
}

impl ImageConfig {
    /// What each of so many layers hashes to unpacked, the lowest first.
    pub(super) fn diff_ids(&self, layers: usize) -> Result<&[Sha256], OciError> {
        let ids = &self.rootfs.diff_ids;
        if layers > MAX_LAYERS {
            return Err(OciError::TooMuch("more than 512 layers"));
        }
        if ids.len() != layers {
            return Err(OciError::TooMuch("other layers than its configuration has"));
        }
        Ok(ids)
    }
}

#[derive(Clone, Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<Sha256>,
}

/// How an image is to be run. Docker writes `null` where it has nothing to say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Run {
    pub(super) user: Option<String>,
    pub(super) exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) volumes: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) working_dir: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) stop_signal: Option<String>,
}

/// What a descriptor in an index leads to.
pub(super) enum Document {
    Index(Index),
    Manifest(Manifest),
}

fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|source| OciError::Json { what, source })
}

/// A layout says which version of the form it has.
pub(super) fn layout(bytes: &[u8]) -> Result<(), OciError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let Layout {
        image_layout_version: version,
    } = parse("layout", bytes)?;
    if version.starts_with("1.") {
        return Ok(());
    }
    Err(OciError::NoImage("the layout is not of version 1"))
}

pub(super) fn index(bytes: &[u8]) -> Result<Index, OciError> {
    parse("index", bytes)
}

/// What a descriptor led to, by its own word or, where it says nothing of its type, by its form.
pub(super) fn document(descriptor: &Descriptor, bytes: &[u8]) -> Result<Document, OciError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let typed: Typed = parse("manifest", bytes)?;
    let said = typed.media_type.unwrap_or_default();
    let media_type = match (descriptor.media_type.as_str(), said.as_str()) {
        ("", own) => own,
        (told, "") => told,
        // One that says two things of itself could be read in two ways.
        (told, own) if told != own => return Err(unknown("a manifest", own)),
        (told, _) => told,
    };
    let is_index = match media_type {
        "" => typed.manifests.is_some(),
        known if INDEXES.contains(&known) => true,
        known if MANIFESTS.contains(&known) => false,
        other => return Err(unknown("a manifest", other)),
    };
    if is_index {
        return parse("index", bytes).map(Document::Index);
    }
    parse("manifest", bytes).map(Document::Manifest)
}

pub(super) fn config(descriptor: &Descriptor, bytes: &[u8]) -> Result<ImageConfig, OciError> {
    if !CONFIGS.contains(&descriptor.media_type.as_str()) {
        return Err(unknown("a configuration", &descriptor.media_type));
    }
    parse("configuration", bytes)
}

/// A configuration that came without a descriptor.
pub(super) fn plain_config(bytes: &[u8]) -> Result<ImageConfig, OciError> {
    parse("configuration", bytes)
}

/// The image of an index that is for this platform, and has the name that was asked for.
pub(super) fn choose(index: Index, which: Option<&str>) -> Result<Descriptor, OciError> {
    let ours = |d: &Descriptor| {
        let platform = d.platform.as_ref();
        platform.is_none_or(|p| p.architecture == "amd64" && p.os == "linux")
    };
    let name = |d: &Descriptor| d.annotations.as_ref()?.get(REF_NAME).cloned();
    let known = |d: &Descriptor| {
        let media_type = d.media_type.as_str();
        media_type.is_empty() || ACCEPTED.contains(&media_type)
    };
    let mut found = index.manifests;
    found.retain(|d| ours(d) && known(d));
    if found.is_empty() {
        return Err(OciError::NoImage("the index lists none for linux/amd64"));
    }
    let names = || {
        let names: Vec<_> = found.iter().take(20).filter_map(name).collect();
        OciError::Which(names.join(", ").chars().take(1000).collect())
    };
    if let Some(which) = which {
        let at = found.iter().position(|d| name(d).as_deref() == Some(which));
        return at.map(|at| found[at].clone()).ok_or_else(names);
    }
    match &found[..] {
        [one] => Ok(one.clone()),
        // Several names of one.
        [first, others @ ..] if others.iter().all(|d| d.digest == first.digest) => {
            Ok(first.clone())
        }
        // A list for platforms may have variants of one: the first is the best.
        [first, ..]
            if found
                .iter()
                .all(|d| d.platform.is_some() && name(d).is_none()) =>
        {
            Ok(first.clone())
        }
        _ => Err(names()),
    }
}

pub(super) fn unknown(what: &'static str, media_type: &str) -> OciError {
    OciError::MediaType {
        what,
        media_type: media_type.chars().take(100).collect(),
    }
}

/// Reads `bytes` as each kind of document that an image has, as an import would: whatever they are, none does more than
/// refuse them.
///
/// # Errors
/// [`OciError`], why they are no manifest, or no configuration that can be run.
pub fn check(bytes: &[u8]) -> Result<(), OciError> {
    let whole = Descriptor::new("", Sha256::of(bytes), bytes.len() as u64);
    let _ = layout(bytes);
    if let Ok(config) = plain_config(bytes) {
        super::config::of(config)?;
        return Ok(());
    }
    match document(&whole, bytes)? {
        Document::Index(index) => choose(index, None).map(|_| ()),
        Document::Manifest(_) => Ok(()),
    }
}
