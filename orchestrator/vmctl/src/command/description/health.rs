//! How a VM's health is found out: docker's options, and probes of ports.

use api::{HealthProbe, Probe};

use crate::units::milliseconds;

/// How a VM's health is found out.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Health of Linux guests")]
pub(crate) struct Health {
    /// A shell command in the guest that ends with status 0 where all is well
    #[arg(long, value_name = "COMMAND", group = "probe")]
    health_cmd: Option<String>,

    /// A port of the guest that takes connections where all is well
    #[arg(long, value_name = "PORT", group = "probe", value_parser = clap::value_parser!(u16).range(1..))]
    health_tcp: Option<u16>,

    /// A port of the guest, and a path, at which HTTP answers with 200 to 399 where all is well
    #[arg(long, value_name = "PORT[/PATH]", group = "probe", value_parser = http)]
    health_http: Option<Probe>,

    /// Time from one probe to the next [default: 30s]
    #[arg(long, value_parser = milliseconds, value_name = "TIME", requires = "probe")]
    health_interval: Option<u64>,

    /// Time that a probe may take [default: 30s]
    #[arg(long, value_parser = milliseconds, value_name = "TIME", requires = "probe")]
    health_timeout: Option<u64>,

    /// How many probes fail, one after the other, until the VM counts as unhealthy [default: 3]
    #[arg(long, value_name = "COUNT", requires = "probe", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,

    /// Time from the start in which a failure does not count [default: 0s]
    #[arg(long, value_parser = milliseconds, value_name = "TIME", requires = "probe")]
    health_start_period: Option<u64>,
}

impl Health {
    /// As the daemon is asked for it.
    pub(super) fn asked(self) -> Option<HealthProbe> {
        let shell = |command| Probe::Exec {
            command: vec!["/bin/sh".to_owned(), "-c".to_owned(), command],
        };
        let probe = self
            .health_cmd
            .map(shell)
            .or(self.health_tcp.map(|port| Probe::Tcp { port }))
            .or(self.health_http)?;
        let usual = HealthProbe::new(probe);
        Some(HealthProbe {
            interval_ms: self.health_interval.unwrap_or(usual.interval_ms),
            timeout_ms: self.health_timeout.unwrap_or(usual.timeout_ms),
            retries: self.health_retries.unwrap_or(usual.retries),
            start_period_ms: self.health_start_period.unwrap_or(usual.start_period_ms),
            ..usual
        })
    }
}

/// `8080` or `8080/ready`.
fn http(text: &str) -> Result<Probe, String> {
    let (port, path) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, "/"),
    };
    match port.parse() {
        Ok(port) if port != 0 => Ok(Probe::Http {
            port,
            path: path.to_owned(),
        }),
        _ => Err(format!(
            "{text:?} is no port and path: 80 or 8080/ready is one"
        )),
    }
}
