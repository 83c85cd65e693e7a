//! The command line's grammar.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::command;
use crate::context::Context;
use crate::output::{Format, Output};

/// Exit status where vmctl itself failed, and the command's status is not a guest's.
const FAILED: u8 = 1;
/// Exit status where vmctl itself failed, and the command's status is a guest's: as docker's.
const FAILED_BESIDE_GUEST: u8 = 125;

const STATUS_HELP: &str = "\
Exit status:
  0    it worked
  1    it did not: one line on the standard error says why
  2    the command line is wrong
  run, attach, exec, and create --wait, pass the program's own status on (above 255 as 255; 128 + N where
  signal N ended it). Where there is none:
  124  the VM's time was over (--timeout)
  125  vmctl failed, not the VM
  126  the VM broke: a triple fault, a halt for ever, a monitor that failed; exec: the program cannot be run
  127  exec: the program is not there
  137  the VM was stopped or killed from outside";

/// Boots microVMs in milliseconds and looks after them.
#[derive(Debug, Parser)]
#[command(name = "vmctl", version, after_help = STATUS_HELP, propagate_version = true)]
#[command(arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// In which form results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,

    /// Print results only: no progress, no hints (ps, image ls: ids only)
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Where this host's daemon keeps everything [default: /var/lib/shoal, or ~/.local/share/shoal without root]
    #[arg(long, global = true, env = "SHOAL_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The daemon's socket [default: vmd.sock in that directory]
    #[arg(long, global = true, env = "SHOAL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a VM, start it and print its id
    Create(command::create::Args),
    /// Create a VM and stay with it: its output, and its exit status
    Run(command::run::Args),
    /// Run a program in a VM, beside its main one
    Exec(command::exec::Args),
    /// Return to a VM's main program
    Attach(command::attach::Args),
    /// Show a VM's console and type into it
    Console(command::console::Args),
    /// Copy files into a VM or out of it
    Cp(command::cp::Args),
    /// List VMs
    #[command(visible_alias = "ls")]
    Ps(command::ps::Args),
    /// Show what a VM's console has written
    Logs(command::logs::Args),
    /// Show all there is to know of a VM
    Inspect(command::inspect::Args),
    /// Show where a VM's published ports are on this host
    Port(command::port::Args),
    /// Show what VMs use
    Stats(command::stats::Args),
    /// Show the processes of a VM
    Top(command::top::Args),
    /// Start VMs again that have ended
    Start(command::start::Args),
    /// Stop VMs and start them again
    Restart(command::restart::Args),
    /// Make VMs stand still
    Pause(command::pause::Args),
    /// Let VMs go on that stand still
    #[command(visible_alias = "resume")]
    Unpause(command::pause::Args),
    /// Ask VMs to end, and end them after a deadline
    Stop(command::stop::Args),
    /// End VMs at once, or send their programs a signal
    Kill(command::kill::Args),
    /// Remove VMs that have ended
    Rm(command::rm::Args),
    /// Wait until VMs have ended, and print their statuses
    Wait(command::wait::Args),
    /// What VMs boot
    #[command(subcommand, visible_alias = "images")]
    Image(command::image::Command),
    /// What joins VMs with one another and with the world
    #[command(subcommand, visible_alias = "networks")]
    Network(command::network::Command),
    /// Disks that outlive VMs
    #[command(subcommand, visible_alias = "volumes")]
    Volume(command::volume::Command),
    /// Write the beginnings of a program of your own
    New(command::new::Args),
    /// Say what this host can do, what is missing and how to mend it
    Doctor,
    /// Show the versions of vmctl and of the daemon
    Version,
    /// Follow what happens to VMs
    Events(command::events::Args),
    /// Print completions for a shell
    Completions(command::completions::Args),
}

impl Command {
    /// The exit status for a failure that is vmctl's own.
    pub(crate) fn own_failure(&self) -> u8 {
        match self {
            Self::Run(args) if args.passes_status_on() => FAILED_BESIDE_GUEST,
            Self::Exec(_) | Self::Attach(_) => FAILED_BESIDE_GUEST,
            Self::Create(args) if args.passes_status_on() => FAILED_BESIDE_GUEST,
            _ => FAILED,
        }
    }
}

impl Cli {
    /// Carries the command out; the answer is the exit status.
    pub(crate) fn run(self) -> Result<u8> {
        // One thread: a command waits, and does little else.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        let code = runtime.block_on(self.dispatch());
        // Not its ordinary end, which waits for the thread that waits for the terminal's next line.
        runtime.shutdown_background();
        code
    }

    async fn dispatch(self) -> Result<u8> {
        let output = Output::new(self.output, self.quiet);
        let context = Context::new(output, self.dir, self.socket)?;
        let context = &context;
        match self.command {
            Command::Create(args) => command::create::run(context, args).await,
            Command::Run(args) => command::run::run(context, args).await,
            Command::Exec(args) => command::exec::run(context, args).await,
            Command::Attach(args) => command::attach::run(context, args).await,
            Command::Console(args) => command::console::run(context, args).await,
            Command::Cp(args) => command::cp::run(context, args).await,
            Command::Port(args) => command::port::run(context, args).await,
            Command::Stats(args) => command::stats::run(context, args).await,
            Command::Top(args) => command::top::run(context, args).await,
            Command::Start(args) => command::start::run(context, args).await,
            Command::Restart(args) => command::restart::run(context, args).await,
            Command::Pause(args) => command::pause::pause(context, args).await,
            Command::Unpause(args) => command::pause::unpause(context, args).await,
            Command::Network(command) => command.run(context).await,
            Command::Volume(command) => command.run(context).await,
            Command::Ps(args) => command::ps::run(context, args).await,
            Command::Logs(args) => command::logs::run(context, args).await,
            Command::Inspect(args) => command::inspect::run(context, args).await,
            Command::Stop(args) => command::stop::run(context, args).await,
            Command::Kill(args) => command::kill::run(context, args).await,
            Command::Rm(args) => command::rm::run(context, args).await,
            Command::Wait(args) => command::wait::run(context, args).await,
            Command::Image(command) => command.run(context).await,
            Command::New(args) => command::new::run(context, &args),
            Command::Doctor => command::doctor::run(context).await,
            Command::Version => command::version::run(context).await,
            Command::Events(args) => command::events::run(context, args).await,
            Command::Completions(args) => command::completions::run(&args),
        }
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
