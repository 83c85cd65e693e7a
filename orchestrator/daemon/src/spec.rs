//! What may be asked for: a request is checked once, here, and only what passed is written down.

use abi::cmdline::{ARGUMENTS, Quoted};
use api::{CreateVm, Init, Restart};
use vmm::spec::{CommandLine, MemorySize, ValueError, VcpuCount};

use crate::name::{self, NameError};
use crate::record::Record;

/// A request that was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Vcpus, memory, or a command line that is too long or has a NUL.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// More memory than there is.
    #[error(
        "the VM asks for {asked} MiB of memory and this host has {host} MiB in all: ask for less"
    )]
    HostMemory {
        /// What was asked for.
        asked: u64,
        /// What the host has.
        host: u64,
    },
    /// Not a name of a variable.
    #[error("{0:?} cannot be an environment variable: its name is empty or holds '='")]
    Variable(String),
    /// A timeout of zero.
    #[error("`timeout_ms` is 0: leave it out for a VM without a deadline")]
    NoTime,
    /// A field that means nothing to a library OS.
    #[error("`{0}` is for Linux images, and this one is a program on the library OS")]
    OnlyLinux(&'static str),
}

/// The memory of a library-OS VM where nobody says.
pub const MEMORY_MIB: u64 = 64;

/// The fields that only a Linux guest knows, of those that the request fills.
fn only_for_linux(request: &CreateVm) -> Option<&'static str> {
    let CreateVm {
        entrypoint,
        user,
        workdir,
        hostname,
        tty,
        stdin_open,
        ports,
        networks,
        volumes,
        disk_mib,
        restart,
        stop_signal,
        stop_timeout_ms,
        kernel_args,
        disk_rate,
        net_rate,
        health,
        init,
        ..
    } = request;
    [
        ("entrypoint", entrypoint.is_some()),
        ("user", user.is_some()),
        ("workdir", workdir.is_some()),
        ("hostname", hostname.is_some()),
        ("tty", *tty),
        ("stdin_open", *stdin_open),
        ("ports", !ports.is_empty()),
        // Having none is what it can do.
        (
            "networks",
            networks.as_ref().is_some_and(|list| list != &["none"]),
        ),
        ("volumes", !volumes.is_empty()),
        ("disk_mib", disk_mib.is_some()),
        ("restart", *restart != Restart::default()),
        ("stop_signal", stop_signal.is_some()),
        ("stop_timeout_ms", stop_timeout_ms.is_some()),
        ("kernel_args", !kernel_args.is_empty()),
        ("disk_rate", disk_rate.is_some()),
        ("net_rate", net_rate.is_some()),
        ("health", health.is_some()),
        ("init", *init != Init::default()),
    ]
    .into_iter()
    .find_map(|(name, given)| given.then_some(name))
}

/// Checks what is the same for every kind of guest, against what a VM may be and what the host has.
///
/// # Errors
/// [`SpecError`], the first that is found.
pub fn check(request: &CreateVm, host_memory_mib: u64) -> Result<(), SpecError> {
    if let Some(name) = &request.name {
        name::check(name)?;
    }
    VcpuCount::try_from(request.vcpus)?;
    if let Some(asked) = request.memory_mib {
        check_memory(asked, host_memory_mib)?;
    }
    if request.timeout_ms == Some(0) {
        return Err(SpecError::NoTime);
    }
    if let Some(name) = request.env.keys().find(|k| k.is_empty() || k.contains('=')) {
        return Err(SpecError::Variable(name.chars().take(64).collect()));
    }
    Ok(())
}

/// Checks a size of memory against what the host has.
///
/// # Errors
/// [`SpecError`].
pub fn check_memory(asked: u64, host: u64) -> Result<u64, SpecError> {
    MemorySize::from_mib(asked)?;
    match asked <= host {
        true => Ok(asked),
        false => Err(SpecError::HostMemory { asked, host }),
    }
}

/// Checks what a program on the library OS can be given.
///
/// # Errors
/// [`SpecError`], the first that is found.
pub fn check_libos(request: &CreateVm) -> Result<(), SpecError> {
    if let Some(field) = only_for_linux(request) {
        return Err(SpecError::OnlyLinux(field));
    }
    command_line(&request.env, &request.args).parse::<CommandLine>()?;
    Ok(())
}

/// The command line of a VM that is written down.
#[must_use]
pub fn command_line_of(record: &Record) -> String {
    command_line(&record.env, &record.args)
}

fn command_line<'a>(
    env: impl IntoIterator<Item = (&'a String, &'a String)>,
    args: &[String],
) -> String {
    let mut words: Vec<String> = env
        .into_iter()
        .map(|(key, value)| Quoted(&format!("{key}={value}")).to_string())
        .collect();
    if !args.is_empty() {
        words.push(ARGUMENTS.to_owned());
        words.extend(args.iter().map(|arg| Quoted(arg).to_string()));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(change: impl FnOnce(&mut CreateVm)) -> String {
        let mut request = CreateVm::new("hello");
        change(&mut request);
        check(&request, 1000)
            .and_then(|()| check_libos(&request))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_refusal_names_the_value() {
        assert!(refusal(|r| r.vcpus = 0).contains("not 0"));
        assert!(refusal(|r| r.vcpus = 1000).contains("not 1000"));
        assert!(refusal(|r| r.memory_mib = Some(0)).contains("not 0"));
        assert!(refusal(|r| r.memory_mib = Some(10 << 20)).contains("10485760"));
        let both = refusal(|r| r.memory_mib = Some(1001));
        assert!(both.contains("1001") && both.contains("1000 MiB"));
        assert!(refusal(|r| r.name = Some("Web".into())).contains("\"Web\""));
        assert!(refusal(|r| r.timeout_ms = Some(0)).contains("timeout_ms"));
        assert!(refusal(|r| r.tty = true).contains("`tty` is for Linux"));
        assert!(refusal(|r| r.networks = Some(vec!["lan".into()])).contains("`networks`"));
        assert!(refusal(|r| r.args = vec!["a\0".into()]).contains("NUL"));
        assert!(refusal(|r| r.args = vec!["x".repeat(70_000)]).contains("fit"));
        assert!(refusal(|r| drop(r.env.insert("A=B".into(), "".into()))).contains("A=B"));
    }

    proptest! {
        #[test]
        fn arguments_and_environment_are_read_back(
            env in proptest::collection::btree_map("[A-Z_]{1,8}", "[^\0]{0,9}", 0..4),
            args in proptest::collection::vec("[^\0]{0,9}", 0..4),
        ) {
            let line = command_line(&env, &args);
            let mut words = abi::cmdline::words(&line);
            let before: Vec<String> = words
                .by_ref()
                .take_while(|w| w.raw() != ARGUMENTS)
                .map(|w| w.chars().collect())
                .collect();
            let after: Vec<String> = words.map(|w| w.chars().collect()).collect();
            let expected: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
            prop_assert_eq!(before, expected);
            prop_assert_eq!(after, args);
        }
    }
}
