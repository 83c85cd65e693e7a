//! Debian packages, by name, where this machine lets us.

use anyhow::{Result, bail};

use crate::cmd::{Cmd, is_there};
use crate::style;

/// QEMU: the monitor that Shoal is compared with, and a second opinion on every guest.
pub(crate) const QEMU: Package = Package {
    program: "qemu-system-x86_64",
    name: "qemu-system-x86",
    why: "boots the same guests for comparison",
};

/// What measures the networks of guests.
pub(crate) const IPERF: Package = Package {
    program: "iperf3",
    name: "iperf3",
    why: "measures the networks of guests",
};

/// What tests make and look at networks with.
pub(crate) const NETWORK: [Package; 2] = [
    Package {
        program: "ip",
        name: "iproute2",
        why: "makes the networks of tests",
    },
    Package {
        program: "nft",
        name: "nftables",
        why: "shows that nothing is left of a packet filter",
    },
];

/// What the tests of images hold our readers and writers against, and what builds recipes.
pub(crate) const IMAGES: [Package; 6] = [
    Package {
        program: "fsck.erofs",
        name: "erofs-utils",
        why: "checks every root that is made",
    },
    Package {
        program: "mmdebstrap",
        name: "mmdebstrap",
        why: "builds images from recipes",
    },
    Package {
        program: "umoci",
        name: "umoci",
        why: "makes images that we did not write",
    },
    Package {
        program: "skopeo",
        name: "skopeo",
        why: "carries images between archives and registries",
    },
    Package {
        program: "docker-registry",
        name: "docker-registry",
        why: "is a registry to pull from",
    },
    Package {
        program: "busybox",
        name: "busybox-static",
        why: "is the program of a guest's image",
    },
];

/// Clients of the programs that recipes hold.
pub(crate) const CLIENTS: [Package; 2] = [
    Package {
        program: "ab",
        name: "apache2-utils",
        why: "asks web servers many times",
    },
    Package {
        program: "mariadb",
        name: "mariadb-client-core",
        why: "speaks to the database",
    },
];

/// A program that comes in a package.
#[derive(Debug)]
pub(crate) struct Package {
    /// What to look for on the path.
    pub(crate) program: &'static str,
    /// Debian's name for what holds it.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) why: &'static str,
}

impl Package {
    pub(crate) fn is_there(&self) -> bool {
        is_there(self.program)
    }

    /// Installs it where it is missing and this machine lets us; says whether it is there now.
    ///
    /// Nothing that is installed so is necessary, so a failure is told and passed over.
    pub(crate) fn want(&self) -> bool {
        if self.is_there() {
            return true;
        }
        eprintln!(
            "{} is missing; it {} (package {})",
            self.program, self.why, self.name
        );
        if let Err(error) = self.install() {
            eprintln!("{} {error:#}; going on without it", style::cyan("note:"));
        }
        self.is_there()
    }

    fn install(&self) -> Result<()> {
        install(&[self.name])
    }
}

/// Installs packages where this machine lets us; with none to install there is nothing to ask of it.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let told = names.join(" ");
    if !is_there("apt-get") {
        bail!("this is no Debian: install what its packages {told} hold by your own means");
    }
    // SAFETY: `geteuid` has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("not root: run `sudo apt-get install {told}`");
    }
    let apt = || Cmd::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    let install = || {
        apt()
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(names)
            .run()
    };
    // A machine that never ran `update` knows no package, and one that did may know stale versions.
    install().or_else(|_| {
        apt().args(["update", "-q"]).run()?;
        install()
    })
}
