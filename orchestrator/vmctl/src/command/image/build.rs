//! `vmctl image build`: an image from a recipe.

use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};
use api::{BuildImage, Client, Image};

use crate::context::Context;
use crate::making;

/// Most bytes of a recipe's file.
const MOST: u64 = 1 << 20;

/// Build an image from a recipe: Debian packages, files, a command. What it writes while it builds goes to the standard error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A recipe of the installation (`vmctl image recipes`), the path of one of your own that ends in .toml, or - for the standard input
    recipe: String,

    /// The image's name; the recipe's own where none is given
    #[arg(long)]
    name: Option<String>,
}

/// Builds it.
pub(super) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let recipe_text = match is_file(&args.recipe) {
        true => read(&args.recipe)?,
        false => args.recipe,
    };
    let image = recipe(context, &client, recipe_text, args.name).await?;
    context
        .output
        .result(&image, || format!("{}\n", image.digest))?;
    Ok(0)
}

/// Builds a recipe: the name of one, or its text.
pub(crate) async fn recipe(
    context: &Context,
    client: &Client,
    recipe: String,
    name: Option<String>,
) -> Result<Image> {
    let events = client.build_image(&BuildImage { recipe, name }).await?;
    making::made(&context.output, events).await
}

/// Names of recipes have neither.
fn is_file(recipe: &str) -> bool {
    recipe == "-" || recipe.contains('/') || recipe.ends_with(".toml")
}

fn read(path: &str) -> Result<String> {
    let told = || format!("the recipe {path} cannot be read");
    let mut text = String::new();
    match path {
        "-" => std::io::stdin().take(MOST).read_to_string(&mut text),
        file => std::fs::File::open(Path::new(file))
            .with_context(told)?
            .take(MOST)
            .read_to_string(&mut text),
    }
    .with_context(told)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_a_name_or_a_file() {
        for file in ["-", "./apache", "my.toml", "/etc/recipe"] {
            assert!(is_file(file), "{file}");
        }
        assert!(!is_file("apache"));
        let gone = read("/nonexistent.toml").unwrap_err().to_string();
        assert!(gone.contains("/nonexistent.toml"), "{gone}");
    }
}
