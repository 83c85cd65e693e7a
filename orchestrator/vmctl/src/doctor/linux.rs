//! What Linux guests and their networks need beside what every VM needs.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use serde::Serialize;

use super::verdict::{Finding, Level};
use crate::daemon::beside;

/// Where programs for administrators are, whatever a user's PATH.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// capabilities(7)
const CAP_NET_ADMIN: u32 = 12;

/// What Linux guests find on a host.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LinuxFacts {
    /// The kernel that they boot.
    pub(crate) kernel: Option<PathBuf>,
    /// Their first file system, which holds the agent.
    pub(crate) agent: Option<PathBuf>,
    /// What makes their disks.
    pub(crate) mke2fs: Option<PathBuf>,
    /// What builds images from recipes.
    pub(crate) mmdebstrap: Option<PathBuf>,
    /// Whether networks may be made.
    pub(crate) net_admin: bool,
    /// The kernel's packet filter.
    pub(crate) packet_filter: PacketFilter,
}

/// The kernel's packet filter (nftables).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacketFilter {
    /// It answers.
    Usable,
    /// It may not be used.
    Forbidden,
    /// The kernel has none.
    Missing,
}

impl LinuxFacts {
    /// Looks.
    pub(super) fn gather() -> Self {
        Self {
            kernel: beside("vmlinux").ok(),
            agent: beside("agent.cpio").ok(),
            mke2fs: program("mke2fs"),
            mmdebstrap: program("mmdebstrap"),
            net_admin: has_net_admin(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
            packet_filter: packet_filter(),
        }
    }

    /// What it means.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![self.guests()];
        findings.extend(self.networks());
        findings.push(self.recipes());
        findings
    }

    fn guests(&self) -> Finding {
        let needs = [
            (
                &self.kernel,
                "vmlinux beside vmm",
                "run `cargo ci build`, which builds the kernel",
            ),
            (&self.agent, "agent.cpio beside vmm", "run `cargo ci build`"),
            (&self.mke2fs, "mke2fs", "sudo apt-get install e2fsprogs"),
        ];
        let missing: Vec<_> = needs.iter().filter(|need| need.0.is_none()).collect();
        if missing.is_empty() {
            return Finding {
                about: "linux",
                level: Level::Good,
                text: "kernel, agent and mke2fs are there: Linux guests can boot".to_owned(),
                mend: None,
            };
        }
        let names: Vec<&str> = missing.iter().map(|need| need.1).collect();
        let mut mends: Vec<&str> = missing.iter().map(|need| need.2).collect();
        // The one that builds the kernel builds the agent too.
        mends.dedup_by(|b, a| a.starts_with(*b));
        Finding {
            about: "linux",
            level: Level::Warning,
            text: format!("Linux guests cannot boot: {} is missing", names.join(", ")),
            mend: Some(mends.join("; ")),
        }
    }

    fn networks(&self) -> Vec<Finding> {
        let about = "networks";
        let found = |text: &str, mend: &str| {
            vec![Finding {
                about,
                level: Level::Warning,
                text: format!("{text}: Linux guests run with --network none alone"),
                mend: Some(mend.to_owned()),
            }]
        };
        match (self.net_admin, self.packet_filter) {
            (false, _) => found(
                "you may not make networks (no CAP_NET_ADMIN)",
                "run vmctl, and with it vmd, as root",
            ),
            (true, PacketFilter::Forbidden) => found(
                "the kernel's packet filter (nftables) may not be used",
                "run vmd outside of containers, or in one that has CAP_NET_ADMIN",
            ),
            (true, PacketFilter::Missing) => found(
                "the kernel has no packet filter (nftables)",
                "sudo modprobe nf_tables; where there is no such module, run a kernel with CONFIG_NF_TABLES",
            ),
            (true, PacketFilter::Usable) => vec![Finding {
                about,
                level: Level::Good,
                text: "bridges and packet filter rules (nftables) can be made".to_owned(),
                mend: None,
            }],
        }
    }

    fn recipes(&self) -> Finding {
        let about = "recipes";
        match &self.mmdebstrap {
            Some(program) => Finding {
                about,
                level: Level::Good,
                text: format!("{} builds images from them", program.display()),
                mend: None,
            },
            None => Finding {
                about,
                level: Level::Note,
                text: "mmdebstrap is not there: images come from registries and archives, not from recipes"
                    .to_owned(),
                mend: Some("sudo apt-get install mmdebstrap".to_owned()),
            },
        }
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:{SYSTEM_PATH}")
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// proc_pid_status(5): `CapEff:` and a mask.
fn has_net_admin(status: &str) -> bool {
    let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << CAP_NET_ADMIN) != 0)
}

