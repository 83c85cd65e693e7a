//! `vmctl port`.

use anyhow::{Result, bail};
use api::{Protocol, Publish};

use crate::context::Context;
use crate::render;

/// Show where a VM's published ports are on this host.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, the beginning of its id, or its name
    vm: String,

    /// Only this port of the guest: PORT[/tcp|/udp]
    #[arg(value_parser = guest_port)]
    port: Option<(u16, Protocol)>,
}

/// Shows them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let vm = context.client().await?.inspect(&args.vm).await?;
    let mut ports = vm.linux.map(|linux| linux.ports).unwrap_or_default();
    if let Some((port, protocol)) = args.port {
        ports.retain(|p| (p.guest_port, p.protocol) == (port, protocol));
        if ports.is_empty() {
            let protocol = render::ports::protocol(protocol);
            bail!("{} has no published port {port}/{protocol}", args.vm);
        }
    }
    let one = args.port.is_some();
    context.output.result(&ports, || match one {
        true => ports
            .iter()
            .map(|p| format!("{}\n", render::ports::host(p)))
            .collect(),
        false => ports
            .iter()
            .map(|p| format!("{}\n", render::ports::line(p)))
            .collect(),
    })?;
    Ok(0)
}

fn guest_port(text: &str) -> Result<(u16, Protocol), String> {
    match text.parse::<Publish>() {
        Ok(port) if port.host_ip.is_none() && port.host_port == 0 && !text.contains(':') => {
            Ok((port.guest_port, port.protocol))
        }
        _ => Err(format!(
            "{text:?} is no port of a guest: 80 or 53/udp is one"
        )),
    }
}
