//! `cargo ci bench` and `cargo ci fuzz`: programs of the `tests` crate, built and run.

use std::ffi::OsString;
use std::path::Path;

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
    for package in [packages::QEMU, packages::IPERF] {
        package.want();
    }
    install::install(tree)?;
    run(tree, "bench", args)
}

/// Counters at every branch, so that the loop sees which input leads deeper. What the compiler itself needs no
/// counters, hence `--target`: build scripts and macros are then built without.
const COUNTERS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cdebug-assertions=on";

pub(crate) fn fuzz(tree: &Tree, args: &[OsString]) -> Result<()> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // A build of its own: the counters would make every other build start anew.
    let target = tree.target.join("fuzz");
    host(tree)
        .args(["build", "--release", "-p", "tests", "--bin", "fuzz"])
        .args(["--target", &triple])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", COUNTERS)
        .run()?;
    exec(tree, &target.join(triple).join("release/fuzz"), args)
}

fn run(tree: &Tree, name: &str, args: &[OsString]) -> Result<()> {
    host(tree)
        .args(["build", "-q", "--release", "-p", "tests", "--bin", name])
        .run()?;
    exec(tree, &tree.target.join("release").join(name), args)
}

fn exec(tree: &Tree, program: &Path, args: &[OsString]) -> Result<()> {
    Cmd::new(program).args(args).dir(&tree.root).run()
}
