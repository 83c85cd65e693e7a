//! `cargo ci kernel`: the Linux guest's kernel, from Debian's source package, our config and our patches.
//!
//! ```text
//! images/kernel/{config,patches/}  \
//! linux-source-6.1, gcc, binutils  -- hash --> ~/.cache/shoal/kernel/<hash>/{vmlinux,bzImage,config,inputs}
//!                                                    | copied
//!                                                    v
//!                                              target/kernel/<hash>/..., target/kernel/current -> <hash>
//! ```
//! One set of inputs is built once by a user, however many clones of the repository he has. What lies under a hash is complete: it
//! comes there by one rename.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cmd::Cmd;
use crate::packages;
use crate::tree::Tree;

/// Debian's package of the source, and the archive in it.
const SOURCE: &str = "linux-source-6.1";
const ARCHIVE: &str = "/usr/src/linux-source-6.1.tar.xz";

/// What a build needs: a file to look for, and Debian's name for what holds it.
const NEEDS: [(&str, &str); 12] = [
    (ARCHIVE, SOURCE),
    ("/usr/bin/gcc", "gcc"),
    ("/usr/bin/ld", "binutils"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/patch", "patch"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/lz4", "lz4"),
    ("/usr/bin/flex", "flex"),
    ("/usr/bin/bison", "bison"),
    ("/usr/bin/bc", "bc"),
    ("/usr/bin/perl", "perl"),
    ("/usr/include/gelf.h", "libelf-dev"),
];

/// What is kept of a build, and where the source tree has it.
const KEPT: [(&str, &str); 3] = [
    ("vmlinux", "vmlinux"),
    ("arch/x86/boot/bzImage", "bzImage"),
    (".config", "config"),
];

/// Counts up when this file builds the same inputs to something else.
const RECIPE: u32 = 1;

/// Builds the kernel unless it is there, and says where it is.
pub(crate) fn kernel(tree: &Tree) -> Result<PathBuf> {
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|&(_, package)| package)
        .collect();
    packages::install(&missing)?;

    let inputs = Inputs::read(&tree.root.join("images/kernel"))?;
    let hash = inputs.hash();
    let store = tree.target.join("kernel");
    fs::create_dir_all(&store).with_context(|| format!("{} cannot be made", store.display()))?;
    let kept = store.join(&hash);
    if !is_complete(&kept) {
        // Without a home of his own a user has no cache: then each clone builds for itself.
        let cache = cache().filter(|cache| fs::create_dir_all(cache).is_ok());
        let built = match &cache {
            Some(cache) => cache.join(&hash),
            None => kept.clone(),
        };
        // Two at once would both build.
        let lock = File::create(cache.as_deref().unwrap_or(&store).join("lock"))?;
        lock.lock().context("the kernel's lock cannot be taken")?;
        if !is_complete(&built) {
            eprintln!("building the Linux guest's kernel {hash}: some minutes, once");
            build(&store.join("build"), &inputs, &built)?;
        }
        if built != kept {
            keep(&kept, |new| copy_all(&built, new))?;
        }
    }
    point(&store.join("current"), &hash)?;
    Ok(kept)
}

/// Where a user's built kernels are.
fn cache() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = of("XDG_CACHE_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| of("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("shoal/kernel"))
}

fn is_complete(dir: &Path) -> bool {
    dir.join("vmlinux").is_file()
}

/// Fills a new directory and makes it `kept` at once.
fn keep(kept: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = kept.with_extension(format!("new{}", std::process::id()));
    remove(&new)?;
    fs::create_dir(&new)?;
    fill(&new)?;
    remove(kept)?;
    fs::rename(&new, kept).with_context(|| format!("{} cannot be made", kept.display()))
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))
            .with_context(|| format!("{} cannot be copied", entry.path().display()))?;
    }
    Ok(())
}

/// Everything that decides what comes out.
struct Inputs {
    config: String,
    /// By name, in the order in which they are applied.
    patches: Vec<(String, Vec<u8>)>,
    /// Versions of the source and of what compiles it.
    versions: String,
}

