//! Debian's `docker-registry`, on loopback, for as long as a test wants it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// A registry that runs; it ends with this.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts one that keeps its blobs in `dir`, and waits until it listens.
    ///
    /// # Errors
    /// Where the program is missing or does not come to listen.
    pub fn start(dir: &Path) -> Result<Self> {
        // Nobody else gets this port at once, for the system hands out others first.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let config = dir.join("registry.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: \"127.0.0.1:{port}\"}}\n",
                dir.join("registry").display()
            ),
        )?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("docker-registry cannot be run")?;
        let mut registry = Self { child, port };
        let said = registry.child.stderr.take().context("it is a pipe")?;
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        ensure!(
            lines.any(|line| line.contains("listening on")),
            "the registry does not listen"
        );
        // Its further words go nowhere, and it does not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(registry)
    }

    /// Where `image` is in it.
    #[must_use]
    pub fn reference(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
