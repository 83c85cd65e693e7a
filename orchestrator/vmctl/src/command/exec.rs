//! `vmctl exec`: a program in a VM, beside its main one.

use anyhow::{Result, bail};
use api::{Client, ClientError, ErrorCode, Exec};
use serde::Serialize;

use super::description::Variables;
use super::run::NO_TERMINAL;
use crate::context::Context;
use crate::session::local::{self, FOR_PROGRAMS};
use crate::session::relay::Streams;
use crate::session::{End, Heard, Keys, Manner, Messages, SessionError, relay, told};
use crate::terminal::{self, Raw};

/// The program is there and cannot be run: as a shell says it.
const NOT_RUN: u8 = 126;
/// The program is not there.
const NOT_FOUND: u8 = 127;

/// Run a program in a Linux guest, beside its main one. Its exit status becomes vmctl's: 128 and more where a signal ended it, 126 where
/// it cannot be run, 127 where it is not there. Without a terminal, signals are passed on to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    // One list, so that all that follows the VM is the program's, options too: as docker's.
    /// The VM: its id, the beginning of its id, or its name. Then the program and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_names = ["VM", "COMMAND"])]
    words: Vec<String>,

    /// Pass the standard input on
    #[arg(short, long)]
    interactive: bool,

    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,

    /// Let it run by itself
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,

    #[command(flatten)]
    variables: Variables,

    /// Who runs it: NAME or UID, and :GROUP; as the main program where nothing is said
    #[arg(short, long)]
    user: Option<String>,

    /// Where it runs; as the main program where nothing is said
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

/// What `-o json` prints of a program that runs by itself.
#[derive(Serialize)]
struct Started {
    /// Its process in the guest.
    pid: u32,
}

/// Runs it.
pub(crate) async fn run(context: &Context, args: Args) -> Result<u8> {
    let raw = args.interactive && args.tty;
    if raw && !terminal::is_typed() {
        bail!(NO_TERMINAL);
    }
    let mut words = args.words.into_iter();
    // The grammar asks for it.
    let vm = words.next().unwrap_or_default();
    let exec = Exec {
        command: words.collect(),
        env: args.variables.read()?,
        user: args.user,
        workdir: args.workdir,
        tty: args.tty.then(terminal::size),
        term: if args.tty { terminal::kind() } else { None },
        stdin: args.interactive,
        detach: args.detach,
    };
    // Heard from here on: none may end us while the terminal is raw.
    let mut local = local::listen(&FOR_PROGRAMS)?;
    let client = context.client().await?;
    let session = tokio::select! {
        session = client.exec(&vm, &exec) => session,
        signal = local::ending(&mut local) => return Ok(signal.saturating_add(128)),
    };
    let session = match session {
        Ok(session) => session,
        Err(error) => return refused(&client, &vm, error).await,
    };
    if args.detach {
        return match Messages::new(session).next().await.map_err(told)? {
            Heard::Started(pid) => {
                context.output.result(&Started { pid }, String::new)?;
                Ok(0)
            }
            other => bail!("the daemon says {other:?} of a program that was to run by itself"),
        };
    }
    let manner = Manner {
        tty: args.tty,
        raw,
        // An exec ends with its connection: there is nothing to leave running.
        keys: Keys::NONE,
    };
    let mode = raw.then(Raw::new).transpose()?;
    let streams = Streams::ours(args.interactive);
    let end = relay(session, streams, &mut local, manner, || {}).await;
    drop(mode);
    match end {
        Ok(End::Exit(exit)) => Ok(exit.status()),
        Ok(End::Signal(signal)) => Ok(signal.saturating_add(128)),
        Ok(End::Detached) => Ok(0),
        Err(SessionError::Refused(failure)) => {
            use abi::agent::reply::Code;
            let status = match failure.code {
                Code::NotFound => NOT_FOUND,
                Code::NotExecutable | Code::Permission => NOT_RUN,
                _ => return Err(SessionError::Refused(failure).into()),
            };
            tell(&failure.message);
            Ok(status)
        }
        Err(error) => Err(told(error)),
    }
}

/// What a shell would say of a program that does not run.
async fn refused(client: &Client, vm: &str, error: ClientError) -> Result<u8> {
    let status = match error.refusal().map(|refusal| refusal.code) {
        // Of the VM, that is said too.
        Some(ErrorCode::NotFound) if client.inspect(vm).await.is_ok() => NOT_FOUND,
        Some(ErrorCode::Unacceptable) => NOT_RUN,
        _ => return Err(error.into()),
    };
    tell(&error.to_string());
    Ok(status)
}

fn tell(why: &str) {
    eprintln!("vmctl: {}", crate::output::printable(why));
}
