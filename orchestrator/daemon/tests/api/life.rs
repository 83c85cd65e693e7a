//! VMs are created, found, ended and removed.

use api::{Cause, ErrorCode, StopVm, Until, VmState};

use crate::harness::{Daemon, content, request};

#[tokio::test]
async fn a_vm_runs_is_stopped_and_removed() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let created = daemon.create("web", &[]).await;
    let running = client.wait("web", Until::Running).await.unwrap();
    assert_eq!(
        (running.state, &running.id),
        (VmState::Running, &created.id)
    );
    assert!(running.monitor_pid.is_some() && running.started_at.is_some());
    assert!(
        running
            .metrics
            .unwrap()
            .boot
            .iter()
            .any(|p| p.phase == "entered")
    );
    assert_eq!(client.list(false).await.unwrap().len(), 1);

    let refusal = client.remove("web", false).await.unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, ErrorCode::Conflict);
    let stopped = client.stop("web", StopVm::default()).await.unwrap();
    let outcome = stopped.outcome.unwrap();
    assert_eq!((stopped.state, outcome.status), (VmState::Exited, 143));
    assert!(client.list(false).await.unwrap().is_empty());
    assert_eq!(client.list(true).await.unwrap().len(), 1);

    assert!(daemon.has_folder(&created));
    client.remove("web", false).await.unwrap();
    assert!(!daemon.has_folder(&created));
    let gone = client.inspect("web").await.unwrap_err();
    assert_eq!(gone.refusal().unwrap().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_vm_is_found_by_id_prefix_and_name() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let vm = daemon.create("web", &[]).await;
    for reference in ["web", &vm.id, &vm.id[..6]] {
        assert_eq!(client.inspect(reference).await.unwrap().id, vm.id);
    }
    let unnamed = client.create(&api::CreateVm::new("app")).await.unwrap();
    assert!(unnamed.name.contains('-'));
    let twice = client.create(&request("web", &[])).await.unwrap_err();
    let twice = twice.refusal().unwrap();
    assert_eq!(twice.code, ErrorCode::Conflict);
    assert!(twice.message.contains("\"web\"") && twice.message.contains(&vm.id));
}

#[tokio::test]
async fn an_exit_status_is_passed_on_and_auto_remove_leaves_nothing() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let mut events = client.events(Some(0)).await.unwrap();
    let asked = api::CreateVm {
        auto_remove: true,
        ..request("job", &["exit", "3"])
    };
    let vm = client.create(&asked).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let event = events.next().await.unwrap().unwrap();
        if event.kind == api::EventKind::Ended {
            assert_eq!(event.outcome.as_ref().unwrap().status, 3);
        }
        kinds.push(event.kind);
        if event.kind == api::EventKind::Removed {
            break;
        }
    }
    use api::EventKind::{Created, Ended, Lagged, Removed, Running};
    assert_eq!(kinds, [Lagged, Created, Running, Ended, Removed]);
    assert!(client.list(true).await.unwrap().is_empty());
    assert!(!daemon.has_folder(&vm));
}

#[tokio::test]
async fn who_waits_for_an_end_hears_the_outcome() {
    let daemon = Daemon::start().await;
    daemon.create("job", &["exit", "7"]).await;
    let ended = daemon.client().wait("job", Until::Ended).await.unwrap();
    assert_eq!(
        (ended.state, ended.outcome.unwrap().status),
        (VmState::Exited, 7)
    );
}

