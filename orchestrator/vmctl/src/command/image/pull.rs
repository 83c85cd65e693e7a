//! `vmctl image pull`: an image from a registry.

use std::io::Read;

use anyhow::{Context as _, Result, bail};
use api::{PullImage, RegistryLogin};

use crate::context::Context;
use crate::making;

/// Most bytes of a password.
const MOST: u64 = 64 << 10;

/// Add a Linux image from a registry. One on this host is spoken to by HTTP, others by HTTPS.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to fetch: [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
    reference: String,

    /// The image's name; the last part of the repository where none is given
    #[arg(long)]
    name: Option<String>,

    /// Who asks, where the registry wants to know
    #[arg(short, long, requires = "password_stdin")]
    user: Option<String>,

    /// Read that user's password or token from the standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
}

/// Pulls it.
pub(super) async fn run(context: &Context, args: Args) -> Result<u8> {
    let login = args.user.map(login).transpose()?;
    let pull = PullImage {
        reference: args.reference,
        name: args.name,
        login,
    };
    let events = context.client().await?.pull_image(&pull).await?;
    let image = making::made(&context.output, events).await?;
    context
        .output
        .result(&image, || format!("{}\n", image.digest))?;
    Ok(0)
}

fn login(user: String) -> Result<RegistryLogin> {
    let mut password = String::new();
    std::io::stdin()
        .take(MOST)
        .read_to_string(&mut password)
        .context("the password cannot be read from the standard input")?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        bail!("the standard input has no password for {user:?}");
    }
    Ok(RegistryLogin { user, password })
}
