//! What a VM should be: the arguments that `create` and `run` share.

use std::collections::BTreeMap;

use api::CreateVm;

use crate::units::{lifetime_ms, memory_mib, variable};

/// What a VM should be.
#[derive(Debug, clap::Args)]
pub(crate) struct Description {
    // One list, so that all that follows the image is the program's, options too: as docker's.
    /// What it boots, an image's name or the beginning of its digest; then the program's arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_names = ["IMAGE", "ARGS"])]
    program: Vec<String>,

    /// Its name; two words are chosen where none is given
    #[arg(long)]
    name: Option<String>,

    /// Virtual CPUs
    #[arg(long, visible_alias = "cpus", default_value_t = CreateVm::default_vcpus(), value_name = "COUNT")]
    vcpus: u32,

    /// Memory: a number of mebibytes, or one with M or G
    #[arg(short, long, default_value = "64M", value_parser = memory_mib, value_name = "SIZE")]
    memory: u64,

    /// A variable of the program's environment; KEY alone takes vmctl's own value
    #[arg(short, long, value_parser = variable, value_name = "KEY=VALUE")]
    env: Vec<(String, String)>,

    /// End it after this time, whatever it does: 500ms, 10s, 2m, 1h
    #[arg(long, value_parser = lifetime_ms, value_name = "TIME")]
    timeout: Option<u64>,
}

impl Description {
    /// As the daemon is asked for it.
    pub(crate) fn request(self, auto_remove: bool) -> CreateVm {
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
        }
    }
}
