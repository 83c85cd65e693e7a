//! `vmm`: one process is one microVM. What it does is in the library, in `vmm::process`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmm::process::run()
}
