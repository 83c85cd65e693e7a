//! What may be asked of a Linux guest: request and image's own words become one record, or are refused by name.

use abi::agent::message::Message;
use abi::agent::request::Request;
use abi::agent::signal;
use api::{CreateVm, HealthProbe, Init, RateLimit, Restart, StopVm};
use images::Config;

use super::describe;
use crate::disk::DEFAULT_MIB;
use crate::disk::volume::{self, VolumeError};
use crate::name::{self, NameError};
use crate::record::LinuxRecord;

/// The memory of a Linux VM where nobody says: its kernel maps multiples of 128 MiB with the least work.
pub const MEMORY_MIB: u64 = 128;
/// Most volumes of a VM: with two disks, [`NETWORKS`], console, entropy, sockets and balloon these are all devices that a monitor
/// has room for.
pub const VOLUMES: usize = 8;
/// Most networks of a VM.
pub const NETWORKS: usize = 1;
/// The network of a VM where nobody says.
pub const DEFAULT_NETWORK: &str = "default";
/// No network.
pub const NO_NETWORK: &str = "none";
/// Probes and their limits are no faster than this.
const PROBE_MS: u64 = 100;

/// A request that a Linux guest cannot fulfil.
#[derive(Debug, thiserror::Error)]
pub enum LinuxSpecError {
    /// Nothing to run.
    #[error("the image says nothing of what to run: give a command")]
    NoCommand,
    /// A field that is wrong.
    #[error("`{field}` is {value:?}, which is not {wanted}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it holds, cut short.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// More than there is room for.
    #[error("`{field}` has {found} entries, {most} are possible")]
    TooMany {
        /// Its name.
        field: &'static str,
        /// How many.
        found: usize,
        /// How many are possible.
        most: usize,
    },
    /// Twice the same.
    #[error("`{field}` has {value:?} twice")]
    Twice {
        /// Its name.
        field: &'static str,
        /// What.
        value: String,
    },
    /// Ports without a network.
    #[error("`ports` are published, and `networks` is none: nobody could reach them")]
    PortsWithoutNetwork,
    /// What an init of the image's own has no use for.
    #[error("`{0}` means nothing where the image has an init of its own")]
    WithInit(&'static str),
    /// Not a volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Not a network.
    #[error("a network is named as a VM is")]
    Network(#[source] NameError),
    /// The agent would not take it.
    #[error("the guest's agent cannot be told that: {0}")]
    Agent(String),
}

/// What a Linux VM is to be, and the networks it is in.
#[derive(Debug)]
pub struct Wanted {
    /// What is written down.
    pub record: LinuxRecord,
    /// The network that it is in.
    pub network: Option<String>,
}

/// Works a request and an image's own words into one record; the VM is called `name`.
///
/// # Errors
/// [`LinuxSpecError`], the first thing that is wrong.
pub fn resolve(request: &CreateVm, image: &Config, name: &str) -> Result<Wanted, LinuxSpecError> {
    let record = LinuxRecord {
        argv: command(request, image)?,
        env: environment(request, image),
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        workdir: path(
            "workdir",
            request.workdir.as_ref().unwrap_or(&image.workdir),
        )?,
        hostname: request.hostname.clone().unwrap_or_else(|| name.to_owned()),
        tty: request.tty,
        stdin_open: request.stdin_open,
        init: request.init,
        disk_mib: volume::check_size(request.disk_mib.unwrap_or(DEFAULT_MIB))?,
        volumes: volumes(request)?,
        lease: None,
        restart: request.restart,
        stop_signal: stop_signal(request, image)?,
        stop_timeout_ms: request
            .stop_timeout_ms
            .unwrap_or(StopVm::DEFAULT_TIMEOUT_MS),
        kernel_args: kernel_args(request)?,
        disk_rate: rate("disk_rate", request.disk_rate)?,
        net_rate: rate("net_rate", request.net_rate)?,
        health: request.health.as_ref().map(health).transpose()?,
    };
    if record.init == Init::Image {
        let useless = [
            ("tty", record.tty),
            ("stdin_open", record.stdin_open),
            ("restart", record.restart != Restart::default()),
        ];
        if let Some((field, _)) = useless.into_iter().find(|(_, given)| *given) {
            return Err(LinuxSpecError::WithInit(field));
        }
    }
    // As the agent will read it: what it would refuse is refused here.
    let start = describe::start(&record, "check", describe::Network::default(), vec![]);
    let mut requests = vec![Request::Start(Box::new(start))];
    requests.extend(record.health.as_ref().map(describe::health));
    for request in requests {
        Message::Request(Box::new(request))
            .encode(&mut Vec::new())
            .map_err(|e| LinuxSpecError::Agent(e.to_string()))?;
    }
    let network = network(request)?;
    Ok(Wanted { record, network })
}

fn command(request: &CreateVm, image: &Config) -> Result<Vec<String>, LinuxSpecError> {
    let entrypoint = request.entrypoint.as_ref();
    let mut argv = entrypoint.unwrap_or(&image.entrypoint).clone();
    // Its arguments were meant for its own entrypoint.
    let own = entrypoint.is_none() && request.args.is_empty();
    argv.extend_from_slice(if own { &image.cmd } else { &request.args });
    match argv.is_empty() {
        true => Err(LinuxSpecError::NoCommand),
        false => Ok(argv),
    }
}

/// The image's variables, with the request's in their places and behind them.
fn environment(request: &CreateVm, image: &Config) -> Vec<String> {
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let kept = image
        .env
        .iter()
        .filter(|word| !request.env.contains_key(&key(word)));
    let given = request
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    kept.cloned().chain(given).collect()
}

fn volumes(request: &CreateVm) -> Result<Vec<api::VolumeMount>, LinuxSpecError> {
    let volumes = &request.volumes;
    at_most("volumes", volumes.len(), VOLUMES)?;
    for (index, mount) in volumes.iter().enumerate() {
        name::check(&mount.volume).map_err(VolumeError::Name)?;
        path("volumes", &mount.path)?;
        if mount.path.trim_end_matches('/').is_empty() {
            return Err(wrong("volumes", &mount.path, "a path beneath /"));
        }
        let before = &volumes[..index];
        for (value, same) in [
            (
                &mount.volume,
                before.iter().any(|b| b.volume == mount.volume),
            ),
            (&mount.path, before.iter().any(|b| b.path == mount.path)),
        ] {
            if same {
                let (field, value) = ("volumes", value.clone());
                return Err(LinuxSpecError::Twice { field, value });
            }
        }
    }
    Ok(volumes.clone())
}

fn network(request: &CreateVm) -> Result<Option<String>, LinuxSpecError> {
    let names = request.networks.as_deref();
    at_most("networks", names.map_or(0, <[_]>::len), NETWORKS)?;
    let name = match names {
        None => Some(DEFAULT_NETWORK.to_owned()),
        Some(names) => names.first().filter(|name| *name != NO_NETWORK).cloned(),
    };
    if let Some(name) = &name {
        name::check(name).map_err(LinuxSpecError::Network)?;
    }
    at_most("ports", request.ports.len(), 256)?;
    if let Some(port) = request.ports.iter().find(|port| port.guest_port == 0) {
        return Err(wrong("ports", &port.to_string(), "a port of the guest"));
    }
    if name.is_none() && !request.ports.is_empty() {
        return Err(LinuxSpecError::PortsWithoutNetwork);
    }
    Ok(name)
}

fn stop_signal(request: &CreateVm, image: &Config) -> Result<u8, LinuxSpecError> {
    match &request.stop_signal {
        Some(text) => signal::parse(text)
            .ok_or_else(|| wrong("stop_signal", text, "a signal: TERM, SIGTERM or 15")),
        None => Ok(image.stop_signal.unwrap_or(signal::TERM)),
    }
}

fn kernel_args(request: &CreateVm) -> Result<String, LinuxSpecError> {
    let text = &request.kernel_args;
    let plain = text.len() <= 1024 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    match plain {
        true => Ok(text.clone()),
        false => Err(wrong(
            "kernel_args",
            text,
            "1024 printable characters at most",
        )),
    }
}

fn rate(field: &'static str, rate: Option<RateLimit>) -> Result<Option<RateLimit>, LinuxSpecError> {
    let zero = rate.is_some_and(|r| r.bytes_per_second == Some(0) || r.ops_per_second == Some(0));
    match zero {
        true => Err(wrong(field, "0", "a rate at which anything goes")),
        false => Ok(rate),
    }
}

fn health(probe: &HealthProbe) -> Result<HealthProbe, LinuxSpecError> {
    for (field, value) in [
        ("health.interval_ms", probe.interval_ms),
        ("health.timeout_ms", probe.timeout_ms),
    ] {
        if !(PROBE_MS..=u64::from(u32::MAX)).contains(&value) {
            return Err(wrong(field, &value.to_string(), "100 or more"));
        }
    }
    match probe.retries {
        0 => Err(wrong("health.retries", "0", "1 or more")),
        _ => Ok(probe.clone()),
    }
}

fn path(field: &'static str, text: &str) -> Result<String, LinuxSpecError> {
    let good = text.starts_with('/') && !text.split('/').any(|part| part == "..");
    match good {
        true => Ok(text.to_owned()),
        false => Err(wrong(field, text, "an absolute path without \"..\"")),
    }
}

fn at_most(field: &'static str, found: usize, most: usize) -> Result<(), LinuxSpecError> {
    match found <= most {
        true => Ok(()),
        false => Err(LinuxSpecError::TooMany { field, found, most }),
    }
}

fn wrong(field: &'static str, value: &str, wanted: &'static str) -> LinuxSpecError {
    LinuxSpecError::Field {
        field,
        value: value.chars().take(80).collect(),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image() -> Config {
        Config {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["own".into()],
            env: vec!["A=image".into(), "PATH=/bin".into()],
            stop_signal: Some(3),
            user: "www".into(),
            ..Config::new()
        }
    }

    fn asked(change: impl FnOnce(&mut CreateVm)) -> Result<Wanted, LinuxSpecError> {
        let mut request = CreateVm::new("web");
        change(&mut request);
        resolve(&request, &image(), "web-1")
    }

    fn refusal(change: impl FnOnce(&mut CreateVm)) -> String {
        crate::chain(&asked(change).unwrap_err())
    }

    #[test]
    fn what_nobody_says_is_the_images() {
        let wanted = asked(|_| ()).unwrap();
        let record = wanted.record;
        assert_eq!(record.argv, ["/entry", "own"]);
        assert_eq!(record.env, ["A=image", "PATH=/bin"]);
        assert_eq!(
            (record.user.as_str(), record.workdir.as_str()),
            ("www", "/")
        );
        assert_eq!((record.hostname.as_str(), record.stop_signal), ("web-1", 3));
        assert_eq!(wanted.network.as_deref(), Some("default"));
    }

    #[test]
    fn arguments_stand_for_the_images_and_an_entrypoint_for_both() {
        let argv = |change: fn(&mut CreateVm)| asked(change).unwrap().record.argv;
        assert_eq!(argv(|r| r.args = vec!["mine".into()]), ["/entry", "mine"]);
        assert_eq!(argv(|r| r.entrypoint = Some(vec!["sh".into()])), ["sh"]);
        let both = argv(|r| {
            r.entrypoint = Some(vec![]);
            r.args = vec!["ls".into()];
        });
        assert_eq!(both, ["ls"]);
        assert!(refusal(|r| r.entrypoint = Some(vec![])).contains("give a command"));
    }

    #[test]
    fn variables_are_put_over_the_images() {
        let wanted =
            asked(|r| r.env = [("A".into(), "mine=1".into()), ("B".into(), "".into())].into());
        assert_eq!(wanted.unwrap().record.env, ["PATH=/bin", "A=mine=1", "B="]);
    }

    #[test]
    fn a_refusal_names_field_and_value() {
        let mount = |text: &str| text.parse().unwrap();
        assert!(refusal(|r| r.workdir = Some("a/../b".into())).contains("`workdir` is \"a/../b\""));
        assert!(refusal(|r| r.stop_signal = Some("STOPP".into())).contains("\"STOPP\""));
        assert!(refusal(|r| r.kernel_args = "a\nb".into()).contains("kernel_args"));
        assert!(refusal(|r| r.disk_mib = Some(1)).contains("not 1"));
        assert!(
            refusal(|r| r.volumes = vec![mount("a:/x"), mount("a:/y")]).contains("\"a\" twice")
        );
        assert!(
            refusal(|r| r.volumes = vec![mount("a:/x"), mount("b:/x")]).contains("\"/x\" twice")
        );
        assert!(refusal(|r| r.volumes = vec![mount("A:/x")]).contains("\"A\""));
        assert!(refusal(|r| r.volumes = vec![mount("a:/")]).contains("beneath"));
        assert!(refusal(|r| r.networks = Some(vec!["a".into(), "b".into()])).contains("2 entries"));
        assert!(refusal(|r| r.hostname = Some("a b".into())).contains("hostname"));
        let none = refusal(|r| {
            r.networks = Some(vec!["none".into()]);
            r.ports = vec!["80".parse().unwrap()];
        });
        assert!(none.contains("nobody could reach"));
        let init = refusal(|r| {
            r.init = Init::Image;
            r.tty = true;
        });
        assert!(init.contains("`tty`"));
        assert!(refusal(|r| r.args = vec!["x".repeat(70_000)]).contains("agent"));
    }

    proptest! {
        #[test]
        fn any_words_are_taken_or_refused(
            user in proptest::option::of("\\PC{0,20}"),
            hostname in proptest::option::of("\\PC{0,70}"),
            workdir in proptest::option::of("[/.a-z]{0,20}"),
            args in proptest::collection::vec("\\PC{0,9}", 0..4),
        ) {
            let _ = asked(|r| {
                r.user = user;
                r.hostname = hostname;
                r.workdir = workdir;
                r.args = args;
            });
        }
    }
}
