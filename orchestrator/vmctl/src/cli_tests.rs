//! What the command line takes.

use super::*;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("vmctl").chain(line.split_whitespace()))
}

fn request(line: &str) -> api::CreateVm {
    match parse(line).unwrap().command {
        Command::Create(args) => args.description.typed(args.rm).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_grammar_contradicts_itself_nowhere() {
    Cli::command().debug_assert();
}

#[test]
fn the_least_is_an_image() {
    assert_eq!(request("create hello"), api::CreateVm::new("hello"));
}

#[test]
fn every_option_reaches_the_daemon() {
    let asked = request(
        "create --name web-1 --cpus 4 --memory 4G --env A=1 -e B= --timeout 500ms --rm hello:v2 one",
    );
    let expected = api::CreateVm {
        name: Some("web-1".into()),
        args: vec!["one".into()],
        env: [("A".into(), "1".into()), ("B".into(), String::new())].into(),
        vcpus: 4,
        memory_mib: Some(4096),
        timeout_ms: Some(500),
        auto_remove: true,
        ..api::CreateVm::new("hello:v2")
    };
    assert_eq!(asked, expected);
}

#[test]
fn all_that_a_linux_guest_takes_reaches_the_daemon() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "A=file\nB=file\n").unwrap();
    let asked = request(&format!(
        "create -it -p 8080:80 -p 127.0.0.1::53/udp -e A=line --env-file {} -v data:/var/lib:ro --network front \
         --network back --hostname web -u www-data:www-data -w /srv --entrypoint /bin/init --restart on-failure:3 \
         --stop-signal SIGQUIT --stop-timeout 500ms --disk 2G --health-http 80/ok --health-interval 5s \
         --health-retries 2 --own-init --disk-rate 10M --net-rate 9/s debian -x",
        file.path().display()
    ));
    let mut health = api::HealthProbe::new(api::Probe::Http {
        port: 80,
        path: "/ok".into(),
    });
    (health.interval_ms, health.retries) = (5000, 2);
    let expected = api::CreateVm {
        args: vec!["-x".into()],
        env: [("A".into(), "line".into()), ("B".into(), "file".into())].into(),
        tty: true,
        stdin_open: true,
        ports: vec![
            "8080:80".parse().unwrap(),
            "127.0.0.1::53/udp".parse().unwrap(),
        ],
        volumes: vec!["data:/var/lib:ro".parse().unwrap()],
        networks: Some(vec!["front".into(), "back".into()]),
        hostname: Some("web".into()),
        user: Some("www-data:www-data".into()),
        workdir: Some("/srv".into()),
        entrypoint: Some(vec!["/bin/init".into()]),
        restart: "on-failure:3".parse().unwrap(),
        stop_signal: Some("SIGQUIT".into()),
        stop_timeout_ms: Some(500),
        disk_mib: Some(2048),
        health: Some(health),
        disk_rate: Some(crate::units::rate("10M").unwrap()),
        net_rate: Some(crate::units::rate("9/s").unwrap()),
        init: api::Init::Image,
        ..api::CreateVm::new("debian")
    };
    assert_eq!(asked, expected);
    let shell = request("create --health-cmd true --restart unless-stopped debian").health;
    let command = ["/bin/sh", "-c", "true"].map(String::from).into();
    assert_eq!(shell.unwrap().probe, api::Probe::Exec { command });
    let line = ["vmctl", "create", "--entrypoint", "", "debian", "ls"];
    match Cli::try_parse_from(line).unwrap().command {
        Command::Create(args) => {
            let asked = args.description.typed(false).unwrap();
            assert_eq!(asked.entrypoint, Some(vec![]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_follows_a_vm_is_the_programs() {
    for line in [
        "exec -it web sh -c true",
        "exec web ls -i",
        "exec -d -e A=1 web sleep 9",
    ] {
        assert!(
            matches!(parse(line).unwrap().command, Command::Exec(_)),
            "{line}"
        );
    }
    let both = parse("exec -d -i web sh").unwrap_err();
    assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn what_follows_the_image_is_the_programs() {
    let asked = request("create hello --wait --memory 4G -- -x");
    assert_eq!(asked.args, ["--wait", "--memory", "4G", "--", "-x"]);
    assert_eq!(asked.memory_mib, None);
}

#[test]
fn options_for_all_commands_stand_anywhere_before_the_image() {
    for line in ["-o json ps -a", "ps -a -o json", "ps --all --output=json"] {
        assert!(
            matches!(parse(line).unwrap().output, Format::Json),
            "{line}"
        );
    }
    assert!(parse("ps -q").unwrap().quiet);
    assert_eq!(parse("ps --dir /x").unwrap().dir, Some("/x".into()));
}

#[test]
fn failures_of_our_own_are_told_from_the_guests() {
    for (line, status) in [
        ("run hello", 125),
        ("run -d hello", 1),
        ("exec web true", 125),
        ("attach web", 125),
        ("create --wait hello", 125),
        ("create --wait=exit hello", 125),
        ("create hello", 1),
        ("ps", 1),
        ("wait a", 1),
    ] {
        assert_eq!(parse(line).unwrap().command.own_failure(), status, "{line}");
    }
}

#[test]
fn a_wrong_line_is_refused_with_its_value() {
    for (line, value) in [
        ("create --memory lots hello", "lots"),
        ("create --vcpus many hello", "many"),
        ("create --timeout 0s hello", "0s"),
        ("create --env =x hello", "=x"),
        ("create --wait=never hello", "never"),
        ("create -p 1:2:3 hello", "1:2:3"),
        ("create -v /host:/d hello", "/host:/d"),
        ("create --restart sometimes hello", "sometimes"),
        ("create --stop-signal NOPE hello", "NOPE"),
        ("create --health-http x hello", "x"),
        ("create --disk lots hello", "lots"),
        ("run --detach-keys ctrl hello", "ctrl"),
        ("kill -s 99 web", "99"),
        ("cp web: .", "web:"),
        ("port web 80:80", "80:80"),
        ("frobnicate", "frobnicate"),
        ("-o yaml ps", "yaml"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(value), "{line}: {error}");
    }
    for line in [
        "create",
        "stop",
        "rm -f",
        "image rm",
        "image add",
        "exec web",
        "cp a",
        "network rm",
        "volume create",
        "create --health-interval 5s hello",
        "image pull --user me x",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn an_image_has_a_name_of_its_own_or_its_files() {
    for (line, name, file) in [
        ("image add a/b", None, "a/b"),
        ("image add n a/b", Some("n"), "a/b"),
    ] {
        match parse(line).unwrap().command {
            Command::Image(command::image::Command::Add(add)) => {
                assert_eq!(
                    (add.name.as_deref(), add.file),
                    (name, file.into()),
                    "{line}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert_eq!(parse("--help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    assert_eq!(
        parse("--version").unwrap_err().kind(),
        ErrorKind::DisplayVersion
    );
    assert_eq!(parse("run --help").unwrap_err().exit_code(), 0);
}

#[test]
fn the_page_for_users_has_every_command_and_no_other() {
    let page = include_str!("../../../docs/vmctl.md");
    let mut said: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `vmctl ")?.split_once('`'))
        .map(|(command, _)| command)
        .collect();
    said.sort_unstable();
    let root = Cli::command();
    let mut there = Vec::new();
    for command in root.get_subcommands() {
        let below: Vec<_> = command.get_subcommands().collect();
        if below.is_empty() {
            there.push(command.get_name().to_owned());
        }
        for below in below {
            there.push(format!("{} {}", command.get_name(), below.get_name()));
        }
    }
    there.sort_unstable();
    assert_eq!(said, there);
}
