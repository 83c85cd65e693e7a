//! Monitors that never enter their guests, by a fleet that has no patience at all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::VmState;
use daemon::fleet::Fleet;
use daemon::folder::{Home, Lease};
use daemon::linux::boot::Programs;
use daemon::store::Store;
use daemon::store::journal::Journal;
use daemon::store::redb::RedbStore;
use daemon::vm::Vm;

use crate::harness::{Daemon, image, monitor, request};

/// A fleet on a directory that no daemon has, and what is written down there.
async fn impatient(dir: &Path) -> Arc<Fleet> {
    let (home, lock) = Home::take(dir).unwrap();
    // For as long as the test.
    std::mem::forget(lock);
    let mut store = RedbStore::open(&home.state()).unwrap();
    let records = store.load().unwrap();
    let images = images::Store::open(home.images()).unwrap();
    let journal = Journal::start(store).unwrap();
    let programs = Programs {
        kernel: "/dev/null".into(),
        initrd: "/dev/null".into(),
    };
    let mut fleet = Fleet::new(home, journal, images, monitor(), programs).unwrap();
    fleet.boot_limit = Duration::ZERO;
    let fleet = Arc::new(fleet);
    fleet.recover(records, vec![]).await;
    fleet
}

/// It fails, and its monitor goes.
async fn fails(vm: &Vm) {
    let state = vm.reach(VmState::is_ended).await;
    let said = vm.status().ended.unwrap().outcome.detail;
    assert_eq!(state, VmState::Failed);
    assert!(said.contains("did not enter its guest"), "{said}");
    if let Some(monitor) = vm.monitor() {
        monitor.gone().await;
    }
    assert_eq!(vm.folder().lease().unwrap(), Lease::Free);
}

#[tokio::test]
async fn a_monitor_that_does_not_enter_its_guest_in_time_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = impatient(dir.path()).await;
    let name = "app".parse().unwrap();
    fleet.images.add(&name, &image()[..]).unwrap();
    let vm = fleet.create(request("web", &["stuck"])).await.unwrap();
    fails(&vm).await;
}

#[tokio::test]
async fn so_is_one_that_an_earlier_daemon_started() {
    let daemon = Daemon::start().await;
    daemon.create("web", &["stuck"]).await;
    let dir = daemon.killed();
    let fleet = impatient(dir.path()).await;
    fails(&fleet.find("web").unwrap()).await;
}
