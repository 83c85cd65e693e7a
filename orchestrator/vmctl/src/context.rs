//! What every command has: a way to print, and a way to the daemon.

use std::path::PathBuf;

use anyhow::Result;
use api::Client;

use crate::daemon;
use crate::output::Output;
use crate::place::Place;

/// What every command has.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where its words go.
    pub(crate) output: Output,
    /// Where the host's daemon is.
    pub(crate) place: Place,
}

impl Context {
    pub(crate) fn new(
        output: Output,
        dir: Option<PathBuf>,
        socket: Option<PathBuf>,
    ) -> Result<Self> {
        let place = Place::new(dir, socket)?;
        Ok(Self { output, place })
    }

    /// A client of the host's daemon, which is started where none answers.
    pub(crate) async fn client(&self) -> Result<Client> {
        daemon::reach(&self.place).await?;
        Ok(Client::new(&self.place.socket))
    }
}
