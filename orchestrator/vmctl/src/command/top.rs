//! `vmctl top`: what runs in a VM.

use abi::agent::reply::Exit;
use anyhow::{Result, bail};
use api::{ClientError, ErrorCode, Exec};

use crate::context::Context;
use crate::render;
use crate::render::processes::{Process, SCRIPT, parse};
use crate::session::{Heard, Messages, told};

/// Most bytes that are read of a guest's answer.
const MOST: usize = 16 << 20;

/// Show the processes of a Linux guest. Its image needs a shell and `head` for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, the beginning of its id, or its name
    vm: String,
}

/// Shows them.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let processes = processes(context, &args.vm).await?;
    context.output.result(&processes, || {
        render::processes::table(&processes, context.output.style)
    })?;
    Ok(0)
}

async fn processes(context: &Context, vm: &str) -> Result<Vec<Process>> {
    let client = context.client().await?;
    let exec = Exec {
        command: ["/bin/sh", "-c", SCRIPT].map(str::to_owned).into(),
        user: Some("root".to_owned()),
        workdir: Some("/".to_owned()),
        ..Exec::default()
    };
    let session = match client.exec(vm, &exec).await {
        Ok(session) => session,
        Err(ClientError::Refused(refusal))
            if refusal.code == ErrorCode::NotFound && client.inspect(vm).await.is_ok() =>
        {
            bail!("{vm}'s image has no /bin/sh, which top needs: see `vmctl stats {vm}`")
        }
        Err(error) => return Err(error.into()),
    };
    let mut messages = Messages::new(session);
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    loop {
        match messages.next().await.map_err(told)? {
            Heard::Stdout(bytes) => said.extend_from_slice(&bytes),
            Heard::Stderr(bytes) => complained.extend_from_slice(&bytes),
            Heard::Exit(Exit::Code(0)) => return Ok(parse(&said)),
            Heard::Exit(exit) => {
                // Processes that ended meanwhile are told too.
                let processes = parse(&said);
                if !processes.is_empty() {
                    return Ok(processes);
                }
                let why = String::from_utf8_lossy(&complained);
                let why = why.lines().last().unwrap_or("it said nothing").to_owned();
                bail!(
                    "{vm} cannot list its processes (status {}): {why}",
                    exit.status()
                );
            }
            Heard::Started(_) | Heard::Ready | Heard::Dropped(_) => {}
        }
        if said.len() + complained.len() > MOST {
            bail!("{vm} says more than {} MiB of its processes", MOST >> 20);
        }
    }
}
