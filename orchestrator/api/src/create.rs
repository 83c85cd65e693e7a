//! What is asked for when a VM is created.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/vms`: create a VM and start it.
///
/// A program on the library OS takes what stands before `entrypoint`; the rest is for Linux images, and is refused by its name where it is
/// given for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVm {
    /// `[a-z0-9][a-z0-9-]{0,62}`, not in use; two words are chosen where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub name: Option<String>,
    /// An image's name, digest, or a prefix that only one digest has.
    pub image: String,
    /// The program's arguments, its own name not among them. For a Linux image they stand in the place of its `cmd`, and where there
    /// are none that is used.
    #[serde(default)]
    pub args: Vec<String>,
    /// The program's environment; for a Linux image these are put over its own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Virtual CPUs.
    #[serde(default = "CreateVm::default_vcpus")]
    #[schema(minimum = 1, maximum = 32)]
    pub vcpus: u32,
    /// Memory in mebibytes: 64 for the library OS and 128 for Linux where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2)]
    pub memory_mib: Option<u64>,
    /// Milliseconds from its start after which it is ended, whatever it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Remove it, console and all, as soon as it has ended.
    #[serde(default)]
    pub auto_remove: bool,

    /// What is run, in the place of the image's entrypoint; the image's `cmd` is then not used either. An empty list runs the
    /// arguments alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Who runs it, in the place of the image's: `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it runs, in the place of the image's: an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Its host name: its name where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Give the program a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Keep the program's input open, so that it can be attached to; else it reads nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_open: bool,
    /// Ports of the host that lead to ports of the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Publish>,
    /// The network it is in, one at most: `default` is made when it is first used, `["none"]` is no network; where there is no
    /// list, it is `["default"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Volumes; one that is not there is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// The size of its own disk in mebibytes, which takes room only as it is written: 8192 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 16)]
    pub disk_mib: Option<u64>,
    /// When its program is started again by itself.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// The signal that asks its program to end, in the place of the image's: `TERM`, `SIGQUIT`, `3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Milliseconds that its program has to end after that signal: ten seconds where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout_ms: Option<u64>,
    /// More words for the kernel's command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel_args: String,
    /// Limits of each of its disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_rate: Option<RateLimit>,
    /// Limits of each of its network devices, in each direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_rate: Option<RateLimit>,
    /// How its health is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthProbe>,
    /// Who is the first process of its user space.
    #[serde(default, skip_serializing_if = "Init::is_default")]
    pub init: Init,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl CreateVm {
    /// A VM of `image` with every default.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            vcpus: Self::default_vcpus(),
            ..Self::default()
        }
    }

    /// How many virtual CPUs where nobody says.
    #[must_use]
    pub fn default_vcpus() -> u32 {
        1
    }
}

/// Who is the first process of a Linux guest's user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Shoal's agent: the program is its child, and the VM ends with it.
    #[default]
    Agent,
    /// The program itself, an init of its own (systemd, for one); the agent is its child.
    Image,
}

impl Init {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a program that ended is started again by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// When.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// How often at most; without bounds where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl Restart {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a program that ended is started again by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never: the VM ends with it.
    #[default]
    No,
    /// Where its status was not zero, or where the VM's monitor died.
    OnFailure,
    /// Whatever its status was, until the VM is stopped.
    Always,
}

impl FromStr for Restart {
    type Err = ParseError;

    /// `no`, `always`, `on-failure` or `on-failure:<most>`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new("restart policy", text, "no, always, on-failure[:most]");
        let (word, max) = match text.split_once(':') {
            Some((word, max)) => (word, Some(max.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let policy = match word {
            "no" => RestartPolicy::No,
            "on-failure" => RestartPolicy::OnFailure,
            "always" => RestartPolicy::Always,
            _ => return Err(wrong()),
        };
        if max.is_some() && policy != RestartPolicy::OnFailure {
            return Err(wrong());
        }
        Ok(Self { policy, max })
    }
}

/// A transport protocol.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Deserialize,
    Serialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads to one of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The host's address: every one of it where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub host_ip: Option<IpAddr>,
    /// The host's port; 0 lets one be chosen, which the VM then shows.
    #[serde(default)]
    pub host_port: u16,
    /// The guest's port.
    #[schema(minimum = 1)]
    pub guest_port: u16,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

impl FromStr for Publish {
    type Err = ParseError;

    /// `[[ip:]host:]guest[/tcp|/udp]`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new("port", text, "[[ip:]host:]guest[/tcp|/udp]");
        let (rest, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let (rest, guest) = rest
            .rsplit_once(':')
            .map_or((None, rest), |(rest, guest)| (Some(rest), guest));
        let (ip, host) = match rest.map(|rest| rest.rsplit_once(':').ok_or(rest)) {
            None => (None, ""),
            Some(Err(host)) => (None, host),
            Some(Ok((ip, host))) => {
                let ip = ip
                    .strip_prefix('[')
                    .map_or(Some(ip), |ip| ip.strip_suffix(']'));
                (Some(ip.ok_or_else(wrong)?), host)
            }
        };
        let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        Ok(Self {
            host_ip: ip.map(|ip| ip.parse().map_err(|_| wrong())).transpose()?,
            host_port: if host.is_empty() { 0 } else { port(host)? },
            guest_port: Some(port(guest)?).filter(|p| *p != 0).ok_or_else(wrong)?,
            protocol,
        })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}:{}/{protocol}", self.host_port, self.guest_port)
    }
}

/// A volume and where the guest finds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// The volume's name.
    pub volume: String,
    /// An absolute path in the guest.
    pub path: String,
    /// Whether the guest may only read it. It is this VM's alone all the same.
    #[serde(default)]
    pub read_only: bool,
}