impl Inputs {
    fn read(dir: &Path) -> Result<Self> {
        let config = dir.join("config");
        let config = fs::read_to_string(&config)
            .with_context(|| format!("{} cannot be read", config.display()))?;
        let mut patches = Vec::new();
        for entry in
            fs::read_dir(dir.join("patches")).context("images/kernel/patches is missing")?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "patch") {
                let name = path.file_name().unwrap_or_default();
                patches.push((name.to_string_lossy().into_owned(), fs::read(&path)?));
            }
        }
        patches.sort();
        let mut versions = format!("recipe {RECIPE}\n");
        let source = Cmd::new("dpkg-query")
            .args(["-W", "-f", "${Package} ${Version}\n", SOURCE])
            .output()?;
        versions.push_str(&String::from_utf8_lossy(&source));
        for program in ["gcc", "ld"] {
            let said = Cmd::new(program).arg("--version").output()?;
            let said = String::from_utf8_lossy(&said);
            writeln!(versions, "{}", said.lines().next().unwrap_or_default())?;
        }
        Ok(Self {
            config,
            patches,
            versions,
        })
    }

    /// FNV-1a over all of it. It tells states of our own tree apart; nobody attacks it.
    fn hash(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |bytes: &[u8]| {
            // The length first, so that no byte can move from one input to the next.
            for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        eat(self.versions.as_bytes());
        eat(self.config.as_bytes());
        for (name, patch) in &self.patches {
            eat(name.as_bytes());
            eat(patch);
        }
        format!("{hash:016x}")
    }

    /// What a reader of the store sees of them.
    fn told(&self) -> String {
        let mut told = self.versions.clone();
        for (name, _) in &self.patches {
            told.push_str(name);
            told.push('\n');
        }
        told
    }
}

/// Builds in `source`, which is gone afterwards; what is worth keeping goes to `kept`.
fn build(source: &Path, inputs: &Inputs, kept: &Path) -> Result<()> {
    remove(source)?;
    fs::create_dir(source)?;
    Cmd::new("tar")
        .args(["-x", "--strip-components=1", "-f", ARCHIVE, "-C"])
        .arg(source)
        .run()?;
    for (name, patch) in &inputs.patches {
        // Copied first: what was hashed is what is applied.
        let path = source.join(name);
        fs::write(&path, patch)?;
        Cmd::new("patch")
            .args(["-s", "-p1", "--fuzz=0", "-i", name])
            .dir(source)
            .run()?;
    }
    configure(source, &inputs.config)?;
    compile(source)?;
    keep(kept, |new| {
        for (from, to) in KEPT {
            fs::copy(source.join(from), new.join(to))
                .with_context(|| format!("{from} was not built"))?;
        }
        fs::write(new.join("inputs"), inputs.told())?;
        Ok(())
    })?;
    remove(source)
}

/// Everything off but what our config says, and what that needs.
fn configure(source: &Path, wanted: &str) -> Result<()> {
    fs::write(source.join("shoal.config"), wanted)?;
    make(source)
        .args(["-s", "KCONFIG_ALLCONFIG=shoal.config", "allnoconfig"])
        .run()?;
    let got = fs::read_to_string(source.join(".config"))?;
    let refused = refused(wanted, &got);
    if !refused.is_empty() {
        bail!("Kconfig did not take over: {}", refused.join(", "));
    }
    Ok(())
}

/// The lines of `wanted` that `got` contradicts.
fn refused<'a>(wanted: &'a str, got: &str) -> Vec<&'a str> {
    let on = |name: &str| {
        got.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('='))
        })
    };
    wanted
        .lines()
        .filter(|line| {
            let off = line
                .strip_prefix("# ")
                .and_then(|line| line.strip_suffix(" is not set"));
            match off {
                // What Kconfig does not even know is off as well.
                Some(name) => on(name),
                None => line.starts_with("CONFIG_") && !got.lines().any(|other| other == *line),
            }
        })
        .collect()
}

