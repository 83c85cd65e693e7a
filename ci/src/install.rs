//! `cargo ci build`: builds everything and lays it out as users have it.
//!
//! ```text
//! target/shoal/bin/{vmctl,vmd,vmm,vmlinux} one finds the other beside itself
//! target/shoal/bin/agent.cpio              the Linux guest's first file system
//! target/shoal/share/shoal/images/hello    images that every host begins with
//! target/shoal/share/shoal/recipes/*.toml  recipes that images are built from
//! target/guests/...                        every guest program, for tests and benches
//! ```

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::check::{guest, host};
use crate::initrd;
use crate::kernel;
use crate::tree::Tree;

/// The programs of an installed Shoal.
const PROGRAMS: [&str; 2] = ["vmctl", "vmd"];
/// The monitor is built for its start: a static program needs no dynamic linker, which is a third of the time that `exec`
/// takes. Its target is named so that what runs while building stays as it is.
const MONITOR_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Cargo's profile for it, in the workspace's manifest.
const MONITOR_PROFILE: &str = "monitor";
/// And for the Linux guest's agent, which must be as small as can be.
const AGENT_PROFILE: &str = "agent";
/// Guest programs that are factory images.
const IMAGES: [&str; 1] = ["hello"];

pub(crate) fn install(tree: &Tree) -> Result<()> {
    guest(tree).args(["build", "--release"]).run()?;
    host(tree)
        .args(["build", "--release", "--workspace", "--bins"])
        .run()?;
    host(tree)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--package", "vmm", "--profile", MONITOR_PROFILE])
        .args(["--target", MONITOR_TARGET])
        .run()?;
    // It has one place in memory: nothing is to be moved when it starts, and no page of it written for that.
    host(tree)
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        )
        .args(["build", "--package", "agent", "--profile", AGENT_PROFILE])
        .args(["--target", MONITOR_TARGET])
        .run()?;
    let kernel = kernel::kernel(tree)?;
    lay_out(tree)?;
    place(&kernel.join("vmlinux"), &tree.shoal().join("bin/vmlinux"))?;
    eprintln!("Shoal is in {}", tree.shoal().display());
    Ok(())
}

fn lay_out(tree: &Tree) -> Result<()> {
    let release = tree.target.join("release");
    let bin = tree.shoal().join("bin");
    for name in PROGRAMS {
        place(&release.join(name), &bin.join(name))?;
    }
    let monitor = tree.target.join(MONITOR_TARGET).join(MONITOR_PROFILE);
    place(&monitor.join("vmm"), &bin.join("vmm"))?;
    let agent = tree
        .target
        .join(MONITOR_TARGET)
        .join(AGENT_PROFILE)
        .join("agent");
    let agent = fs::read(&agent).with_context(|| format!("{} was not built", agent.display()))?;
    write(&initrd::pack(&agent), &bin.join("agent.cpio"))?;
    let recipes = tree.root.join("images/recipes");
    for entry in fs::read_dir(&recipes).context("images/recipes is missing")? {
        let name = entry?.file_name();
        place(
            &recipes.join(&name),
            &tree.shoal().join("share/shoal/recipes").join(&name),
        )?;
    }
    let images = tree.shoal().join("share/shoal/images");
    let guests = tree.guests();
    for (name, path) in guest_programs(&tree.guest_target.join("release"))? {
        place(&path, &guests.join(&name))?;
        if IMAGES.contains(&name.as_str()) {
            place(&path, &images.join(&name))?;
        }
    }
    Ok(())
}

/// Cargo's finished programs in `dir`: files that run and have no suffix.
fn guest_programs(dir: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("{} is missing", dir.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if meta.is_file() && meta.permissions().mode() & 0o111 != 0 && !name.contains('.') {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Writes `bytes` to `to`, at once.
fn write(bytes: &[u8], to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, to))
        .with_context(|| format!("{} cannot be written", to.display()))
}

/// Puts a copy of `from` at `to`, at once: a program that runs there keeps its own file.
fn place(from: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().context("a file has a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let new = to.with_extension("new");
    let placed = fs::copy(from, &new).and_then(|_| fs::rename(&new, to));
    match placed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} was not built", from.display()))
        }
        other => other.with_context(|| format!("{} cannot be written", to.display())),
    }
}
