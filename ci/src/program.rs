//! `cargo ci bench` and `cargo ci fuzz`: programs of the `tests` crate, built and run.

use std::ffi::OsString;

use anyhow::Result;

use crate::check::host;
use crate::cmd::Cmd;
use crate::install;
use crate::packages;
use crate::tree::Tree;

pub(crate) fn bench(tree: &Tree, args: &[OsString]) -> Result<()> {
    // Only a run measures; `--list` and `--help` need nothing built but the program itself.
    if args.iter().any(|arg| arg == "--list" || arg == "--help") {
        return run(tree, "bench", args);
    }
    packages::QEMU.want();
    install::install(tree)?;
    run(tree, "bench", args)
}

pub(crate) fn fuzz(tree: &Tree, args: &[OsString]) -> Result<()> {
    run(tree, "fuzz", args)
}

fn run(tree: &Tree, name: &str, args: &[OsString]) -> Result<()> {
    host(tree)
        .args(["build", "-q", "--release", "-p", "tests", "--bin", name])
        .run()?;
    Cmd::new(tree.target.join("release").join(name))
        .args(args)
        .dir(&tree.root)
        .run()
}
