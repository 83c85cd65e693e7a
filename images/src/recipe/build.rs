//! Building: mmdebstrap does it, and its tar stream goes through the reader that every layer goes through.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::sources::{RELEASE, Sources};
use super::{Recipe, RecipeError};
use crate::digest::Digest;
use crate::image::{Detail, FindError, InspectError, Inspection, Kind};
use crate::manifest::Source;
use crate::name::ImageName;
use crate::oci::{self, OciError};
use crate::progress::{Phase, Progress, Told};
use crate::rootfs::{FileSpool, Flattener, LayerError, Limits, TarError};
use crate::store::Store;

/// The program that does it, and Debian's package that holds it.
const PROGRAM: &str = "mmdebstrap";
/// Counts up when this file makes something else of the same recipe.
const VERSION: u32 = 1;
/// What of the packages no machine needs.
const LEFT_OUT: [&str; 7] = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
    "/usr/share/help/*",
    "/usr/share/icons/*",
];
/// What installing leaves behind; and manual pages, whose folders some packages write to when they are installed. Folders of
/// logs stay: programs want theirs.
const CLEAN: &str = "rm -rf /usr/share/man/* /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/* /tmp/*; \
                     find /var/log -type f -delete";
/// How often somebody is asked whether they still want it.
const TICK: Duration = Duration::from_millis(100);
/// How much of what the program said is told where it fails.
const TOLD: usize = 2000;

/// An image was not built, and nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its user changed their mind.
    #[error("cancelled")]
    Cancelled,
    /// The recipe makes no sense.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The program that installs packages is missing.
    #[error("{PROGRAM} is missing: install Debian's package of that name to build from recipes")]
    Missing,
    /// This host has no packages of the release that recipes are for.
    #[error("none of this host's package sources is for Debian {RELEASE}")]
    NoSources,
    /// The system failed.
    #[error("cannot {action}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The packages could not be installed, or a script failed.
    #[error("{PROGRAM} failed, and said last:\n{0}")]
    Failed(String),
    /// What it made is bad.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It could not be kept.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The store could not be looked through.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

/// Builds a recipe's image under a name, which another image may lose by it. One that was built before from the same
/// recipe and the same state of the packages gets the name as it is.
///
/// # Errors
/// [`BuildError`]; the store is then as before.
pub fn build(
    store: &Store,
    recipe: &Recipe,
    name: &ImageName,
    progress: Progress<'_>,
) -> Result<Inspection, BuildError> {
    let result = build_or_find(store, recipe, name, progress);
    match result {
        Err(_) if progress.is_cancelled() => Err(BuildError::Cancelled),
        other => other,
    }
}

fn build_or_find(
    store: &Store,
    recipe: &Recipe,
    name: &ImageName,
    progress: Progress<'_>,
) -> Result<Inspection, BuildError> {
    let system = |action| move |source| BuildError::System { action, source };
    let sources = Sources::read(Path::new("/etc/apt"), Path::new("/var/lib/apt/lists"))
        .map_err(system("read the package sources"))?;
    let config = recipe.config()?;
    let inputs = Digest::of(format!("{VERSION}\n{recipe:?}\n{sources:?}").as_bytes());
    let origin = Source::Recipe {
        name: recipe.name.clone(),
        inputs,
    };
    if let Some(found) = find(store, &origin)? {
        return Ok(store.tag(found, name).map_err(OciError::from)?);
    }
    if sources.lines.is_empty() && sources.stanzas.is_empty() {
        return Err(BuildError::NoSources);
    }
    let work = Work::lay_out(recipe, &sources).map_err(system("write what mmdebstrap is told"))?;
    let spool = FileSpool::new(store.scratch().map_err(OciError::from)?);
    let mut flat = Flattener::new(spool, Limits::DEFAULT);
    install(&work, recipe, &mut flat, progress)?;
    Ok(oci::add(store, &flat, name, config, origin, progress)?)
}

