//! `vmctl version`.

use anyhow::Result;
use api::Client;
use serde::Serialize;

use crate::context::Context;

/// What `-o json` prints.
#[derive(Serialize)]
struct Versions {
    /// Of this program.
    vmctl: &'static str,
    /// Of the daemon, where one runs.
    daemon: Option<api::Version>,
}

/// Shows them. A daemon is not started for it.
pub(crate) async fn run(context: &Context) -> Result<u8> {
    let daemon = match Client::new(&context.place.socket).version().await {
        Ok(version) => Some(version),
        Err(e) if e.is_connect() => None,
        Err(e) => return Err(e.into()),
    };
    let versions = Versions {
        vmctl: env!("CARGO_PKG_VERSION"),
        daemon,
    };
    context.output.result(&versions, || {
        let daemon = match &versions.daemon {
            Some(d) => format!("{} (API {}, pid {})", d.version, d.api, d.pid),
            None => "not running".to_owned(),
        };
        format!("vmctl  {}\nvmd    {daemon}\n", versions.vmctl)
    })?;
    Ok(0)
}