impl FromStr for VolumeMount {
    type Err = ParseError;

    /// `name:/path[:ro]`
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new("volume", text, "name:/path[:ro]");
        let mut parts = text.split(':');
        let (volume, path) = parts.next().zip(parts.next()).ok_or_else(wrong)?;
        let read_only = match (parts.next(), parts.next()) {
            (None, _) | (Some("rw"), None) => false,
            (Some("ro"), None) => true,
            _ => return Err(wrong()),
        };
        if volume.is_empty() || volume.contains('/') || !path.starts_with('/') {
            return Err(wrong());
        }
        Ok(Self {
            volume: volume.to_owned(),
            path: path.to_owned(),
            read_only,
        })
    }
}

impl fmt::Display for VolumeMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.read_only { ":ro" } else { "" };
        write!(f, "{}:{}{mode}", self.volume, self.path)
    }
}

/// Limits of a device's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub bytes_per_second: Option<u64>,
    /// Requests or packets a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub ops_per_second: Option<u64>,
}

/// What a health probe tries, inside the guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// A program that ends with status 0; it runs as an exec does.
    Exec {
        /// The program and its arguments.
        #[schema(min_items = 1)]
        command: Vec<String>,
    },
    /// A port on the guest's loopback that takes connections.
    Tcp {
        /// The port.
        port: u16,
    },
    /// An HTTP server on the guest's loopback that answers with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// What is asked for; it begins with a slash.
        path: String,
    },
}

/// How a VM's health is found out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthProbe {
    /// What is tried.
    pub probe: Probe,
    /// Milliseconds from the end of one probe to the next.
    #[serde(default = "HealthProbe::default_interval_ms")]
    #[schema(minimum = 100)]
    pub interval_ms: u64,
    /// Milliseconds that a probe may take.
    #[serde(default = "HealthProbe::default_timeout_ms")]
    #[schema(minimum = 100)]
    pub timeout_ms: u64,
    /// How many probes fail, one after the other, until it counts as unhealthy.
    #[serde(default = "HealthProbe::default_retries")]
    #[schema(minimum = 1)]
    pub retries: u32,
    /// Milliseconds from the program's start in which a failure does not count.
    #[serde(default)]
    pub start_period_ms: u64,
}

impl HealthProbe {
    /// A probe with every default.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval_ms: Self::default_interval_ms(),
            timeout_ms: Self::default_timeout_ms(),
            retries: Self::default_retries(),
            start_period_ms: 0,
        }
    }

    fn default_interval_ms() -> u64 {
        30_000
    }

    fn default_timeout_ms() -> u64 {
        30_000
    }

    fn default_retries() -> u32 {
        3
    }
}

/// Text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {form} is one")]
pub struct ParseError {
    what: &'static str,
    text: String,
    form: &'static str,
}

impl ParseError {
    fn new(what: &'static str, text: &str, form: &'static str) -> Self {
        let text = text.chars().take(100).collect();
        Self { what, text, form }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_read_as_people_write_them() {
        let port = |text: &str| text.parse::<Publish>().map(|p| p.to_string());
        assert_eq!(port("8080:80").unwrap(), "8080:80/tcp");
        assert_eq!(port("80").unwrap(), "0:80/tcp");
        assert_eq!(port("127.0.0.1::53/udp").unwrap(), "127.0.0.1:0:53/udp");
        assert_eq!(port("[::1]:5:6/tcp").unwrap(), "[::1]:5:6/tcp");
        for bad in [
            "",
            "0",
            "x",
            "1:0",
            "70000:1",
            "1:2:3",
            "1:2/sctp",
            "[::1:5:6",
            "1:2/tcp/tcp",
        ] {
            let refusal = port(bad).unwrap_err().to_string();
            assert!(refusal.contains(&format!("{bad:?}")), "{refusal}");
        }
    }

    #[test]
    fn volumes_and_policies_are_read_as_people_write_them() {
        let volume = |text: &str| text.parse::<VolumeMount>().map(|v| v.to_string());
        assert_eq!(volume("data:/var/lib").unwrap(), "data:/var/lib");
        assert_eq!(volume("data:/d:ro").unwrap(), "data:/d:ro");
        for bad in [
            "",
            "data",
            ":/d",
            "data:d",
            "/host:/d",
            "a:/d:xx",
            "a:/d:ro:ro",
        ] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        let policy = |text: &str| text.parse::<Restart>().map(|r| (r.policy, r.max));
        let failed = RestartPolicy::OnFailure;
        assert_eq!(policy("on-failure:3").unwrap(), (failed, Some(3)));
        assert_eq!(policy("always").unwrap(), (RestartPolicy::Always, None));
        for bad in ["", "no:1", "sometimes", "on-failure:x"] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_says_only_what_is_not_the_default() {
        let json = serde_json::to_value(CreateVm::new("web")).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["args", "auto_remove", "env", "image", "vcpus"]);
    }

    proptest! {
        #[test]
        fn a_port_that_is_written_is_read_back(
            ip in proptest::option::of(any::<IpAddr>()),
            host_port: u16,
            guest_port in 1..=u16::MAX,
            udp: bool,
        ) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let port = Publish { host_ip: ip, host_port, guest_port, protocol };
            prop_assert_eq!(port.to_string().parse(), Ok(port));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = (text.parse::<Publish>(), text.parse::<VolumeMount>(), text.parse::<Restart>());
        }
    }
}
