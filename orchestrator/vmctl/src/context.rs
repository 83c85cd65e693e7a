//! What every command has: a way to print, and a way to the daemon.

use std::path::PathBuf;

use anyhow::Result;
use api::{Client, Until, Vm};

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

    /// Waits for a VM, also through the end of one daemon and the start of the next.
    pub(crate) async fn wait(&self, vm: &str, until: Until) -> Result<Vm> {
        loop {
            match self.client().await?.wait(vm, until).await {
                Err(error) if error.is_lost() => {}
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::output::Format;

    #[tokio::test]
    async fn a_wait_goes_on_where_a_daemon_went_away() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context::new(
            Output::new(Format::Text, true),
            Some(dir.path().to_owned()),
            None,
        );
        let context = context.unwrap();
        let listener = UnixListener::bind(&context.place.socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let mut requests = 0;
            // Some connections only look whether somebody is there.
            while requests < 3 {
                let (mut client, _) = listener.accept().unwrap();
                if client.read(&mut [0; 4096]).unwrap_or(0) == 0 {
                    continue;
                }
                requests += 1;
                if requests == 3 {
                    let body = r#"{"error":{"code":"not_found","message":"heard"}}"#;
                    let head = "HTTP/1.1 404 Not Found\r\nContent-Length";
                    write!(client, "{head}: {}\r\n\r\n{body}", body.len()).unwrap();
                }
            }
        });
        let answer = context.wait("web", Until::Ended).await.unwrap_err();
        assert_eq!(answer.to_string(), "heard");
        daemon.join().unwrap();
    }
}
