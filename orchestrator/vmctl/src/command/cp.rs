//! `vmctl cp`: files into a VM and out of it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use api::{Client, ErrorCode, FileKind};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use crate::context::Context;
use crate::copy::pack;
use crate::copy::pipe::{CHUNKS, Drain};
use crate::copy::place::{Place, Shape, split};
use crate::copy::plan::{Plan, Source, There, plan};
use crate::copy::unpack::{Target, Unpacked, unpack};
use crate::output::print_bytes;
use crate::progress;

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;
/// Most symbolic links on the way to a directory, as Linux has it.
const LINKS: usize = 40;

/// Copy files into a Linux guest, or out of it. A directory goes with all that is in it; DIR/. is what is in it. A target that is a
/// directory gets the source by its name, one that is not there gets the target's name. Copied files belong to root in a guest, and to
/// you here.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// VM:PATH, a path on this host, or - for a tar archive on the standard input
    source: Place,

    /// VM:PATH, a path on this host, or - for a tar archive on the standard output
    target: Place,
}

/// Copies.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let bar = progress::bytes("copying", None);
    let copying = async {
        match (args.source, args.target) {
            (
                Place::Host(from, shape),
                Place::Guest {
                    vm,
                    path,
                    shape: to_shape,
                },
            ) => into_guest(&client, (&from, shape), &vm, (&path, to_shape), &bar).await,
            (Place::Stream, Place::Guest { vm, path, .. }) => {
                let archive = ReaderStream::with_capacity(tokio::io::stdin(), CHUNK);
                Ok(client.copy_in(&vm, &path, archive).await?)
            }
            (Place::Guest { vm, path, shape }, Place::Host(to, to_shape)) => {
                let unpacked =
                    out_of_guest(&client, &vm, (&path, shape), (&to, to_shape), &bar).await?;
                note_left_out(context, unpacked);
                Ok(())
            }
            (Place::Guest { vm, path, .. }, Place::Stream) => {
                let mut archive = client.copy_out(&vm, &path).await?;
                while let Some(bytes) = archive.next().await? {
                    print_bytes(&bytes)?;
                }
                Ok(())
            }
            (Place::Guest { .. }, Place::Guest { .. }) => bail!(
                "from one VM to another there is no way but this: vmctl cp A:PATH - | vmctl cp - B:DIR"
            ),
            _ => bail!("one of both has to be in a VM, as VM:/path"),
        }
    };
    progress::shown(&context.output, &bar, copying).await?;
    Ok(0)
}

async fn into_guest(
    client: &Client,
    (from, shape): (&Path, Shape),
    vm: &str,
    (to, to_shape): (&str, Shape),
    bar: &indicatif::ProgressBar,
) -> Result<()> {
    let told = || format!("cannot read {}", from.display());
    // A slash or a dot at the end means what a link leads to.
    let metadata = match shape {
        Shape::Plain => fs::symlink_metadata(from),
        Shape::Directory | Shape::Contents => fs::metadata(from),
    }
    .with_context(told)?;
    let name = name_of(from)?;
    let source = Source {
        name: name.as_deref(),
        directory: metadata.is_dir(),
        shape,
    };
    let there = in_guest(client, vm, to).await?;
    let plan = plan(source, there, to_shape)
        .with_context(|| format!("{} cannot be copied to {vm}:{to}", from.display()))?;
    let (dir, name) = match &plan {
        Plan::Into(name) => (to, name.as_str()),
        Plan::Contents => (to, ""),
        Plan::Beside => split(to).with_context(|| format!("{vm}:{to} is the root"))?,
    };
    let archive = pack::stream(from.to_owned(), PathBuf::from(name));
    let counted = {
        let bar = bar.clone();
        archive.inspect_ok(move |bytes: &Bytes| bar.inc(bytes.len() as u64))
    };
    let copied = client.copy_in(vm, dir, counted).await;
    copied.with_context(|| format!("{} was not copied to {vm}:{to}", from.display()))
}

/// What is at a path of a guest, or behind a link there. A VM that is not there is told by who asks next.
async fn in_guest(client: &Client, vm: &str, path: &str) -> Result<There> {
    match client.stat(vm, path, true).await {
        Ok(stat) if stat.kind == FileKind::Directory => Ok(There::Directory),
        Ok(_) => Ok(There::File),
        Err(error)
            if error
                .refusal()
                .is_some_and(|r| r.code == ErrorCode::NotFound) =>
        {
            client.inspect(vm).await?;
            Ok(There::Nothing)
        }
        Err(error) => Err(error.into()),
    }
}

