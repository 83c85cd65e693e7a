//! A daemon that is killed at any moment leaves nothing that the next one does not find.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::place::test;
use super::world::{create, lease, open, traces, world};

/// Rounds of killing: each ends at another moment.
const ROUNDS: u32 = 24;
/// How much later than the one before: together they span two lives of its VMs.
const LATER: Duration = Duration::from_millis(23);
/// Says to the test below that it is a daemon.
const DAEMON: &str = "SHOAL_TEST_DAEMON";

#[test]
fn a_daemon_killed_at_any_moment_leaves_nothing_to_the_next() {
    test(|| {
        let _world = world();
        let before = traces();
        for round in 0..ROUNDS {
            let mut daemon = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "tests::crash::daemon", "--nocapture"])
                .env(DAEMON, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // It says when it begins; how far it gets from there is another each round.
            let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("begins")));
            std::thread::sleep(LATER * round);
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            let next = open("crash");
            next.reconcile(&[], &[]).unwrap();
            assert_eq!(traces(), before, "round {round}");
        }
    });
}

/// Attaches and releases, a quarter of a second a time, until it is killed; as a test by itself it is nothing.
#[test]
fn daemon() {
    if std::env::var_os(DAEMON).is_none() {
        return;
    }
    let networks = open("crash");
    create(&networks, &["blue", "red"]);
    println!("begins");
    loop {
        for (vm, network) in [("a", "blue"), ("b", "blue"), ("c", "red")] {
            lease(
                &networks,
                vm,
                network,
                &["8080:80"][..usize::from(vm == "a")],
            );
            drop(networks.attach(vm).unwrap());
        }
        for vm in ["a", "b", "c"] {
            networks.release(vm).unwrap();
        }
    }
}
