//! `cargo ci test`: everything that must hold before a change lands.
//!
//! Tests that need something this machine lacks are left out and told by name, never passed over in silence.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use crate::check::{self, host};
use crate::cmd::is_there;
use crate::install;
use crate::packages;
use crate::style;
use crate::tree::Tree;

pub(crate) fn test(tree: &Tree) -> Result<()> {
    check::format(tree)?;
    install::install(tree)?;
    check::lints(tree)?;
    check::guest_tests(tree)?;
    let skips = skips();
    if is_there("cargo-nextest") {
        with_nextest(tree, &skips)
    } else {
        println!(
            "{} cargo-nextest is missing: tests run by `cargo test`, slower and without time limits",
            style::cyan("note:")
        );
        with_cargo(tree, &skips)
    }
}

/// What takes too long for every change: each recipe's image is built, and its program used.
pub(crate) fn recipes(tree: &Tree) -> Result<()> {
    install::install(tree)?;
    for package in packages::IMAGES.iter().chain(&packages::CLIENTS) {
        package.want();
    }
    for (package, target, filter) in [
        ("images", "--lib", "a_recipe_builds_once"),
        ("tests", "--test=kvm_recipes", ""),
    ] {
        host(tree)
            .args(["test", "--release", "-p", package, target, "--"])
            .args(["--ignored", "--nocapture", "--test-threads=1", filter])
            .run()?;
    }
    Ok(())
}

/// Test binaries that cannot run here, by the beginning of their names.
struct Skip {
    prefix: &'static str,
    reason: String,
}

fn skips() -> Vec<Skip> {
    let mut skips = Vec::new();
    for package in packages::IMAGES.iter().chain(&packages::NETWORK) {
        // What needs it says so, and passes over it.
        package.want();
    }
    // The nodes's permissions are not enough to know: a container may forbid what the file mode allows.
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        skips.push(Skip {
            prefix: "kvm",
            reason: format!("/dev/kvm cannot be opened: {error}"),
        });
    } else if !packages::QEMU.want() {
        skips.push(Skip {
            prefix: "kvm_qemu",
            reason: format!("package {} is missing", packages::QEMU.name),
        });
    }
    skips
}

/// The tests of the host's workspace, told in one summary, which closes the run.
fn with_nextest(tree: &Tree, skips: &[Skip]) -> Result<()> {
    let nextest = |verb: &str| host(tree).args(["nextest", verb, "--release", "--workspace"]);
    let mut run = nextest("run");
    for skip in skips {
        let set = format!("binary(/^{}/)", skip.prefix);
        let listed = nextest("list")
            .args(["-T", "oneline", "-E", &set])
            .output()?;
        for name in String::from_utf8_lossy(&listed).lines() {
            println!("{} {name}: {}", style::cyan("skipped"), skip.reason);
        }
        run = run.args(["-E".to_owned(), format!("not {set}")]);
    }
    run.run()
}

/// The packages whose tests are programs of their own, and where those are.
const WHOLE: [(&str, &str); 4] = [
    ("agent", "guest/agent/tests"),
    ("vmm", "vmm/tests"),
    ("daemon", "orchestrator/daemon/tests"),
    ("tests", "tests/tests"),
];

/// The same without nextest.
fn with_cargo(tree: &Tree, skips: &[Skip]) -> Result<()> {
    host(tree)
        .args(["test", "--release", "--workspace"])
        .args(["--lib", "--bins", "--examples"])
        .run()?;
    for (package, dir) in WHOLE {
        for binary in test_binaries(&tree.root.join(dir))? {
            let test = || {
                host(tree)
                    .args(["test", "--release", "-p", package])
                    .args(["--test", &binary])
            };
            match skips.iter().find(|skip| binary.starts_with(skip.prefix)) {
                None => test().args(["--", "--test-threads", "2"]).run()?,
                Some(skip) => {
                    let listed = test()
                        .args(["--", "--list", "--format", "terse"])
                        .output()?;
                    for name in String::from_utf8_lossy(&listed).lines() {
                        let name = name.trim_end_matches(": test");
                        println!(
                            "{} {package}::{binary} {name}: {}",
                            style::cyan("skipped"),
                            skip.reason
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// Cargo's test binaries in `dir`, in order: a file each, or a folder with a `main.rs`.
fn test_binaries(dir: &Path) -> Result<Vec<String>> {
    let mut binaries = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let is_one = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").is_file();
        if let (true, Some(name)) = (is_one, path.file_stem()) {
            binaries.push(name.to_string_lossy().into_owned());
        }
    }
    binaries.sort();
    Ok(binaries)
}
