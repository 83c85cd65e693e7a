//! A VM's console: what it writes, followed through the end of one daemon and the start of the next; and what is typed into it.

use anyhow::Result;
use api::client::Bytestream;
use api::{Client, ClientError, LogsQuery, Until, Vm};
use tokio_util::io::ReaderStream;

use crate::context::Context;
use crate::output::{one_line, print_bytes};

/// Shows the console from its beginning until the VM has ended, and types into it where this is wanted. `ending` never ends but by an
/// error.
pub(crate) async fn stay(
    context: &Context,
    client: &Client,
    vm: &Vm,
    interactive: bool,
    ending: impl Future<Output = Result<()>>,
) -> Result<Vm> {
    let mut console = follow(client, vm, None).await?;
    let mut input = std::pin::pin!(pass_input(client, vm, interactive));
    let mut input_open = true;
    let mut ending = std::pin::pin!(ending);
    loop {
        tokio::select! {
            // What the console has said is shown before anything else is done.
            biased;
            more = show(context, &mut console) => match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if is_lost(&error) => {
                    note_gap(context, vm);
                    console = follow(&context.client().await?, vm, Some(0)).await?;
                }
                Err(error) => return Err(error),
            },
            ended = &mut ending => ended?,
            () = &mut input, if input_open => input_open = false,
        }
    }
    context.wait(&vm.id, Until::Ended).await
}

/// Says that output may be missing.
pub(crate) fn note_gap(context: &Context, vm: &Vm) {
    context.output.note(&format!(
        "the daemon was gone; what {} said meanwhile is in `vmctl logs {}`",
        vm.name, vm.id
    ));
}

/// Shows all that the console of a VM that has ended has kept.
pub(crate) async fn show_all(context: &Context, client: &Client, vm: &Vm) -> Result<()> {
    let mut console = client.logs(&vm.id, LogsQuery::default()).await?;
    while show(context, &mut console).await? {}
    Ok(())
}

/// Follows the console: from its beginning, or after the last `tail` lines.
pub(crate) async fn follow(client: &Client, vm: &Vm, tail: Option<u64>) -> Result<Bytestream> {
    let query = LogsQuery { follow: true, tail };
    Ok(client.logs(&vm.id, query).await?)
}

/// Whether the daemon went away, which ends no VM.
fn is_lost(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Broken(_)))
}

/// Shows what came of the console; says whether more may come.
pub(crate) async fn show(context: &Context, console: &mut Bytestream) -> Result<bool> {
    let Some(bytes) = console.next().await? else {
        return Ok(false);
    };
    if context.output.is_json() {
        use std::io::Write;
        std::io::stderr().write_all(&bytes)?;
    } else {
        print_bytes(&bytes)?;
    }
    Ok(true)
}

async fn pass_input(client: &Client, vm: &Vm, interactive: bool) {
    if !interactive {
        return;
    }
    let input = ReaderStream::new(tokio::io::stdin());
    if let Err(error) = client.console(&vm.id, input).await {
        let error = one_line(&error.into());
        eprintln!("vmctl: input no longer reaches {}: {error}", vm.name);
    }
}
