//! Images that others made: from an OCI layout, an archive, or a registry.
//!
//! ```text
//! directory ─┐            index ─▶ manifest ─▶ configuration ─────────────────▶ Config ─┐
//! archive   ─┼─▶ blobs ─┤                   └▶ layers: digest ◀─ bytes                  ├─▶ Store
//! registry  ─┘                                gzip, zstd ─▶ digest ─▶ Flattener ─▶ erofs ┘
//! ```
//!
//! A blob is believed once its bytes hash to the digest that led to it; a layer twice, as it came and unpacked. What
//! is read on the way to that is bounded: JSON by [`MAX_JSON`], layers by what their descriptors say and by
//! [`Limits`]. The formats are those of the OCI image specification 1.1 and of `docker save`.

mod archive;
mod blob;
mod config;
mod credentials;
mod docker;
mod json;
mod layer;
mod layout;
mod registry;

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::PathBuf;

pub use blob::{BlobError, Sha256};
pub use config::RunError;
pub(crate) use config::signal;
pub use credentials::{Credentials, CredentialsError};
pub use json::check as check_json;
pub use registry::{RegistryError, pull};

use crate::add::AddError;
use crate::erofs::{self, WriteError};
use crate::files::FileError;
use crate::image::Inspection;
use crate::manifest::Source as Origin;
use crate::name::ImageName;
use crate::progress::{Phase, Progress};
use crate::rootfs::{FileSpool, Flattener, LayerError, Limits, TarError};
use crate::store::Store;
use archive::Archive;
use blob::Blobs;
use json::{Descriptor, ImageConfig};
use layer::Layer;

/// Most bytes of an index, a manifest or a configuration.
pub const MAX_JSON: u64 = 4 << 20;
/// Most layers.
const MAX_LAYERS: usize = 512;
/// How many indexes may lead to one another.
const MAX_INDEXES: usize = 4;

