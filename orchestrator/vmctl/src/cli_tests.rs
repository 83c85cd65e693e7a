//! What the command line takes.

use super::*;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("vmctl").chain(line.split_whitespace()))
}

fn request(line: &str) -> api::CreateVm {
    match parse(line).unwrap().command {
        Command::Create(args) => args.description.typed(args.rm),
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
        ("frobnicate", "frobnicate"),
        ("-o yaml ps", "yaml"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(value), "{line}: {error}");
    }
    for line in ["create", "stop", "rm -f", "image rm", "image add"] {
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
