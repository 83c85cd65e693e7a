//! Images from a recipe: Debian packages, some files, a command.
//!
//! ```text
//! recipe (TOML) ─▶ mmdebstrap: packages, files, scripts in the chroot ─▶ tar stream ─▶ Flattener ─▶ erofs
//!        └── hash, with the state of the package lists ──▶ an image of the same hash is not built again
//! ```
//!
//! Packages come from where this host's own come from. Installing them and running a recipe's scripts runs programs as
//! this process's user: who may build from recipes is as good as that user.

mod build;
mod sources;

use std::collections::BTreeSet;

use serde::Deserialize;

pub use build::{BuildError, build};

use crate::config::{Config, ConfigError, Port};
use crate::name::ImageName;

/// Most bytes of a recipe.
const MAX: usize = 1 << 20;

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the image is called where nobody says otherwise.
    pub name: String,
    /// What it is, on one line.
    pub about: String,
    /// Debian's packages; what they need comes with them, what they recommend does not.
    pub packages: BTreeSet<String>,
    /// What runs; the user's own arguments come after it.
    pub command: Vec<String>,
    /// `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Who runs it; root where it is absent.
    #[serde(default)]
    pub user: String,
    /// Where it runs; `/` where it is absent.
    #[serde(default)]
    pub workdir: Option<String>,
    /// What it listens on: `80/tcp`.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Paths that want a volume.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// What asks it to end: `SIGQUIT`; SIGTERM where it is absent.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Files to put there, after the packages.
    #[serde(default)]
    pub files: Vec<RecipeFile>,
    /// Shell scripts, run in the root after that, one after the other.
    #[serde(default)]
    pub run: Vec<String>,
}

/// A file that a recipe brings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Absolute.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// Who may do what; 0o644 where it is absent.
    #[serde(default = "readable")]
    pub mode: u32,
}

fn readable() -> u32 {
    0o644
}

/// A recipe makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It is too long.
    #[error("the recipe has more than {MAX} bytes")]
    TooLarge,
    /// It is no TOML, or of another shape.
    #[error("the recipe is not of the form that it should be")]
    Form(#[from] toml::de::Error),
    /// A field with something else than belongs there.
    #[error("the recipe's {field} is {value:?}, which is not {wanted}")]
    Bad {
        /// Which field.
        field: &'static str,
        /// What it says, cut short.
        value: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// How it is to be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// [`RecipeError`], the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        if text.len() > MAX {
            return Err(RecipeError::TooLarge);
        }
        let recipe: Self = toml::from_str(text)?;
        let bad = |field, value: &str, wanted| {
            let value = value.chars().take(80).collect();
            Err(RecipeError::Bad {
                field,
                value,
                wanted,
            })
        };
        if recipe.name.parse::<ImageName>().is_err() {
            return bad("name", &recipe.name, "an image's name");
        }
        if recipe.command.is_empty() {
            return bad("command", "", "a program and its arguments");
        }
        // Debian's policy, 5.6.1; and so nothing that apt would take for an option or a pattern.
        let package = |name: &String| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
            name.len() > 1 && name.bytes().all(inner) && name.as_bytes()[0].is_ascii_alphanumeric()
        };
        if let Some(name) = recipe.packages.iter().find(|name| !package(name)) {
            return bad("packages", name, "a package's name");
        }
        for file in &recipe.files {
            let path = &file.path;
            let parts = || path.split('/').skip(1);
            let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
            if !path.starts_with('/') || path.len() > 1024 || !parts().all(plain) {
                return bad("files", path, "an absolute path");
            }
            if file.mode > 0o7777 {
                return bad(
                    "files",
                    &format!("{:#o}", file.mode),
                    "a mode of at most 0o7777",
                );
            }
        }
        recipe.config()?;
        Ok(recipe)
    }

    /// How the image is to be run.
    ///
    /// # Errors
    /// [`RecipeError`] where that makes no sense.
    pub fn config(&self) -> Result<Config, RecipeError> {
        let signal = match &self.stop_signal {
            None => None,
            Some(text) => {
                let number = crate::oci::signal(text);
                Some(number.ok_or_else(|| RecipeError::Bad {
                    field: "stop_signal",
                    value: text.chars().take(80).collect(),
                    wanted: "a signal",
                })?)
            }
        };
        let plain = Config::new();
        let config = Config {
            entrypoint: self.command.clone(),
            env: self.env.clone(),
            user: self.user.clone(),
            workdir: self.workdir.clone().unwrap_or(plain.workdir),
            ports: self.ports.clone(),
            volumes: self.volumes.clone(),
            stop_signal: signal,
            labels: [("about".to_owned(), self.about.clone())].into(),
            ..Config::new()
        };
        config.check()?;
        Ok(config)
    }
}
