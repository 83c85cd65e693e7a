//! What only a Linux guest takes.

use abi::agent::signal;
use api::{CreateVm, Init, Publish, RateLimit, Restart, VolumeMount};

use super::health::Health;
use crate::units::{memory_mib, milliseconds, rate};

/// What only a Linux guest takes.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Linux guests")]
pub(crate) struct Linux {
    /// A port of this host that leads to one of the guest: [[ADDRESS:]HOST:]GUEST[/tcp|/udp]
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<Publish>,

    /// A volume and where the guest finds it: NAME:/PATH[:ro]; it is made where it is not there
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<VolumeMount>,

    /// A network that it is in, or none; `default` where nothing is said
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,

    /// Its host name; its name where nothing is said
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// Who runs the program: NAME or UID, and :GROUP
    #[arg(short, long)]
    user: Option<String>,

    /// Where the program runs
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// What is run, in the place of the image's entrypoint; "" for the arguments alone
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// When the program is started again: no, on-failure[:COUNT], always (or unless-stopped, which is the same)
    #[arg(long, value_name = "WHEN", value_parser = restart)]
    restart: Option<Restart>,

    /// The signal that asks the program to end: TERM, SIGQUIT, 3
    #[arg(long, value_name = "SIGNAL", value_parser = signal_name)]
    stop_signal: Option<String>,

    /// Time that the program has to end after that signal [default: 10s]
    #[arg(long, value_parser = milliseconds, value_name = "TIME")]
    stop_timeout: Option<u64>,

    /// The size of its own disk, which takes room only as it is written: a number of mebibytes, or one with M or G [default: 8G]
    #[arg(long, value_parser = memory_mib, value_name = "SIZE")]
    disk: Option<u64>,

    /// Most that each of its disks does in a second: bytes as 10M, requests as 500/s, or both as 10M,500/s
    #[arg(long, value_parser = rate, value_name = "RATE")]
    disk_rate: Option<RateLimit>,

    /// Most that each of its network devices carries in a second, each way: bytes, packets, or both as 10M,500/s
    #[arg(long, value_parser = rate, value_name = "RATE")]
    net_rate: Option<RateLimit>,

    /// The program is an init of its own (systemd, for one): it becomes process 1
    #[arg(long)]
    own_init: bool,

    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    kernel_args: Option<String>,

    #[command(flatten)]
    health: Health,
}

impl Linux {
    /// Puts it into what the daemon is asked for.
    pub(super) fn into_request(self, request: &mut CreateVm) {
        request.ports = self.publish;
        request.volumes = self.volume;
        request.networks = (!self.network.is_empty()).then_some(self.network);
        request.hostname = self.hostname;
        request.user = self.user;
        request.workdir = self.workdir;
        request.entrypoint = self.entrypoint.map(|program| match program.is_empty() {
            true => Vec::new(),
            false => vec![program],
        });
        request.restart = self.restart.unwrap_or_default();
        request.stop_signal = self.stop_signal;
        request.stop_timeout_ms = self.stop_timeout;
        request.disk_mib = self.disk;
        request.disk_rate = self.disk_rate;
        request.net_rate = self.net_rate;
        request.kernel_args = self.kernel_args.unwrap_or_default();
        request.health = self.health.asked();
        if self.own_init {
            request.init = Init::Image;
        }
    }
}

fn restart(text: &str) -> Result<Restart, api::ParseError> {
    match text {
        "unless-stopped" => "always".parse(),
        other => other.parse(),
    }
}

/// A signal's name or number, as it was typed.
pub(crate) fn signal_name(text: &str) -> Result<String, String> {
    match signal::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?} is no signal: TERM, SIGTERM or 15 is one")),
    }
}
