//! What may stand on the command line.

use super::*;

fn parse(line: &str) -> Result<Mode, ArgsError> {
    Mode::parse(line.split_whitespace().map(OsString::from))
}

fn refused(line: &str) -> String {
    match parse(line) {
        Ok(mode) => panic!("{line:?} was taken: {mode:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_launcher_gives_a_descriptor_alone() {
    assert!(matches!(parse("--spec-fd 3"), Ok(Mode::Spec { fd: 3 })));
    assert!(matches!(parse("--spec-fd=3"), Ok(Mode::Spec { fd: 3 })));
    assert_eq!(
        refused("--spec-fd 3 --id a"),
        "--spec-fd and --id exclude each other"
    );
    assert_eq!(refused("--spec-fd"), "--spec-fd needs a value");
    for value in ["x", "-1", "99999999999", "1e3"] {
        let expected = format!("--spec-fd needs a number, not {value:?}");
        assert_eq!(refused(&format!("--spec-fd {value}")), expected);
    }
}

#[test]
fn a_tool_of_firecracker_starts_it_as_it_is_used_to() {
    let line = "--id vm-1 --start-time-us 5 --start-time-cpu-us 6 --parent-cpu-time-us 7 --no-seccomp \
                --api-sock /run/a.sock --config-file /c.json --log-path /l --level WARN --show-level \
                --metrics-path /m";
    let Ok(Mode::Api {
        socket,
        config,
        instance,
    }) = parse(line)
    else {
        panic!("not taken");
    };
    assert_eq!(socket, PathBuf::from("/run/a.sock"));
    assert_eq!(config, Some(PathBuf::from("/c.json")));
    assert_eq!(
        (instance.id.as_str(), instance.launched_at),
        ("vm-1", Some(5000))
    );
    assert_eq!(instance.logger.log_path, Some(PathBuf::from("/l")));
    assert_eq!(instance.logger.level, Some(Level::Warn));
    assert_eq!(instance.logger.show_level, Some(true));
    assert_eq!(instance.logger.show_log_origin, None);
    assert_eq!(instance.metrics_path, Some(PathBuf::from("/m")));
}

#[test]
fn little_is_needed() {
    let Ok(Mode::Api {
        config: None,
        instance,
        ..
    }) = parse("--api-sock s")
    else {
        panic!("not taken");
    };
    assert_eq!(instance.id.as_str(), "anonymous-instance");
    assert!(matches!(
        parse("--no-api --config-file c"),
        Ok(Mode::File { .. })
    ));
    assert!(matches!(parse("--probe"), Ok(Mode::Probe)));
    assert!(matches!(parse("--version"), Ok(Mode::Version)));
    assert!(matches!(parse("--no-api --help"), Ok(Mode::Help)));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (line, words) in [
        ("", "one of --api-sock"),
        ("--turbo", "unknown argument \"--turbo\""),
        ("vm.json", "unknown argument \"vm.json\""),
        ("--no-api", "--no-api needs --config-file"),
        (
            "--config-file c",
            "--config-file needs --api-sock or --no-api",
        ),
        (
            "--no-api --api-sock s --config-file c",
            "--no-api and --api-sock exclude",
        ),
        ("--probe --id a", "--probe and --id exclude"),
        ("--api-sock s --api-sock t", "--api-sock is given twice"),
        ("--api-sock s --no-api=yes", "--no-api takes no value"),
        ("--api-sock s --id ../x", "--id: VM id \"../x\""),
        ("--api-sock s --level loud", "--level: level \"loud\""),
        (
            "--api-sock s --start-time-us 18446744073709551615",
            "--start-time-us needs a number",
        ),
        ("--api-sock s --boot-timer", "--boot-timer is not supported"),
        (
            "--api-sock s --seccomp-filter f",
            "--seccomp-filter is not supported",
        ),
    ] {
        let error = refused(line);
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn help_names_every_flag() {
    for (flag, _) in FLAGS {
        assert!(HELP.contains(flag), "{flag}");
    }
}
