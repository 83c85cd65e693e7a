//! `vmctl image`: what VMs boot.

pub(crate) mod add;
pub(crate) mod build;
mod import;
mod pull;
mod recipes;

use anyhow::Result;
use jiff::Timestamp;

use super::several::each;
use crate::context::Context;
use crate::{render, units};

/// What VMs boot.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List images
    #[command(visible_alias = "list")]
    Ls,
    /// Fetch a Linux image from a registry
    Pull(pull::Args),
    /// Build a Linux image from a recipe
    Build(build::Args),
    /// Add a Linux image from an archive or an OCI layout
    Import(import::Args),
    /// Add a library-OS program: an ELF file with a PVH note
    Add(add::Args),
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
    #[command(visible_alias = "gc")]
    Prune {
        /// Those too that have names and no VM
        #[arg(short, long)]
        all: bool,
    },
    /// List the recipes that `image build` and `run` know
    Recipes,
}

impl Command {
    /// Carries it out.
    pub(crate) async fn run(self, context: &Context) -> Result<u8> {
        match self {
            Self::Ls => list(context).await,
            Self::Pull(args) => pull::run(context, args).await,
            Self::Build(args) => build::run(context, args).await,
            Self::Import(args) => import::run(context, args).await,
            Self::Add(args) => add::run(context, args).await,
            Self::Rm { images } => remove(context, &images).await,
            Self::Inspect { image } => inspect(context, &image).await,
            Self::Prune { all } => prune(context, all).await,
            Self::Recipes => recipes::run(context).await,
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

async fn prune(context: &Context, all: bool) -> Result<u8> {
    let collected = context.client().await?.collect_images(all).await?;
    context.output.result(&collected, || {
        let mut text: String = collected.removed.iter().map(|d| format!("{d}\n")).collect();
        if !context.output.quiet {
            text += &format!("freed {}\n", units::bytes(collected.bytes));
        }
        text
    })?;
    Ok(0)
}
