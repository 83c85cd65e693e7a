//! Linux guests: their disks, their agents, their ends.

use std::path::Path;

use api::{
    AgentState, Cause, ErrorCode, EventKind, GuestKind, HealthProbe, HealthState, Probe, Restart,
    RestartPolicy, StopVm, Until, VmState,
};

use crate::harness::{Daemon, linux, request};

fn left(dir: &Path, what: &str) -> usize {
    std::fs::read_dir(dir.join(what)).unwrap().count()
}

#[tokio::test]
async fn a_linux_guest_boots_is_told_what_to_run_and_is_stopped_by_its_agent() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    let vm = daemon.ready("web", "").await;
    assert_eq!((vm.kind, vm.memory_mib), (GuestKind::Linux, 128));
    let of_linux = vm.linux.unwrap();
    assert_eq!(of_linux.agent, AgentState::Running);
    assert_eq!(of_linux.command, ["serve"]);
    assert_eq!(of_linux.hostname, "web");
    let phases = vm.metrics.unwrap().boot;
    assert!(phases.iter().any(|p| p.phase == "agent"), "{phases:?}");
    let text = daemon.console("web").await;
    assert_eq!(text, "disks root disk; start 1\nstart serve\n");
    let stopped = client.stop("web", StopVm::default()).await.unwrap();
    assert_eq!(stopped.state, VmState::Exited);
    assert_eq!(stopped.outcome.unwrap().status, 143);
    assert_eq!(stopped.linux.unwrap().agent, AgentState::Gone);
    assert!(daemon.console("web").await.ends_with("shut down\n"));
    client.remove("web", false).await.unwrap();
    assert_eq!(left(daemon.dir.path(), "vms"), 0);
}

#[tokio::test]
async fn what_was_on_its_disk_and_its_console_is_there_after_another_start() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    daemon.ready("db", "").await;
    let lives = client.start("db").await.unwrap_err();
    assert_eq!(lives.refusal().unwrap().code, ErrorCode::Conflict);
    for start in 2..4 {
        client.stop("db", StopVm::default()).await.unwrap();
        client.start("db").await.unwrap();
        let vm = client.wait("db", Until::Ready).await.unwrap();
        assert_eq!((vm.state, vm.outcome), (VmState::Running, None));
        assert_eq!(vm.linux.unwrap().restarts, start - 1);
        let text = daemon.console("db").await;
        assert!(text.starts_with("disks root disk; start 1\n"), "{text}");
        assert!(text.contains(&format!("start {start}\n")), "{text}");
    }
    // One of the other kind starts again, too.
    client
        .add_image("app", crate::harness::content(crate::harness::image()))
        .await
        .unwrap();
    client
        .create(&request("app", &["exit", "3"]))
        .await
        .unwrap();
    client.wait("app", Until::Ended).await.unwrap();
    client.start("app").await.unwrap();
    let again = client.wait("app", Until::Ended).await.unwrap();
    assert_eq!(again.outcome.unwrap().status, 3);
}

#[tokio::test]
async fn a_daemon_that_returns_knows_how_far_its_guests_are() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("web", "").await;
    let daemon = daemon.crash();
    let client = daemon.client();
    let vm = client.wait("web", Until::Ready).await.unwrap();
    assert_eq!(vm.linux.unwrap().agent, AgentState::Running);
    // It was told once.
    let text = daemon.console("web").await;
    assert_eq!(text.matches("start serve").count(), 1);
    client.stop("web", StopVm::default()).await.unwrap();
    let daemon = daemon.crash();
    let client = daemon.client();
    client.start("web").await.unwrap();
    let vm = client.wait("web", Until::Ready).await.unwrap();
    assert_eq!(vm.linux.unwrap().restarts, 1);
}

#[tokio::test]
async fn a_daemon_that_was_killed_at_any_step_leaves_nothing_of_a_vm_that_goes() {
    let daemon = Daemon::with_linux().await;
    let dir = daemon.dir.path().to_owned();
    // While the agent is looked for, and while a removal is under way.
    daemon
        .client()
        .create(&linux("a", "agent=absent"))
        .await
        .unwrap();
    let daemon = daemon.crash();
    let client = daemon.client();
    assert_eq!(
        client.inspect("a").await.unwrap().linux.unwrap().agent,
        AgentState::Connecting
    );
    let removing = {
        let client = client.clone();
        tokio::spawn(async move { client.remove("a", true).await })
    };
    let daemon = daemon.crash_and(|| {
        // As a daemon leaves it that was killed while it made a disk.
        std::fs::write(dir.join("templates/ext4-64.new"), "half").unwrap();
        std::fs::create_dir_all(dir.join("vms/0123456789ab")).unwrap();
        std::fs::write(dir.join("vms/0123456789ab/disk.ext4.new"), "half").unwrap();
        std::fs::write(dir.join("vms/0123456789ab/disk.ext4"), "whole").unwrap();
    });
    let _ = removing.await;
    let mut events = daemon.client().events(Some(0)).await.unwrap();
    if daemon.client().inspect("a").await.is_ok() {
        daemon.client().remove("a", true).await.unwrap();
        while events.next().await.unwrap().unwrap().kind != EventKind::Removed {}
    }
    assert_eq!(left(&dir, "vms"), 0);
    assert!(!dir.join("templates/ext4-64.new").exists());
    daemon.ready("b", "").await;
}

