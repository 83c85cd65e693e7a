//! What `docker save` writes: `manifest.json`, a configuration, and layers that are known by what they unpack to.

use serde::Deserialize;

use super::archive::Archive;
use super::blob::{self, Sha256};
use super::json;
use super::layer::{Layer, SNIFFED};
use super::{Image, OciError};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The image with the name that was asked for, or the only one.
pub(super) fn image(archive: &Archive, which: Option<&str>) -> Result<Image, OciError> {
    let what = "list of saved images";
    let bytes = blob::file(archive, "manifest.json")?;
    let list: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|source| OciError::Json { what, source })?;
    let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
    let saved = match (which, &list[..]) {
        (None, [one]) => Some(one),
        (None, _) => None,
        (Some(which), list) => list.iter().find(|s| tags(s).iter().any(|tag| tag == which)),
    };
    let Some(saved) = saved else {
        if list.is_empty() {
            return Err(OciError::NoImage("the archive lists none"));
        }
        let names: Vec<_> = list.iter().flat_map(tags).take(20).collect();
        let names = names.join(", ").chars().take(1000).collect();
        return Err(OciError::Which(names));
    };
    let bytes = blob::file(archive, &saved.config)?;
    let digest = Sha256::of(&bytes);
    // It is called by its digest: by `<digits>.json`, or as a blob.
    let stem = saved.config.rsplit('/').next().unwrap_or_default();
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    blob::matches("configuration", format!("sha256:{stem}").parse()?, digest)?;
    let config = json::plain_config(&bytes)?;
    let diff_ids = config.diff_ids(saved.layers.len())?;
    let mut layers = Vec::new();
    for (name, &unpacked) in saved.layers.iter().zip(diff_ids) {
        layers.push(Layer {
            file: name.clone(),
            media_type: SNIFFED.to_owned(),
            size: archive.size(name)?,
            digest: None,
            unpacked,
        });
    }
    Ok(Image {
        digest,
        config,
        layers,
    })
}
