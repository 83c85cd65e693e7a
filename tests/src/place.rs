//! Where the installed programs and the guests are: beside the test's own program, where `cargo ci build` put them.

use std::path::{Path, PathBuf};

/// The directory that cargo builds in.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows its own path");
    // Tests are in target/release/deps, benches and fuzz loops in target/release.
    program
        .ancestors()
        .find(|dir| dir.join("shoal/bin").is_dir())
        .unwrap_or_else(|| {
            panic!(
                "no installed Shoal beside {}: run `cargo ci build` first",
                program.display()
            )
        })
        .to_owned()
}

/// The installed tree, as a user has it.
#[must_use]
pub fn shoal() -> PathBuf {
    target().join("shoal")
}

/// An installed program: `vmctl`, `vmd` or `vmm`.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    existing(shoal().join("bin").join(name))
}

/// A guest's ELF file.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    existing(target().join("guests").join(name))
}

/// The Linux guest's kernel, as a vmlinux.
#[must_use]
pub fn kernel() -> PathBuf {
    existing(shoal().join("bin/vmlinux"))
}

/// The same kernel as a bzImage.
#[must_use]
pub fn bzimage() -> PathBuf {
    existing(target().join("kernel/current/bzImage"))
}

/// The Linux guest's first file system, with its agent.
#[must_use]
pub fn initrd() -> PathBuf {
    existing(shoal().join("bin/agent.cpio"))
}

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is in the repository")
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(
        path.is_file(),
        "{} is missing: run `cargo ci build` first",
        path.display()
    );
    path
}
