//! What a VM should be: the arguments that `create` and `run` share.

mod env_file;
mod health;
pub(crate) mod linux;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use api::{Client, CreateVm, ErrorCode, Vm};

use super::image;
use crate::context::Context;
use crate::ending::EndSignals;
use crate::units::{lifetime_ms, memory_mib, variable};

/// What a VM should be.
#[derive(Debug, clap::Args)]
pub(crate) struct Description {
    // One list, so that all that follows the image is the program's, options too: as docker's.
    /// What it boots: an image's name, the beginning of its digest, a recipe's name, or the path of an ELF file, with a '/' in it, that
    /// becomes an image of that name. Then the program's arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_names = ["IMAGE", "ARGS"])]
    program: Vec<String>,

    /// Its name; two words are chosen where none is given
    #[arg(long)]
    name: Option<String>,

    /// Virtual CPUs
    #[arg(long, visible_alias = "cpus", default_value_t = CreateVm::default_vcpus(), value_name = "COUNT")]
    vcpus: u32,

    /// Memory: a number of mebibytes, or one with M or G; where it is absent 64M, and 128M for Linux images
    #[arg(short, long, value_parser = memory_mib, value_name = "SIZE")]
    memory: Option<u64>,

    #[command(flatten)]
    variables: Variables,

    /// End it after this time, whatever it does: 500ms, 10s, 2m, 1h
    #[arg(long, value_parser = lifetime_ms, value_name = "TIME")]
    timeout: Option<u64>,

    /// Keep the program's input open, and pass the standard input to it
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the program a terminal (a Linux guest's)
    #[arg(short, long)]
    pub(crate) tty: bool,

    #[command(flatten)]
    linux: linux::Linux,
}

/// Variables of a program's environment.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Variables {
    /// A variable of the program's environment; KEY alone takes vmctl's own value
    #[arg(short, long, value_parser = variable, value_name = "KEY=VALUE")]
    env: Vec<(String, String)>,

    /// A file of such variables, one a line; what --env says of one counts more
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

impl Variables {
    /// All of them; the last of one name counts.
    pub(crate) fn read(self) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for file in &self.env_file {
            all.extend(env_file::read(file)?);
        }
        all.extend(self.env);
        Ok(all)
    }
}

impl Description {
    /// As the daemon is asked for it; a file becomes an image first.
    pub(crate) async fn request(
        self,
        context: &Context,
        client: &Client,
        auto_remove: bool,
    ) -> Result<CreateVm> {
        let mut request = self.typed(auto_remove)?;
        // No image's name has one.
        if request.image.contains('/') {
            request.image = add_program(context, client, &request.image).await?;
        }
        Ok(request)
    }

    /// As it was typed.
    pub(crate) fn typed(self, auto_remove: bool) -> Result<CreateVm> {
        let mut program = self.program.into_iter();
        let mut request = CreateVm {
            name: self.name,
            // The grammar asks for it.
            image: program.next().unwrap_or_default(),
            args: program.collect(),
            env: self.variables.read()?,
            vcpus: self.vcpus,
            memory_mib: self.memory,
            timeout_ms: self.timeout,
            auto_remove,
            stdin_open: self.interactive,
            tty: self.tty,
            ..CreateVm::default()
        };
        self.linux.into_request(&mut request);
        Ok(request)
    }
}

/// Adds a program's file as an image; gives the image's name.
async fn add_program(context: &Context, client: &Client, file: &str) -> Result<String> {
    if !Path::new(file).exists() {
        bail!(
            "there is no file {file}; if it is an image in a registry, fetch it first: vmctl image pull {file}"
        );
    }
    let added = image::add::file(context, client, None, file.into()).await?;
    Ok(added.name)
}

/// Asks for the VM; where its image is missing and has the name of a recipe, that is built first.
pub(crate) async fn create(context: &Context, client: &Client, request: &CreateVm) -> Result<Vm> {
    let refusal = match client.create(request).await {
        Err(api::ClientError::Refused(refusal)) if refusal.code == ErrorCode::NotFound => refusal,
        other => return Ok(other?),
    };
    // A network may be missing too.
    match client.image(&request.image).await {
        Err(error)
            if error
                .refusal()
                .is_some_and(|r| r.code == ErrorCode::NotFound) => {}
        _ => return Err(api::ClientError::Refused(refusal).into()),
    }
    let image = &request.image;
    let recipes = match client.recipes().await {
        // A daemon that has none.
        Err(error) if is_missing(&error) => Vec::new(),
        other => other?,
    };
    if !recipes.iter().any(|recipe| recipe.name == *image) {
        bail!(
            "there is no image {image:?}, nor a recipe of that name: get one with `vmctl image pull`, `build` or \
             `import`; `vmctl image ls` lists those that are here, `vmctl image recipes` what can be built"
        );
    }
    context.output.note(&format!(
        "there is no image {image:?} yet: building it from its recipe"
    ));
    let mut asked_to_end = EndSignals::new()?;
    tokio::select! {
        built = image::build::recipe(context, client, image.clone(), None) => drop(built?),
        () = asked_to_end.next() => bail!("{image:?} was not built to its end, and no VM was created"),
    }
    Ok(client.create(request).await?)
}

fn is_missing(error: &api::ClientError) -> bool {
    error
        .refusal()
        .is_some_and(|r| r.code == ErrorCode::NotFound)
}
