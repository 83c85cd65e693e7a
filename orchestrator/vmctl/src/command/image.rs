//! `vmctl image`: what VMs boot.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use api::Client;
use futures::TryStreamExt;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::several::each;
use crate::context::Context;
use crate::{progress, render, units};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// What VMs boot.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List images
    #[command(visible_alias = "list")]
    Ls,
    /// Add a library-OS program: an ELF file with a PVH note
    Add(Add),
    /// Take images' names away; an image goes with its last name, which it keeps while a VM uses it
    Rm {
        /// Names, or beginnings of digests for images with all their names
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Show an image
    Inspect {
        /// A name, or the beginning of a digest
        image: String,
    },
    /// Remove images that have no name and no VM
    #[command(visible_alias = "prune")]
    Gc,
}

/// Add a library-OS program.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Add {
    /// The image's name; the file's where none is given
    pub(crate) name: Option<String>,

    /// The file; - for the standard input
    pub(crate) file: PathBuf,
}

impl Command {
    /// Carries it out.
    pub(crate) async fn run(self, context: &Context) -> Result<u8> {
        match self {
            Self::Ls => list(context).await,
            Self::Add(args) => add(context, args).await,
            Self::Rm { images } => remove(context, &images).await,
            Self::Inspect { image } => inspect(context, &image).await,
            Self::Gc => collect(context).await,
        }
    }
}

async fn list(context: &Context) -> Result<u8> {
    let images = context.client().await?.images().await?;
    let output = &context.output;
    output.result(&images, || {
        if output.quiet {
            images.iter().map(|i| format!("{}\n", i.digest)).collect()
        } else {
            render::images::table(&images, Timestamp::now(), output.style)
        }
    })?;
    Ok(0)
}

async fn add(context: &Context, args: Add) -> Result<u8> {
    let client = context.client().await?;
    let Added { image, .. } = add_file(context, &client, args.name, args.file).await?;
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
pub(crate) async fn add_file(
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

async fn open(path: &Path) -> Result<(Source, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None));
    }
    let told = || format!("cannot read {}", path.display());
    let file = File::open(path).await.with_context(told)?;
    let metadata = file.metadata().await.with_context(told)?;
    if metadata.is_dir() {
        bail!(
            "{} is a directory: give the ELF file itself",
            path.display()
        );
    }
    Ok((Box::new(file), Some(metadata.len())))
}

/// The name of an image that was given none.
fn name_of(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        bail!("an image from the standard input has no name: give one before the file");
    }
    let stem = file.file_stem().and_then(|s| s.to_str());
    let name = stem.with_context(|| {
        format!(
            "{} has no name to take: give one before the file",
            file.display()
        )
    })?;
    Ok(name.to_lowercase())
}

async fn remove(context: &Context, images: &[String]) -> Result<u8> {
    let client = context.client().await?;
    let remove = async |image: String| {
        client.remove_image(&image).await?;
        Ok(image)
    };
    let quiet = context.output.quiet;
    each(context, images, "removing", remove, |image, _| {
        (!quiet).then(|| image.to_owned())
    })
    .await
}

async fn inspect(context: &Context, image: &str) -> Result<u8> {
    let image = context.client().await?.image(image).await?;
    context.output.result(&image, || {
        render::images::page(&image, Timestamp::now(), context.output.style)
    })?;
    Ok(0)
}

async fn collect(context: &Context) -> Result<u8> {
    let collected = context.client().await?.collect_images(false).await?;
    context.output.result(&collected, || {
        let mut text: String = collected.removed.iter().map(|d| format!("{d}\n")).collect();
        if !context.output.quiet {
            text += &format!("freed {}\n", units::bytes(collected.bytes));
        }
        text
    })?;
    Ok(0)
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
            assert!(error.contains("give one"), "{error}");
        }
    }
}
