//! File systems' own checks of images.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Checks an ext4 that needs no replay of its journal any more.
///
/// # Errors
/// What e2fsck finds.
pub fn ext4(image: &Path) -> Result<()> {
    let checked = e2fsprogs("e2fsck", &["-fn"], image)?;
    ensure!(checked.status.success(), "e2fsck finds: {checked:?}");
    Ok(())
}

/// Replays an ext4's journal, as the next mount would.
///
/// # Errors
/// Why it cannot be replayed.
pub fn replay(image: &Path) -> Result<()> {
    let replayed = e2fsprogs("e2fsck", &["-y", "-E", "journal_only"], image)?;
    // 1 says that something was changed, which is what a replay does.
    let done = matches!(replayed.status.code(), Some(0 | 1));
    ensure!(done, "no replay: {replayed:?}");
    Ok(())
}

/// Checks an erofs and reads all that is in it; where there is no program for it, says so.
///
/// # Errors
/// What fsck.erofs finds.
pub fn erofs(image: &Path) -> Result<()> {
    let output = Command::new("fsck.erofs")
        .arg("--extract")
        .arg(image)
        .output();
    match output {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: fsck.erofs is missing (package erofs-utils)");
            Ok(())
        }
        checked => {
            let checked = checked?;
            ensure!(checked.status.success(), "fsck.erofs finds: {checked:?}");
            Ok(())
        }
    }
}

/// Runs a program of the package e2fsprogs, without which there are no disks either. It is there also where a user's PATH has no sbin.
///
/// # Errors
/// Where there is no such program.
pub fn e2fsprogs(program: &str, args: &[&str], image: &Path) -> Result<Output> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(args)
        .arg(image)
        .output();
    output.with_context(|| format!("{program}: install e2fsprogs"))
}