/// Asks nftables for its generation, which changes nothing.
fn packet_filter() -> PacketFilter {
    match ask_packet_filter() {
        Ok(()) => PacketFilter::Usable,
        Err(Errno::PERM | Errno::ACCESS) => PacketFilter::Forbidden,
        Err(_) => PacketFilter::Missing,
    }
}

fn ask_packet_filter() -> Result<(), Errno> {
    // linux/netfilter/nf_tables.h: the subsystem is 10, NFT_MSG_GETGEN 16; netlink(7): a request is flag 1.
    const TYPE: u16 = (10 << 8) | 16;
    const LENGTH: u32 = 16 + 4;
    let mut request = Vec::new();
    request.extend_from_slice(&LENGTH.to_ne_bytes());
    request.extend_from_slice(&TYPE.to_ne_bytes());
    request.extend_from_slice(&1u16.to_ne_bytes());
    // Sequence, port; then family, version and resource.
    request.extend_from_slice(&[0; 12]);
    let flags = SocketFlags::CLOEXEC;
    let family = AddressFamily::NETLINK;
    let socket: OwnedFd = socket_with(family, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 256];
    // The kernel answered while it was sent.
    let (count, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    refusal(&answer[..count]).map_or(Ok(()), Err)
}

/// The error that an answer of netlink's is, where it is one.
fn refusal(answer: &[u8]) -> Option<Errno> {
    const ERROR: u16 = 2;
    let (header, rest) = answer.split_first_chunk::<16>()?;
    if u16::from_ne_bytes([header[4], header[5]]) != ERROR {
        return None;
    }
    let (code, _) = rest.split_first_chunk::<4>()?;
    let code = i32::from_ne_bytes(*code);
    (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a good host has.
    pub(in crate::doctor) fn good() -> LinuxFacts {
        LinuxFacts {
            kernel: Some("/opt/shoal/vmlinux".into()),
            agent: Some("/opt/shoal/agent.cpio".into()),
            mke2fs: Some("/sbin/mke2fs".into()),
            mmdebstrap: Some("/usr/bin/mmdebstrap".into()),
            net_admin: true,
            packet_filter: PacketFilter::Usable,
        }
    }

    /// What `change` leads to for `about`.
    fn told(about: &str, change: impl FnOnce(&mut LinuxFacts)) -> (Level, String, String) {
        let mut facts = good();
        change(&mut facts);
        let mut findings = facts.findings().into_iter();
        let finding = findings.find(|f| f.about == about).unwrap();
        (
            finding.level,
            finding.text,
            finding.mend.unwrap_or_default(),
        )
    }

    #[test]
    fn what_a_linux_guest_lacks_is_named_with_its_cure() {
        let (level, text, mend) = told("linux", |f| f.kernel = None);
        assert_eq!(level, Level::Warning);
        assert!(text.contains("vmlinux") && mend.contains("cargo ci build"));
        let (_, text, mend) = told("linux", |f| (f.agent, f.mke2fs) = (None, None));
        assert!(text.contains("agent.cpio beside vmm, mke2fs"), "{text}");
        assert!(mend.contains("e2fsprogs"), "{mend}");
        let (_, _, mend) = told("linux", |f| (f.kernel, f.agent) = (None, None));
        assert_eq!(mend.matches("cargo ci build").count(), 1, "{mend}");
        let (level, _, mend) = told("recipes", |f| f.mmdebstrap = None);
        assert_eq!(level, Level::Note);
        assert!(mend.contains("mmdebstrap"), "{mend}");
    }

    #[test]
    fn networks_want_a_right_and_a_packet_filter() {
        for (net_admin, packet_filter, words) in [
            (false, PacketFilter::Forbidden, "CAP_NET_ADMIN"),
            (true, PacketFilter::Forbidden, "may not be used"),
            (true, PacketFilter::Missing, "no packet filter"),
        ] {
            let (level, text, mend) = told("networks", |f| {
                (f.net_admin, f.packet_filter) = (net_admin, packet_filter);
            });
            assert_eq!(level, Level::Warning);
            assert!(text.contains(words) && !mend.is_empty(), "{text}");
        }
        assert_eq!(told("networks", |_| {}).0, Level::Good);
    }

    #[test]
    fn capabilities_and_answers_are_read() {
        assert!(has_net_admin("Name:\tx\nCapEff:\t0000000000001000\n"));
        assert!(!has_net_admin("CapEff:\t0000000000000fff\n"));
        assert!(!has_net_admin("CapEff:\tx\n") && !has_net_admin(""));
        let mut answer = [0; 20];
        assert_eq!(refusal(&answer), None);
        answer[4] = 2;
        assert_eq!(
            refusal(&answer),
            None,
            "an acknowledgement is an error of 0"
        );
        answer[16..].copy_from_slice(&(-1i32).to_ne_bytes());
        assert_eq!(refusal(&answer), Some(Errno::PERM));
        assert_eq!(refusal(&answer[..17]), None);
    }
}