/// The image that was built from the same.
fn find(store: &Store, origin: &Source) -> Result<Option<Digest>, BuildError> {
    let linux = store.list().map_err(InspectError::from)?;
    for image in linux.into_iter().filter(|i| i.kind == Kind::Linux) {
        match store.inspect(&image.digest.to_string()) {
            Ok(found) => match found.detail {
                Detail::Linux(manifest) if manifest.source == *origin => {
                    return Ok(Some(image.digest));
                }
                _ => {}
            },
            // Removed meanwhile, or damaged: neither is what was looked for.
            Err(InspectError::Find(FindError::Unknown(_)) | InspectError::Manifest { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}

/// Runs the program, and reads what it makes while it does.
fn install(
    work: &Work,
    recipe: &Recipe,
    flat: &mut Flattener<FileSpool>,
    progress: Progress<'_>,
) -> Result<(), BuildError> {
    let child = work.command(recipe).spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => BuildError::Missing,
        _ => BuildError::System {
            action: "start mmdebstrap",
            source: e,
        },
    })?;
    let mut group = Group(child);
    let output = group.0.stdout.take();
    let mut said = group.0.stderr.take();
    let done = AtomicBool::new(false);
    let finished = &done;
    let (laid, last) = thread::scope(|scope| {
        // It says much, and would wait for a reader.
        let listener = scope.spawn(move || {
            let mut last = Vec::new();
            let mut piece = [0; 4096];
            while let Some(read) = said.as_mut().and_then(|s| s.read(&mut piece).ok()) {
                if read == 0 {
                    break;
                }
                last.extend_from_slice(&piece[..read]);
                let over = last.len().saturating_sub(TOLD);
                last.drain(..over);
            }
            String::from_utf8_lossy(&last).into_owned()
        });
        let id = group.id();
        // It is silent for long: somebody else looks whether it is still wanted.
        let watcher = scope.spawn(move || {
            while !finished.load(Ordering::Acquire) {
                if progress.step(Phase::Install, 0, 0).is_err() {
                    kill(id);
                    break;
                }
                thread::park_timeout(TICK);
            }
        });
        let laid = output.map_or(Ok(()), |output| {
            flat.layer(Told::new(output, Phase::Unpack, 0, 0, progress))
        });
        if laid.is_err() {
            kill(id);
        }
        finished.store(true, Ordering::Release);
        watcher.thread().unpark();
        let last = listener.join().unwrap_or_default();
        (laid, last)
    });
    let status = group.0.wait().map_err(|source| BuildError::System {
        action: "wait for mmdebstrap",
        source,
    })?;
    match laid {
        // Where it failed its stream is cut short, or empty: why is in what it said.
        Ok(()) | Err(LayerError::Tar(TarError::Cut)) if !status.success() => {
            Err(BuildError::Failed(last.trim().to_owned()))
        }
        laid => Ok(laid?),
    }
}

/// What the program is told, in a folder of its own.
struct Work {
    dir: TempDir,
    /// Files of package sources.
    sources: Vec<PathBuf>,
}

impl Work {
    fn lay_out(recipe: &Recipe, sources: &Sources) -> io::Result<Self> {
        let dir = TempDir::with_prefix("shoal-recipe-")?;
        let mut files = Vec::new();
        for (name, text) in [
            ("host.list", &sources.lines),
            ("host.sources", &sources.stanzas),
        ] {
            if !text.is_empty() {
                let path = dir.path().join(name);
                fs::write(&path, text)?;
                files.push(path);
            }
        }
        let mut archive = tar::Builder::new(fs::File::create(dir.path().join("files.tar"))?);
        for file in &recipe.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(file.text.len() as u64);
            let path = file.path.trim_start_matches('/');
            archive.append_data(&mut header, path, file.text.as_bytes())?;
        }
        archive.into_inner()?.flush()?;
        let scripts: Vec<&str> = recipe.run.iter().map(String::as_str).collect();
        let script = format!("set -eu\n{}\n{CLEAN}\n", scripts.join("\n"));
        fs::write(dir.path().join("script"), script)?;
        Ok(Self {
            dir,
            sources: files,
        })
    }

    fn command(&self, recipe: &Recipe) -> Command {
        let dir = self.dir.path().display();
        let mut command = Command::new(PROGRAM);
        // Installing asks nobody anything, and what it is told comes from here alone.
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .args(["--variant=essential", "--format=tar"])
            .arg("--aptopt=APT::Install-Recommends \"false\"");
        for pattern in LEFT_OUT {
            command.arg(format!("--dpkgopt=path-exclude={pattern}"));
        }
        if !recipe.packages.is_empty() {
            let packages: Vec<&str> = recipe.packages.iter().map(String::as_str).collect();
            command.arg(format!("--include={}", packages.join(",")));
        }
        if !recipe.files.is_empty() {
            command.arg(format!("--customize-hook=tar-in '{dir}/files.tar' /"));
        }
        command
            .arg(format!(
                "--customize-hook=chroot \"$1\" /bin/sh < '{dir}/script'"
            ))
            .args([RELEASE, "-"])
            .args(&self.sources)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What it starts ends with it.
            .process_group(0);
        command
    }
}

/// A program and what it started: gone when dropped.
struct Group(Child);

impl Group {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            kill(self.id());
            let _ = self.0.wait();
        }
    }
}

/// Ends a group of processes; the program that leads it was not waited for, so that the id is its own.
fn kill(id: u32) {
    if let Some(id) = id.try_into().ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(id, rustix::process::Signal::TERM);
    }
}