/// A path's last name; `.` and `..` have the one of the directory that they mean.
fn name_of(path: &Path) -> Result<Option<String>> {
    let whole = match path.components().next_back() {
        Some(Component::Normal(_)) => path.to_owned(),
        _ => fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?,
    };
    let Some(name) = whole.file_name() else {
        return Ok(None);
    };
    let name = name.to_str().with_context(|| {
        format!(
            "{} is not UTF-8, which a guest's names have to be here",
            path.display()
        )
    })?;
    Ok(Some(name.to_owned()))
}

async fn out_of_guest(
    client: &Client,
    vm: &str,
    (from, shape): (&str, Shape),
    (to, to_shape): (&Path, Shape),
    bar: &indicatif::ProgressBar,
) -> Result<Unpacked> {
    let from = match shape {
        Shape::Plain => from.to_owned(),
        Shape::Directory | Shape::Contents => behind_links(client, vm, from).await?,
    };
    let found = client.stat(vm, &from, false).await?;
    let name = split(&from).map(|(_, name)| name);
    let source = Source {
        name,
        directory: found.kind == FileKind::Directory,
        shape,
    };
    let there = match fs::metadata(to) {
        Ok(metadata) if metadata.is_dir() => There::Directory,
        Ok(_) => There::File,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => There::Nothing,
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", to.display())),
    };
    let plan = plan(source, there, to_shape)
        .with_context(|| format!("{vm}:{from} cannot be copied to {}", to.display()))?;
    let (dir, into) = match plan {
        Plan::Into(name) => (to.to_owned(), Some(name.into())),
        Plan::Contents => (to.to_owned(), None),
        Plan::Beside => {
            let whole = std::path::absolute(to)?;
            let name = whole.file_name().map(ToOwned::to_owned);
            (whole.parent().unwrap_or(Path::new("/")).to_owned(), name)
        }
    };
    let target = Target {
        dir: open(&dir)?,
        named: name.is_some(),
        name: into,
    };
    let mut archive = client.copy_out(vm, &from).await?;
    let (to_unpack, received) = mpsc::channel(CHUNKS);
    let unpacking = tokio::task::spawn_blocking(move || unpack(Drain::new(received), &target));
    let receiving = async {
        loop {
            let bytes = match archive.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(()),
                Err(error) => {
                    // Who unpacks knows then that what came is not all.
                    let cut = std::io::ErrorKind::UnexpectedEof;
                    let _ = to_unpack.send(Err(cut.into())).await;
                    return Err(error);
                }
            };
            bar.inc(bytes.len() as u64);
            if to_unpack.send(Ok(bytes)).await.is_err() {
                return Ok(());
            }
        }
    };
    let received = receiving.await;
    drop(to_unpack);
    let unpacked = unpacking.await?;
    received?;
    unpacked.with_context(|| format!("{vm}:{from} was not copied whole to {}", to.display()))
}

fn open(dir: &Path) -> Result<OwnedFd> {
    let told = || format!("cannot use the directory {}", dir.display());
    let opened = fs::File::open(dir).with_context(told)?;
    if !opened.metadata().with_context(told)?.is_dir() {
        bail!("{} is no directory", dir.display());
    }
    Ok(opened.into())
}

/// Where a path of a guest leads, where it is a symbolic link.
async fn behind_links(client: &Client, vm: &str, path: &str) -> Result<String> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let found = client.stat(vm, &path, false).await?;
        let (FileKind::Link, Some(target)) = (found.kind, found.target) else {
            return Ok(path);
        };
        let dir = split(&path).map_or("/", |(dir, _)| dir);
        path = match target.starts_with('/') {
            true => crate::copy::place::clean(&target),
            false => crate::copy::place::clean(&format!("{dir}/{target}")),
        };
    }
    bail!("{vm}:{path} is a symbolic link in a circle")
}

fn note_left_out(context: &Context, unpacked: Unpacked) {
    if unpacked.left_out > 0 {
        context.output.note(&format!(
            "{} devices, pipes or sockets were left out",
            unpacked.left_out
        ));
    }
}
