//! `vmctl image add`: a library-OS program becomes an image.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use api::Client;
use futures::TryStreamExt;
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::context::Context;
use crate::progress;

/// Bytes that are read at a time.
pub(super) const CHUNK: usize = 256 << 10;

/// Add a library-OS program: an ELF file with a PVH note.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Args {
    /// The image's name; the file's where none is given
    pub(crate) name: Option<String>,

    /// The file; - for the standard input
    pub(crate) file: PathBuf,
}

/// Adds it.
pub(super) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let Added { image, .. } = file(context, &client, args.name, args.file).await?;
    context
        .output
        .result(&image, || format!("{}\n", image.digest))?;
    Ok(0)
}

/// An image that was added, and under which name.
pub(crate) struct Added {
    /// The name.
    pub(crate) name: String,
    image: api::Image,
}

/// Adds a file as an image, under its own name where none is given.
pub(crate) async fn file(
    context: &Context,
    client: &Client,
    name: Option<String>,
    file: PathBuf,
) -> Result<Added> {
    let name = name.map_or_else(|| name_of(&file), Ok)?;
    let (source, size) = open(&file).await?;
    let bar = progress::bytes(&format!("adding {name}"), size);
    let counted = {
        let bar = bar.clone();
        ReaderStream::with_capacity(source, CHUNK).inspect_ok(move |b| bar.inc(b.len() as u64))
    };
    let work = client.add_image(&name, counted);
    let image = progress::shown(&context.output, &bar, work).await?;
    Ok(Added { name, image })
}

type Source = Box<dyn AsyncRead + Send + Sync + Unpin>;

pub(super) async fn open(path: &Path) -> Result<(Source, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None));
    }
    let told = || format!("cannot read {}", path.display());
    let file = File::open(path).await.with_context(told)?;
    let metadata = file.metadata().await.with_context(told)?;
    if metadata.is_dir() {
        bail!("{} is a directory: give the file itself", path.display());
    }
    Ok((Box::new(file), Some(metadata.len())))
}

/// The name of an image that was given none.
pub(super) fn name_of(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        bail!("an image from the standard input has no name: give it one");
    }
    let stem = file.file_stem().and_then(|s| s.to_str());
    let name = stem.with_context(|| format!("{} has no name to take: give one", file.display()))?;
    Ok(name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name() {
        assert_eq!(
            name_of(Path::new("target/release/Hello.elf")).unwrap(),
            "hello"
        );
        assert_eq!(name_of(Path::new("kv")).unwrap(), "kv");
        for nameless in ["-", "/", ".."] {
            let error = name_of(Path::new(nameless)).unwrap_err().to_string();
            assert!(error.contains("give"), "{error}");
        }
    }
}