#[tokio::test]
async fn an_agent_that_breaks_its_word_is_called_unresponsive_and_costs_nobody_else() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    for words in ["agent=nonsense", "agent=endless"] {
        client.create(&linux("bad", words)).await.unwrap();
        loop {
            let linux = client.inspect("bad").await.unwrap().linux.unwrap();
            if linux.agent == AgentState::Unresponsive {
                let said = linux.agent_message.unwrap();
                assert!(said.contains("nonsense"), "{said}");
                break;
            }
            tokio::task::yield_now().await;
        }
        let refusal = client.stat("bad", "/there", false).await.unwrap_err();
        assert_eq!(refusal.refusal().unwrap().code, ErrorCode::Unavailable);
        // It is ended by Ctrl-Alt-Del.
        let stopped = client.stop("bad", StopVm::default()).await.unwrap();
        assert_eq!(stopped.state, VmState::Exited);
        client.remove("bad", false).await.unwrap();
    }
    client
        .create(&linux("silent", "agent=silent"))
        .await
        .unwrap();
    client.wait("silent", Until::Running).await.unwrap();
    daemon.ready("good", "").await;
    client.kill("silent").await.unwrap();
}

#[tokio::test]
async fn a_guest_that_does_not_listen_is_killed_when_its_time_is_over() {
    let daemon = Daemon::with_linux().await;
    daemon.ready("deaf", "agent=deaf").await;
    let stop = StopVm {
        timeout_ms: Some(0),
    };
    let stopped = daemon.client().stop("deaf", stop).await.unwrap();
    assert_eq!(stopped.outcome.unwrap().cause, Cause::Stopped);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_fails_its_vm_with_the_reason() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    client.create(&linux("web", "agent=refuses")).await.unwrap();
    let vm = client.wait("web", Until::Ended).await.unwrap();
    let message = vm.outcome.unwrap().message;
    assert_eq!(vm.state, VmState::Failed);
    assert!(message.contains("no such program"), "{message}");
    // Who waits for it to be ready hears of the end.
    let vm = client.wait("web", Until::Ready).await.unwrap();
    assert_eq!(vm.state, VmState::Failed);
}

#[tokio::test]
async fn a_probe_says_how_a_guest_is() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    let mut events = client.events(None).await.unwrap();
    for (name, port, kind) in [
        ("well", 80, EventKind::Healthy),
        ("ill", 81, EventKind::Unhealthy),
    ] {
        let health = HealthProbe {
            interval_ms: 100,
            retries: 2,
            ..HealthProbe::new(Probe::Tcp { port })
        };
        let vm = api::CreateVm {
            health: Some(health),
            ..linux(name, "")
        };
        client.create(&vm).await.unwrap();
        let about = loop {
            let event = events.next().await.unwrap().unwrap();
            if event.kind == kind {
                break event.vm.unwrap().name;
            }
        };
        assert_eq!(about, name);
    }
    let health = async |vm: &str| client.inspect(vm).await.unwrap().linux.unwrap().health;
    assert_eq!(health("well").await, Some(HealthState::Healthy));
    assert_eq!(health("ill").await, Some(HealthState::Unhealthy));
    client.wait("well", Until::Healthy).await.unwrap();
}

#[tokio::test]
async fn a_vm_whose_monitor_dies_is_started_again_as_often_as_its_policy_says() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    let mut events = client.events(None).await.unwrap();
    let vm = api::CreateVm {
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            max: Some(1),
        },
        ..linux("web", "dies")
    };
    client.create(&vm).await.unwrap();
    let mut ends = 0;
    while ends < 2 {
        if events.next().await.unwrap().unwrap().kind == EventKind::Ended {
            ends += 1;
        }
    }
    let vm = client.inspect("web").await.unwrap();
    assert_eq!((vm.state, vm.linux.unwrap().restarts), (VmState::Failed, 1));
    assert!(daemon.console("web").await.contains("start 2"));
}

#[tokio::test]
async fn what_makes_no_sense_for_a_guest_is_refused_by_name() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    client
        .add_image("app", crate::harness::content(crate::harness::image()))
        .await
        .unwrap();
    let tty = api::CreateVm {
        tty: true,
        ..request("lib", &[])
    };
    let refusal = client.create(&tty).await.unwrap_err();
    let refusal = refusal.refusal().unwrap();
    assert_eq!(refusal.code, ErrorCode::BadRequest);
    assert!(refusal.message.contains("`tty`"), "{}", refusal.message);
    let workdir = api::CreateVm {
        workdir: Some("here".into()),
        ..linux("web", "")
    };
    let refusal = client.create(&workdir).await.unwrap_err();
    assert!(refusal.to_string().contains("`workdir` is \"here\""));
    daemon.running("lib", &[]).await;
    let refusal = client.stat("lib", "/", false).await.unwrap_err();
    assert!(refusal.to_string().contains("library OS"));
    assert_eq!(left(daemon.dir.path(), "vms"), 1);
}
