//! What a VM should be: the arguments that `create` and `run` share.

use std::collections::BTreeMap;

use anyhow::Result;
use api::{Client, CreateVm};

use super::image;
use crate::context::Context;
use crate::units::{lifetime_ms, memory_mib, variable};

/// What a VM should be.
#[derive(Debug, clap::Args)]
pub(crate) struct Description {
    // One list, so that all that follows the image is the program's, options too: as docker's.
    /// What it boots: an image's name, the beginning of its digest, or the path of an ELF file, with a '/' in it, that
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

    /// A variable of the program's environment; KEY alone takes vmctl's own value
    #[arg(short, long, value_parser = variable, value_name = "KEY=VALUE")]
    env: Vec<(String, String)>,

    /// End it after this time, whatever it does: 500ms, 10s, 2m, 1h
    #[arg(long, value_parser = lifetime_ms, value_name = "TIME")]
    timeout: Option<u64>,
}

impl Description {
    /// As the daemon is asked for it; a file becomes an image first.
    pub(crate) async fn request(
        self,
        context: &Context,
        client: &Client,
        auto_remove: bool,
    ) -> Result<CreateVm> {
        let mut request = self.typed(auto_remove);
        // No image's name has one.
        if request.image.contains('/') {
            let file = request.image.into();
            request.image = image::add_file(context, client, None, file).await?.name;
        }
        Ok(request)
    }

    /// As it was typed.
    pub(crate) fn typed(self, auto_remove: bool) -> CreateVm {
        let mut program = self.program.into_iter();
        CreateVm {
            name: self.name,
            // The grammar asks for it.
            image: program.next().unwrap_or_default(),
            args: program.collect(),
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            vcpus: self.vcpus,
            memory_mib: self.memory,
            timeout_ms: self.timeout,
            auto_remove,
            ..CreateVm::default()
        }
    }
}
