//! What this host lacks for networks, in plain words.

use std::fs::OpenOptions;

use rustix::thread::CapabilitySet;

use crate::forwarding;
use crate::nft;
use crate::tap;

/// One thing that is missing, or in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whether there are no networks at all without it.
    pub fatal: bool,
    /// What it is.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

/// Asks the kernel. Changes nothing.
#[must_use]
pub fn probe() -> Vec<Missing> {
    let mut found = Vec::new();
    let mut lack = |fatal, what: String, mend: &str| {
        found.push(Missing {
            fatal,
            what,
            mend: mend.to_owned(),
        });
    };
    let capable = rustix::thread::capabilities(None);
    if !capable.is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN)) {
        let what = "vmd may not change this host's network (it has no CAP_NET_ADMIN)";
        lack(true, what.to_owned(), "run vmd as root");
        return found;
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open(tap::DEVICE) {
        lack(
            true,
            format!("taps cannot be made: {}: {error}", tap::DEVICE),
            "load the kernel module tun",
        );
    }
    if let Err(error) = nft::tables() {
        lack(
            true,
            format!("the packet filter does not answer: {error}"),
            "load the kernel module nf_tables",
        );
    }
    if forwarding::loses_routes().unwrap_or(false) && !forwarding::ipv6_is_on() {
        let what = "VMs have no IPv6 way out: this host's own IPv6 route is advertised, and would be lost if the host forwarded";
        lack(
            false,
            what.to_owned(),
            "set net.ipv6.conf.INTERFACE.accept_ra=2 for the interface of the default route",
        );
    }
    for chain in nft::dropping_forwarders().unwrap_or_default() {
        let what = format!(
            "another packet filter (chain {chain}) drops what it does not know: VMs may get neither out nor be reached"
        );
        lack(
            false,
            what,
            "let it pass what comes from and goes to interfaces sb*",
        );
    }
    found
}
