//! `vmctl image import`: an image from an archive.

use std::path::{Path, PathBuf};

use anyhow::Result;
use api::{Client, ImportImageQuery};
use tokio_util::io::ReaderStream;

use super::add::{CHUNK, name_of, open};
use crate::context::Context;
use crate::copy::pack;
use crate::making;

/// Add a Linux image from an archive that `docker save`, skopeo or the like made, or from an OCI layout: a directory, or a tar archive
/// of one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive or the directory; - for the standard input
    file: PathBuf,

    /// The image's name; the file's where none is given
    #[arg(long)]
    name: Option<String>,

    /// Which image of the archive, where there are several
    #[arg(long)]
    tag: Option<String>,
}

/// Imports it.
pub(super) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let query = ImportImageQuery {
        name: args.name.map_or_else(|| name_of(&args.file), Ok)?,
        tag: args.tag,
    };
    let image = import(context, &client, &query, &args.file).await?;
    context
        .output
        .result(&image, || format!("{}\n", image.digest))?;
    Ok(0)
}

async fn import(
    context: &Context,
    client: &Client,
    query: &ImportImageQuery,
    file: &Path,
) -> Result<api::Image> {
    let events = if file.is_dir() {
        let layout = pack::stream(file.to_owned(), PathBuf::new());
        client.import_image(query, layout).await?
    } else {
        let (source, _) = open(file).await?;
        let archive = ReaderStream::with_capacity(source, CHUNK);
        client.import_image(query, archive).await?
    };
    making::made(&context.output, events).await
}
