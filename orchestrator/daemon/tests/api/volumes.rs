//! Volumes: made, used by one VM at a time, kept, removed.

use api::{CreateVm, CreateVolume, ErrorCode, StopVm, Until};

use crate::harness::{Daemon, linux};

fn on_volume(name: &str) -> CreateVm {
    CreateVm {
        volumes: vec!["data:/var/lib/data".parse().unwrap()],
        ..linux(name, "")
    }
}

#[tokio::test]
async fn a_volume_belongs_to_one_vm_that_runs_and_outlives_it() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    client.create(&on_volume("one")).await.unwrap();
    client.wait("one", Until::Ready).await.unwrap();
    let text = daemon.console("one").await;
    assert!(
        text.starts_with("disks root disk vol-0; start 1\n"),
        "{text}"
    );
    let [volume] = client.volumes().await.unwrap().try_into().unwrap();
    assert_eq!((volume.name.as_str(), volume.size_mib), ("data", 8192));
    assert_eq!(volume.used_by, ["one"]);
    assert!(volume.used_bytes < 16 << 20);

    let locked = client.create(&on_volume("two")).await.unwrap_err();
    let locked = locked.refusal().unwrap();
    assert_eq!(locked.code, ErrorCode::Conflict);
    assert!(locked.message.contains("\"data\""), "{}", locked.message);
    // Nothing of it is left, and a daemon that returns sees the lock all the same.
    assert_eq!(client.list(true).await.unwrap().len(), 1);
    let daemon = daemon.crash();
    let client = daemon.client();
    assert!(client.create(&on_volume("two")).await.is_err());

    let used = client.remove_volume("data").await.unwrap_err();
    assert!(used.to_string().contains("one"), "{used}");
    client.stop("one", StopVm::default()).await.unwrap();
    assert!(client.prune_volumes().await.unwrap().removed.is_empty());
    client.remove("one", false).await.unwrap();
    assert!(client.volume("data").await.unwrap().used_by.is_empty());
}

#[tokio::test]
async fn volumes_are_made_listed_and_pruned() {
    let daemon = Daemon::with_linux().await;
    let client = daemon.client();
    let make = async |name: &str, size_mib| {
        let name = name.to_owned();
        client.create_volume(&CreateVolume { name, size_mib }).await
    };
    assert_eq!(make("b", Some(32)).await.unwrap().size_mib, 32);
    make("a", None).await.unwrap();
    let twice = make("a", None).await.unwrap_err();
    assert_eq!(twice.refusal().unwrap().code, ErrorCode::Conflict);
    let bad = make("../x", None).await.unwrap_err();
    assert_eq!(bad.refusal().unwrap().code, ErrorCode::BadRequest);
    let small = make("c", Some(1)).await.unwrap_err();
    assert!(small.to_string().contains("not 1"), "{small}");
    let names: Vec<_> = client
        .volumes()
        .await
        .unwrap()
        .into_iter()
        .map(|v| v.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    client.remove_volume("b").await.unwrap();
    let gone = client.remove_volume("b").await.unwrap_err();
    assert_eq!(gone.refusal().unwrap().code, ErrorCode::NotFound);
    assert_eq!(client.prune_volumes().await.unwrap().removed, ["a"]);
}
