//! `vmd`: see the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use daemon::daemon::{Options, prepare, run};
use daemon::http::Document;
use daemon::linux::boot::Programs;
use utoipa::OpenApi;

/// Starts microVMs on this host, watches them, and finds them again after it was gone.
#[derive(Debug, Parser)]
#[command(name = "vmd", version)]
struct Flags {
    /// Where it keeps everything: /var/lib/shoal for root, else $XDG_DATA_HOME/shoal or ~/.local/share/shoal
    #[arg(long, env = "SHOAL_DIR")]
    dir: Option<PathBuf>,
    /// Where it listens: vmd.sock in its directory
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The monitor's program: vmm beside this one
    #[arg(long)]
    vmm: Option<PathBuf>,
    /// The kernel of Linux guests: vmlinux beside the monitor
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// The first file system of Linux guests, which is their agent: agent.cpio beside the monitor
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// Print the API's OpenAPI document and end
    #[arg(long)]
    openapi: bool,
    /// Print the life of a VM, every state and every move, and end
    #[arg(long)]
    states: bool,
}

fn main() -> ExitCode {
    match start(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> anyhow::Result<()> {
    if flags.openapi {
        println!("{}", Document::openapi().to_pretty_json()?);
        return Ok(());
    }
    if flags.states {
        print!("{}", daemon::state::markdown());
        return Ok(());
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHOAL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    prepare()?;
    let vmm = flags.vmm.map_or_else(|| beside("vmm"), Ok)?;
    let with_it = |name| vmm.with_file_name(name);
    let options = Options {
        dir: flags.dir.map_or_else(default_dir, Ok)?,
        socket: flags.socket,
        programs: Programs {
            kernel: flags.kernel.unwrap_or_else(|| with_it("vmlinux")),
            initrd: flags.initrd.unwrap_or_else(|| with_it("agent.cpio")),
        },
        vmm,
        recipes: beside("../share/shoal/recipes")?,
        factory: beside("../share/shoal/images")?,
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(options))?;
    Ok(())
}

fn default_dir() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/shoal".into());
    }
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    data.or_else(home)
        .map(|data| data.join("shoal"))
        .ok_or_else(|| anyhow::anyhow!("neither XDG_DATA_HOME nor HOME is set: give --dir"))
}

/// A path from where this program is: an installation is a tree.
fn beside(path: &str) -> anyhow::Result<PathBuf> {
    let us = std::env::current_exe()?;
    Ok(us.parent().unwrap_or(&us).join(path))
}
