//! `vmctl volume`: disks that outlive VMs.

use anyhow::Result;
use api::CreateVolume;
use jiff::Timestamp;

use super::several::each;
use crate::context::Context;
use crate::units::memory_mib;
use crate::{render, units};

/// Disks that outlive VMs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls,
    /// Make a volume
    Create {
        /// Its name
        name: String,

        /// Its size, which takes room only as it is written: a number of mebibytes, or one with M or G [default: 8G]
        #[arg(long, value_parser = memory_mib)]
        size: Option<u64>,
    },
    /// Remove volumes that no VM has, and all that is on them
    Rm {
        /// Names
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// Show a volume
    Inspect {
        /// Its name
        volume: String,
    },
    /// Remove every volume that no VM has, and all that is on them
    Prune,
}

impl Command {
    /// Carries it out.
    pub(crate) async fn run(self, context: &Context) -> Result<u8> {
        let client = context.client().await?;
        let output = &context.output;
        match self {
            Self::Ls => {
                let volumes = client.volumes().await?;
                output.result(&volumes, || match output.quiet {
                    true => volumes.iter().map(|v| format!("{}\n", v.name)).collect(),
                    false => render::volumes::table(&volumes, Timestamp::now(), output.style),
                })?;
            }
            Self::Create { name, size } => {
                let asked = CreateVolume {
                    name,
                    size_mib: size,
                };
                let volume = client.create_volume(&asked).await?;
                output.result(&volume, || format!("{}\n", volume.name))?;
            }
            Self::Rm { volumes } => {
                let remove = async |name: String| {
                    client.remove_volume(&name).await?;
                    Ok(name)
                };
                let quiet = output.quiet;
                return each(context, &volumes, "removing", remove, |name, _| {
                    (!quiet).then(|| name.to_owned())
                })
                .await;
            }
            Self::Inspect { volume } => {
                let volume = client.volume(&volume).await?;
                output.result(&volume, || {
                    render::volumes::page(&volume, Timestamp::now(), output.style)
                })?;
            }
            Self::Prune => {
                let pruned = client.prune_volumes().await?;
                output.result(&pruned, || {
                    let mut text: String =
                        pruned.removed.iter().map(|v| format!("{v}\n")).collect();
                    if !output.quiet {
                        text += &format!("freed {}\n", units::bytes(pruned.bytes));
                    }
                    text
                })?;
            }
        }
        Ok(0)
    }
}
