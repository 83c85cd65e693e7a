//! The daemon goes and comes back.

use std::process::Stdio;

use api::{StopVm, Until, VmState};

use crate::harness::{Daemon, command, request};

#[tokio::test]
async fn vms_outlive_a_killed_daemon_and_are_found_again() {
    let daemon = Daemon::start().await;
    let running = daemon.running("running", &["say", "hello"]).await;
    let paused = daemon.running("paused", &[]).await;
    daemon.client().pause("paused").await.unwrap();
    daemon.create("over", &["exit", "5"]).await;
    let over = daemon.client().wait("over", Until::Ended).await.unwrap();

    let daemon = daemon.crash();
    let client = daemon.client();
    let found = client.inspect("running").await.unwrap();
    assert_eq!(found.state, VmState::Running);
    assert_eq!(
        (found.id, found.monitor_pid),
        (running.id, running.monitor_pid)
    );
    let found = client.inspect("paused").await.unwrap();
    assert_eq!(
        (found.state, found.monitor_pid),
        (VmState::Paused, paused.monitor_pid)
    );
    let found = client.inspect("over").await.unwrap();
    assert_eq!(
        (found.state, found.outcome),
        (VmState::Exited, over.outcome)
    );
    assert_eq!(client.list(true).await.unwrap().len(), 3);

    let stopped = client.stop("running", StopVm::default()).await.unwrap();
    assert_eq!(stopped.outcome.unwrap().status, 143);
    client.resume("paused").await.unwrap();
    for name in ["running", "paused", "over"] {
        client.remove(name, true).await.unwrap();
    }
    assert_eq!(
        std::fs::read_dir(daemon.dir.path().join("vms"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn what_ended_while_the_daemon_was_gone_is_told_by_its_meter() {
    let daemon = Daemon::start().await;
    let vm = daemon.running("web", &[]).await;
    let control = daemon
        .dir
        .path()
        .join("vms")
        .join(&vm.id)
        .join("control.sock");
    // Between the two daemons: the socket of the first is gone when this is asked.
    let daemon = daemon.crash_and(|| {
        use std::io::{Read, Write};
        let mut control = std::os::unix::net::UnixStream::connect(control).unwrap();
        let body = r#"{"action_type":"SendCtrlAltDel"}"#;
        let head = format!(
            "PUT /actions HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        control
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        control.read_to_end(&mut Vec::new()).unwrap();
    });
    let ended = daemon.client().wait("web", Until::Ended).await.unwrap();
    assert_eq!(
        (ended.state, ended.outcome.unwrap().status),
        (VmState::Exited, 143)
    );
}

#[tokio::test]
async fn no_vm_is_lost_or_doubled_by_kills_under_load() {
    let mut daemon = Daemon::start().await;
    for round in 0..10 {
        let creating: Vec<_> = (0..8)
            .map(|n| {
                let client = daemon.client();
                let name = format!("vm-{round}-{n}");
                tokio::spawn(async move { client.create(&request(&name, &[])).await })
            })
            .collect();
        // The first answer is the moment: the others are anywhere on their way.
        let (first, _, others) = futures::future::select_all(creating).await;
        daemon = daemon.crash();
        let mut answered = vec![first.unwrap().unwrap()];
        for other in others {
            answered.extend(other.await.unwrap().ok());
        }
        let client = daemon.client();
        for vm in &answered {
            let found = client.wait(&vm.id, Until::Running).await.unwrap();
            assert_eq!(found.state, VmState::Running, "{}", found.name);
        }
        let mut pids = Vec::new();
        for vm in client.list(true).await.unwrap() {
            let vm = client.wait(&vm.id, Until::Running).await.unwrap();
            assert_eq!(vm.state, VmState::Running, "{}", vm.name);
            pids.push(vm.monitor_pid.unwrap());
        }
        let monitors = monitors_of(&daemon);
        pids.sort_unstable();
        assert_eq!(pids, monitors, "round {round}");
        for vm in client.list(true).await.unwrap() {
            client.remove(&vm.id, true).await.unwrap();
        }
    }
}

/// The processes that hold a file of this daemon's VMs open, in order.
fn monitors_of(daemon: &Daemon) -> Vec<u32> {
    let vms = daemon.dir.path().join("vms");
    let mut found: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut fds| {
                fds.any(|fd| {
                    fd.and_then(|fd| std::fs::read_link(fd.path()))
                        .is_ok_and(|to| to.starts_with(&vms) && to.ends_with("lock"))
                })
            })
        })
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start().await;
    let second = command(&daemon.dir)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        !second.status.success() && said.contains("another vmd"),
        "{said}"
    );
    daemon.client().version().await.unwrap();
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    for damage in [&b"not a database at all"[..], &[0; 4096], b""] {
        std::fs::write(&path, damage).unwrap();
        let output = command(&dir).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("state.redb is damaged"), "{said}");
        assert!(std::fs::read(&path).unwrap() == damage, "it was changed");
    }
}

#[test]
fn a_long_socket_path_is_refused_with_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s".repeat(120));
    let output = command(&dir)
        .arg("--socket")
        .arg(&socket)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("107") && said.contains("--socket"), "{said}");
}