#[tokio::test]
async fn a_guest_that_does_not_listen_is_ended_by_force() {
    let daemon = Daemon::start().await;
    daemon.running("deaf", &["deaf"]).await;
    let stop = StopVm {
        timeout_ms: Some(50),
    };
    let stopped = daemon.client().stop("deaf", stop).await.unwrap();
    assert_eq!(stopped.state, VmState::Exited);
    assert_eq!(stopped.outcome.unwrap().cause, Cause::Stopped);
    // Once more is no error; a kill is.
    daemon.client().stop("deaf", stop).await.unwrap();
    let late = daemon.client().kill("deaf").await.unwrap_err();
    assert_eq!(late.refusal().unwrap().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_monitor_that_dies_is_a_failed_vm_with_its_last_words() {
    let daemon = Daemon::start().await;
    daemon.create("sick", &["crash"]).await;
    let ended = daemon.client().wait("sick", Until::Running).await.unwrap();
    assert_eq!(ended.state, VmState::Failed);
    let message = ended.outcome.unwrap().message;
    assert!(
        message.contains("code 3") && message.contains("no machine here"),
        "{message}"
    );
}

#[tokio::test]
async fn a_vm_stands_still_and_goes_on() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    daemon.running("web", &[]).await;
    assert_eq!(client.pause("web").await.unwrap().state, VmState::Paused);
    assert!(client.pause("web").await.is_err());
    assert_eq!(client.resume("web").await.unwrap().state, VmState::Running);
    client.pause("web").await.unwrap();
    let stopped = client.stop("web", StopVm::default()).await.unwrap();
    assert_eq!(stopped.outcome.unwrap().status, 143);
}

#[tokio::test]
async fn an_image_that_vms_use_stays() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let vm = daemon.create("web", &[]).await;
    let refusal = client.remove_image("app").await.unwrap_err();
    let refusal = refusal.refusal().unwrap();
    assert_eq!(refusal.code, ErrorCode::Conflict);
    assert!(refusal.message.contains("web"), "{}", refusal.message);
    assert_eq!(client.image("app").await.unwrap().used_by, 1);
    client
        .add_image("app:v2", content(crate::harness::image()))
        .await
        .unwrap();
    client.remove_image("app:v2").await.unwrap();
    client.remove(&vm.id, true).await.unwrap();
    client.remove_image("app").await.unwrap();
    assert!(client.images().await.unwrap().is_empty());
    let missing = client.create(&request("web", &[])).await.unwrap_err();
    assert_eq!(missing.refusal().unwrap().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn an_image_tells_what_booting_it_takes() {
    let daemon = Daemon::start().await;
    let image = daemon.client().image("app").await.unwrap();
    // As the harness makes it: four bytes at the first mebibyte.
    let expected = api::ImageBoot {
        entry: 0x10_0000,
        memory_bytes: 0x10_0004,
    };
    assert_eq!(image.boot, Some(expected));
    assert_eq!(daemon.client().images().await.unwrap()[0].boot, None);
}

#[tokio::test]
async fn a_damaged_image_is_told_and_can_be_removed() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Daemon::start().await;
    let client = daemon.client();
    let digest = client.image("app").await.unwrap().digest;
    let file = daemon.dir.path().join("images/blobs").join(&digest);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&file, "no program any more").unwrap();
    let damaged = client.image("app").await.unwrap_err();
    assert!(damaged.to_string().contains("damaged"), "{damaged}");
    client.remove_image("app").await.unwrap();
    assert!(client.images().await.unwrap().is_empty() && !file.exists());
}

#[tokio::test]
async fn fifty_at_once_all_run_and_leave_nothing() {
    let daemon = Daemon::start().await;
    let creating: Vec<_> = (0..50)
        .map(|n| {
            let client = daemon.client();
            tokio::spawn(async move {
                let name = format!("vm-{n}");
                client.create(&request(&name, &[])).await.unwrap();
                let vm = client.wait(&name, Until::Running).await.unwrap();
                assert_eq!(vm.state, VmState::Running);
                client.remove(&name, true).await.unwrap();
            })
        })
        .collect();
    for one in creating {
        one.await.unwrap();
    }
    assert!(daemon.client().list(true).await.unwrap().is_empty());
    let left = std::fs::read_dir(daemon.dir.path().join("vms")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn the_host_tells_what_it_has() {
    let daemon = Daemon::start().await;
    daemon.running("web", &[]).await;
    let host = daemon.client().host().await.unwrap();
    assert!(host.cpus > 0 && host.memory_mib > 0);
    assert_eq!((host.vms.live, host.memory_promised_mib), (1, 64));
    assert_eq!(host.probe.unwrap()["fake"], true);
}
