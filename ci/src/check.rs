//! `cargo ci check`: format, lints, unit tests.
//!
//! All of it in the release profile: tests and installed programs then share one build of every dependency.

use anyhow::Result;

use crate::cmd::Cmd;
use crate::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Result<()> {
    format(tree)?;
    lints(tree)?;
    guest_tests(tree)?;
    host(tree)
        .args(["test", "--release", "--workspace", "--lib", "--bins"])
        .run()
}

/// Every file is formatted.
pub(crate) fn format(tree: &Tree) -> Result<()> {
    host(tree).args(["fmt", "--all", "--check"]).run()?;
    guest(tree).args(["fmt", "--all", "--check"]).run()
}

/// No lint speaks up.
pub(crate) fn lints(tree: &Tree) -> Result<()> {
    host(tree)
        .args(["clippy", "--release", "--workspace", "--all-targets"])
        .args(["--", "-D", "warnings"])
        .run()?;
    // Applications have no test harness: `--all-targets` would ask for one.
    guest(tree)
        .args(["clippy", "--release", "--workspace"])
        .args(["--features", PROTOCOL, "--", "-D", "warnings"])
        .run()
}

/// The unit tests of what guests link.
pub(crate) fn guest_tests(tree: &Tree) -> Result<()> {
    guest(tree)
        .args(["test", "--release", "--workspace", "--lib"])
        .args(["--features", PROTOCOL])
        .run()
}

/// The agent's protocol, which no guest of the library OS asks for.
const PROTOCOL: &str = "abi/agent";

/// Cargo in the host's workspace.
pub(crate) fn host(tree: &Tree) -> Cmd {
    Cmd::cargo().dir(&tree.root)
}

/// Cargo in the guests' workspace.
pub(crate) fn guest(tree: &Tree) -> Cmd {
    Cmd::cargo()
        .dir(&tree.guest())
        .env("CARGO_TARGET_DIR", &tree.guest_target)
}
