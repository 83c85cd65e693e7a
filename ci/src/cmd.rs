//! Running programs: each is shown before it runs, and a failure says what failed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::style;

/// A program about to run.
#[derive(Debug)]
pub(crate) struct Cmd {
    inner: Command,
    shown: String,
}

impl Cmd {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        Self {
            inner: Command::new(program),
            shown: program.to_string_lossy().into_owned(),
        }
    }

    /// The cargo that runs us.
    pub(crate) fn cargo() -> Self {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut inner = Command::new(program);
        // `cargo ci` is itself run by cargo, which says in the environment for which package: that is not
        // for the builds beneath, whose fingerprints would change with it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_")
                || name == "CARGO_MANIFEST_DIR"
                || name == "CARGO_MANIFEST_PATH"
            {
                inner.env_remove(name);
            }
        }
        Self {
            inner,
            shown: "cargo".into(),
        }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown.push(' ');
            self.shown.push_str(&arg.as_ref().to_string_lossy());
            self.inner.arg(arg);
        }
        self
    }

    pub(crate) fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.inner.current_dir(dir);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Shows the command, runs it and waits.
    pub(crate) fn run(mut self) -> Result<()> {
        eprintln!("{}", style::dim(&format!("+ {}", self.shown)));
        let status = self
            .inner
            .status()
            .with_context(|| format!("`{}` did not start", self.shown))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Shows the command and starts it; whoever called reads what it writes to its standard output.
    pub(crate) fn piped(mut self) -> Result<Child> {
        eprintln!("{}", style::dim(&format!("+ {}", self.shown)));
        self.inner
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("`{}` did not start", self.shown))
    }

    /// Runs it unseen and gives what it wrote to its standard output.
    pub(crate) fn output(mut self) -> Result<Vec<u8>> {
        let output = self
            .inner
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("`{}` did not start", self.shown))?;
        if !output.status.success() {
            bail!("`{}` failed ({})", self.shown, output.status);
        }
        Ok(output.stdout)
    }
}

/// Whether a program of that name is on the path.
pub(crate) fn is_there(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