/// Where an image comes from.
pub enum Source {
    /// An OCI layout.
    Directory(PathBuf),
    /// An OCI layout in a tar archive, or what `docker save` wrote; as it is, or packed by gzip or zstd.
    Archive(File),
    /// The same, from somewhere that cannot be read twice.
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::Archive(file) => f.debug_tuple("Archive").field(file).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// An image was not imported, and nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Its user changed their mind.
    #[error("cancelled")]
    Cancelled,
    /// A part of it cannot be had, or is not what it should be.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It says nothing that can be understood.
    #[error("the image's {what} is not of the form that it should be")]
    Json {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// No part of the source is an image.
    #[error("there is no image: {0}")]
    NoImage(&'static str),
    /// Several, and none or a wrong one was asked for.
    #[error("there are several images, of which one is to be named: {0}")]
    Which(String),
    /// A kind of thing that cannot be used.
    #[error("the image has {what} of the type {media_type:?}, which is not understood")]
    MediaType {
        /// Which part.
        what: &'static str,
        /// What it says of itself, cut short.
        media_type: String,
    },
    /// More than any image has.
    #[error("the image has {0}")]
    TooMuch(&'static str),
    /// How it is to be run makes no sense.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The archive that holds it is none.
    #[error("the image's archive cannot be used")]
    Archive(#[source] TarError),
    /// A layer is bad.
    #[error("layer {index} of the image cannot be used")]
    Layer {
        /// Which, from 1.
        index: usize,
        /// What is wrong.
        source: LayerError,
    },
    /// The root was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The registry does not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store did not take it.
    #[error(transparent)]
    Add(#[from] AddError),
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Imports an image under a name, which another image may lose by it. Where the source has several, `which` is the one
/// to take: a reference as the source has it.
///
/// # Errors
/// [`OciError`]; the store is then as before.
pub fn import(
    store: &Store,
    source: Source,
    which: Option<&str>,
    name: &ImageName,
    progress: Progress<'_>,
) -> Result<Inspection, OciError> {
    cancellable(progress, || match source {
        Source::Directory(path) => {
            let blobs = layout::Layout::open(&path)?;
            from_layout(store, &blobs, which, name, progress)
        }
        Source::Archive(file) => from_archive(store, file, which, name, progress),
        Source::Stream(from) => {
            let file = archive::keep(store.scratch()?, from, progress)?;
            from_archive(store, file, which, name, progress)
        }
    })
}

/// Whatever goes wrong once the end was asked for is the end.
fn cancellable<T>(
    progress: Progress<'_>,
    work: impl FnOnce() -> Result<T, OciError>,
) -> Result<T, OciError> {
    let result = work();
    match result {
        Err(_) if progress.is_cancelled() => Err(OciError::Cancelled),
        other => other,
    }
}

fn from_archive(
    store: &Store,
    file: File,
    which: Option<&str>,
    name: &ImageName,
    progress: Progress<'_>,
) -> Result<Inspection, OciError> {
    let archive = Archive::open(file, || store.scratch(), progress)?;
    if archive.has("oci-layout") {
        from_layout(store, &archive, which, name, progress)
    } else if archive.has("manifest.json") {
        let image = docker::image(&archive, which)?;
        finish(store, &archive, image, name, progress)
    } else {
        Err(OciError::NoImage(
            "the archive holds neither oci-layout nor manifest.json",
        ))
    }
}

fn from_layout(
    store: &Store,
    blobs: &impl Blobs,
    which: Option<&str>,
    name: &ImageName,
    progress: Progress<'_>,
) -> Result<Inspection, OciError> {
    json::layout(&blob::file(blobs, "oci-layout")?)?;
    let index = json::index(&blob::file(blobs, "index.json")?)?;
    let image = image(blobs, json::choose(index, which)?)?;
    finish(store, blobs, image, name, progress)
}

/// What is known of an image before its layers are read.
struct Image {
    /// What it is known by.
    digest: Sha256,
    config: ImageConfig,
    layers: Vec<Layer>,
}

/// Follows a descriptor to an image.
fn image(blobs: &impl Blobs, mut descriptor: Descriptor) -> Result<Image, OciError> {
    for _ in 0..MAX_INDEXES {
        let bytes = blob::whole(blobs, &descriptor)?;
        match json::document(&descriptor, &bytes)? {
            json::Document::Index(index) => descriptor = json::choose(index, None)?,
            json::Document::Manifest(manifest) => {
                let config = blob::whole(blobs, &manifest.config)?;
                let config = json::config(&manifest.config, &config)?;
                let diff_ids = config.diff_ids(manifest.layers.len())?;
                let pairs = manifest.layers.into_iter().zip(diff_ids);
                return Ok(Image {
                    digest: descriptor.digest,
                    layers: pairs.map(|(d, &unpacked)| Layer::of(d, unpacked)).collect(),
                    config,
                });
            }
        }
    }
    Err(OciError::TooMuch(
        "more than 4 indexes that lead to one another",
    ))
}

/// Flattens an image's layers and adds what comes of it.
fn finish(
    store: &Store,
    blobs: &impl Blobs,
    image: Image,
    name: &ImageName,
    progress: Progress<'_>,
) -> Result<Inspection, OciError> {
    let config = config::of(image.config)?;
    let mut flat = Flattener::new(FileSpool::new(store.scratch()?), Limits::DEFAULT);
    let total = image.layers.iter().map(|l| l.size).sum();
    let mut done = 0;
    for (i, layer) in image.layers.iter().enumerate() {
        layer::apply(&mut flat, blobs, (i + 1, layer), (done, total), progress)?;
        done += layer.size;
    }
    let digest = image.digest.to_string();
    add(store, &flat, name, config, Origin::Oci { digest }, progress)
}

/// Writes the root and names the image.
pub(crate) fn add(
    store: &Store,
    flat: &Flattener<FileSpool>,
    name: &ImageName,
    config: crate::Config,
    origin: Origin,
    progress: Progress<'_>,
) -> Result<Inspection, OciError> {
    let mut root = store.root_writer()?;
    let total = erofs::content_bytes(flat);
    let mut done = 0;
    // Hashing is quicker on large pieces.
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut root);
    erofs::write(flat, &mut buffered, |bytes| {
        done += bytes;
        progress.step(Phase::Write, done, total)
    })?;
    let flushed = buffered.into_inner().map_err(|e| e.into_error());
    flushed.map_err(WriteError::Write)?;
    Ok(store.add_linux(name, root.finish()?, config, origin)?)
}
