//! `vmctl console`: the VM's own console, below whatever runs in it.

use std::io;

use anyhow::Result;
use api::{GuestKind, Vm};
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::console::{follow, show};
use crate::context::Context;
use crate::copy::pipe;
use crate::output::one_line;
use crate::session::keys::Watch;
use crate::session::local::{self, FOR_PROGRAMS};
use crate::session::{Keys, Local};
use crate::terminal::{self, Raw};

/// Keys that are read at a time.
const KEYS: usize = 4096;

/// Show a VM's console as it goes on, and type into it: the kernel's own, where a Linux guest's program does not answer. Keys go there one
/// by one where it is a Linux guest's, and ctrl-p ctrl-q leaves; else line by line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, the beginning of its id, or its name
    vm: String,

    /// How many of the lines so far are shown first
    #[arg(short = 'n', long, default_value_t = 10, value_name = "LINES")]
    tail: u64,

    /// Keys that leave it [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<Keys>,
}

impl Args {
    /// From now on, and with the usual keys.
    pub(super) fn of(vm: String) -> Self {
        Self {
            vm,
            tail: 0,
            detach_keys: None,
        }
    }
}

/// Stays at it until the VM has ended.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let client = context.client().await?;
    let vm = client.inspect(&args.vm).await?;
    let raw = vm.kind == GuestKind::Linux && terminal::is_typed();
    let mut console = follow(&client, &vm, Some(args.tail)).await?;
    let keys = match raw {
        true => args.detach_keys.unwrap_or_default(),
        false => Keys::NONE,
    };
    let mut local = local::listen(match raw {
        true => &FOR_PROGRAMS,
        // As every command: they end it.
        false => &[],
    })?;
    let (typed, to_type) = mpsc::channel(1);
    let mut leaving = std::pin::pin!(read(typed, Watch::new(keys)));
    let mut typing = std::pin::pin!(client.console(&vm.id, pipe::stream(to_type)));
    let (mut reads, mut types) = (true, true);
    let mode = raw.then(Raw::new).transpose()?;
    let status = loop {
        tokio::select! {
            biased;
            more = show(context, &mut console) => if !more? {
                break 0;
            },
            Some(heard) = local.recv() => if let Local::Signal(signal) = heard {
                break signal.saturating_add(128);
            },
            left = &mut leaving, if reads => {
                reads = false;
                if left? {
                    break 0;
                }
            }
            typed = &mut typing, if types => {
                types = false;
                if let Err(error) = typed {
                    note(context, &vm, error);
                }
            }
        }
    };
    drop(mode);
    Ok(status)
}

fn note(context: &Context, vm: &Vm, error: api::ClientError) {
    let error = one_line(&error.into());
    let text = format!("input no longer reaches {}: {error}", vm.name);
    context.output.note(&text);
}

/// Passes keys on until the user leaves (then true) or there are no more.
async fn read(to: mpsc::Sender<io::Result<Bytes>>, mut watch: Watch) -> io::Result<bool> {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; KEYS];
    loop {
        let count = input.read(&mut buffer).await?;
        let mut typed = Vec::new();
        let left = watch.typed(&buffer[..count], &mut typed);
        if count == 0 {
            typed.extend_from_slice(watch.rest());
        }
        if !typed.is_empty() && to.send(Ok(typed.into())).await.is_err() {
            return Ok(false);
        }
        if left || count == 0 {
            return Ok(left);
        }
    }
}
