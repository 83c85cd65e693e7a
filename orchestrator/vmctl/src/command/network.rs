//! `vmctl network`: what joins VMs with one another and with the world.

use anyhow::Result;
use api::CreateNetwork;

use super::several::each;
use crate::context::Context;
use crate::render;

/// What joins VMs with one another and with the world.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List networks
    #[command(visible_alias = "list")]
    Ls,
    /// Make a network
    Create {
        /// Its name
        name: String,

        /// Its IPv4 addresses, as 10.88.0.0/24; some that no other network has where nothing is said
        #[arg(long, visible_alias = "subnet", value_name = "ADDRESSES")]
        ipv4: Option<String>,

        /// Its IPv6 addresses, as fd00:1::/64; some that no other network has where nothing is said
        #[arg(long, value_name = "ADDRESSES")]
        ipv6: Option<String>,

        /// Bytes of its largest packet, 1280 to 65521; the host's own where nothing is said, at most 1500
        #[arg(long, value_name = "BYTES")]
        mtu: Option<u16>,
    },
    /// Remove networks that no VM is in
    Rm {
        /// Names
        #[arg(required = true)]
        networks: Vec<String>,
    },
    /// Show a network and who is in it
    Inspect {
        /// Its name
        network: String,
    },
}

impl Command {
    /// Carries it out.
    pub(crate) async fn run(self, context: &Context) -> Result<u8> {
        let client = context.client().await?;
        let output = &context.output;
        match self {
            Self::Ls => {
                let networks = client.networks().await?;
                output.result(&networks, || match output.quiet {
                    true => networks.iter().map(|n| format!("{}\n", n.name)).collect(),
                    false => render::networks::table(&networks, output.style),
                })?;
            }
            Self::Create {
                name,
                ipv4,
                ipv6,
                mtu,
            } => {
                let asked = CreateNetwork {
                    name,
                    ipv4,
                    ipv6,
                    mtu,
                };
                let network = client.create_network(&asked).await?;
                output.result(&network, || format!("{}\n", network.name))?;
            }
            Self::Rm { networks } => {
                let remove = async |name: String| {
                    client.remove_network(&name).await?;
                    Ok(name)
                };
                let quiet = output.quiet;
                return each(context, &networks, "removing", remove, |name, _| {
                    (!quiet).then(|| name.to_owned())
                })
                .await;
            }
            Self::Inspect { network } => {
                let network = client.network(&network).await?;
                output.result(&network, || render::networks::page(&network, output.style))?;
            }
        }
        Ok(0)
    }
}