/// About how many files there are to compile: for people who wait.
const FILES: u32 = 1350;

/// Runs the build and tells how far it is: the whole takes minutes.
fn compile(source: &Path) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut child = make(source)
        .args([&format!("-j{jobs}"), "vmlinux", "bzImage"])
        .piped()?;
    let began = Instant::now();
    let mut told = began;
    let mut files = 0_u32;
    let live = std::io::stderr().is_terminal();
    let every = Duration::from_secs(if live { 1 } else { 20 });
    let output = child.stdout.take().context("make has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        files += u32::from(line.trim_start().starts_with("CC "));
        if told.elapsed() >= every {
            told = Instant::now();
            let end = if live { '\r' } else { '\n' };
            eprint!("{}{end}", progress(files, began.elapsed()));
            std::io::stderr().flush()?;
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!(
            "make failed ({status}); what it said is above, the tree is {}",
            source.display()
        );
    }
    eprintln!("{}", progress(files.max(FILES), began.elapsed()));
    Ok(())
}

/// How far a build is, in a line.
fn progress(files: u32, took: Duration) -> String {
    const WIDTH: usize = 30;
    let part = f64::from(files.min(FILES)) / f64::from(FILES);
    let filled = (part * WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH - filled));
    format!("  [{bar}] {:3.0} %, {} s", part * 100.0, took.as_secs())
}

/// `make` in the kernel's tree, so that the same inputs give the same bytes.
fn make(source: &Path) -> Cmd {
    Cmd::new("make")
        .dir(source)
        .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 2026")
        .env("KBUILD_BUILD_USER", "shoal")
        .env("KBUILD_BUILD_HOST", "shoal")
        .env("LC_ALL", "C")
        // A `make` above us would hand down its jobs and its flags.
        .env("MAKEFLAGS", "")
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Makes `link` lead to `to`, at once.
fn point(link: &Path, to: &str) -> Result<()> {
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(to, &new)?;
    fs::rename(&new, link).with_context(|| format!("{} cannot be set", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_kconfig_drops_is_told() {
        let wanted =
            "# why\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=7\n# CONFIG_GONE is not set\n";
        assert!(refused(wanted, "CONFIG_A=y\nCONFIG_C=7\nCONFIG_BB=y\n").is_empty());
        assert_eq!(
            refused(wanted, "CONFIG_B=y\nCONFIG_C=70\n"),
            ["CONFIG_A=y", "# CONFIG_B is not set", "CONFIG_C=7"]
        );
    }

    #[test]
    fn progress_never_leaves_its_bar() {
        for (files, percent) in [(0, "  0 %"), (FILES / 2, " 50 %"), (u32::MAX, "100 %")] {
            let line = progress(files, Duration::from_secs(7));
            assert!(line.contains(percent) && line.ends_with("7 s"), "{line}");
            assert_eq!(line.len(), progress(0, Duration::from_secs(7)).len());
        }
    }

    #[test]
    fn what_is_kept_is_complete_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, copy) = (dir.path().join("one"), dir.path().join("two"));
        assert!(keep(&kept, |_| bail!("no room")).is_err());
        assert!(!is_complete(&kept));
        keep(&kept, |new| Ok(fs::write(new.join("vmlinux"), "a kernel")?)).unwrap();
        keep(&copy, |new| copy_all(&kept, new)).unwrap();
        assert_eq!(fs::read(copy.join("vmlinux")).unwrap(), b"a kernel");
    }

    #[test]
    fn every_input_counts() {
        let inputs = |config: &str, name: &str, patch: &[u8]| {
            Inputs {
                config: config.into(),
                patches: vec![(name.into(), patch.into())],
                versions: String::new(),
            }
            .hash()
        };
        let one = inputs("a", "b", b"c");
        assert_eq!(one, inputs("a", "b", b"c"));
        assert_ne!(one, inputs("ab", "", b"c"));
        assert_ne!(one, inputs("a", "bc", b""));
        assert_ne!(one, inputs("a", "b", b"d"));
    }
}
