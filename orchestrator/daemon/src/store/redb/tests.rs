//! What the file promises: whole commits, and nothing made up where it is damaged.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::record::Desired;

fn record(id: &str) -> Record {
    Record {
        id: id.to_owned(),
        name: format!("vm-{id}"),
        image: "hello".to_owned(),
        digest: "00".repeat(32),
        args: vec!["a b".to_owned()],
        env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        vcpus: 1,
        memory_mib: 64,
        timeout_ms: None,
        auto_remove: false,
        created_at: Timestamp::UNIX_EPOCH,
        host_boot: "boot".to_owned(),
        desired: Desired::Run,
        ended: None,
        starts: 0,
        linux: None,
    }
}

fn put(id: &str) -> Change {
    Change::Put(Box::new(record(id)))
}

#[test]
fn what_was_committed_is_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut store = RedbStore::open(&path).unwrap();
    store.commit(&[put("a"), put("b"), put("c")]).unwrap();
    store
        .commit(&[Change::Delete("b".into()), Change::Delete("z".into())])
        .unwrap();
    drop(store);
    let loaded = RedbStore::open(&path).unwrap().load().unwrap();
    assert_eq!(loaded, [record("a"), record("c")]);
    // What an attempt that was killed left over is no trouble.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path.with_extension("new"), "half").unwrap();
    assert!(RedbStore::open(&path).unwrap().load().unwrap().is_empty());
}

#[test]
fn a_record_that_makes_no_sense_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut store = RedbStore::open(&path).unwrap();
    write(store.database().unwrap(), |transaction| {
        transaction.open_table(VMS)?.insert("abc", &b"{}"[..])?;
        Ok(())
    })
    .unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(
        error.contains("is damaged") && error.contains("VM abc"),
        "{error}"
    );
}

#[test]
fn a_newer_format_is_left_to_the_newer_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut store = RedbStore::open(&path).unwrap();
    write(store.database().unwrap(), |transaction| {
        transaction.open_table(META)?.insert("format", FORMAT + 1)?;
        Ok(())
    })
    .unwrap();
    drop(store);
    let error = RedbStore::open(&path).unwrap_err();
    assert!(
        matches!(error, StoreError::Format { found, .. } if found == FORMAT + 1),
        "{error}"
    );
}

#[test]
fn the_records_of_an_older_daemon_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut store = RedbStore::open(&path).unwrap();
    store.commit(&[put("a")]).unwrap();
    write(store.database().unwrap(), |transaction| {
        // As it was before there were Linux guests.
        let mut old = serde_json::to_value(record("a")).unwrap();
        let fields = old.as_object_mut().unwrap();
        fields.remove("starts").unwrap();
        let json = serde_json::to_vec(&old).unwrap();
        transaction.open_table(VMS)?.insert("a", json.as_slice())?;
        transaction.delete_table(NETWORKS)?;
        transaction
            .open_table(META)?
            .insert("format", FORMAT_BEFORE)?;
        Ok(())
    })
    .unwrap();
    drop(store);
    let mut store = RedbStore::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), [record("a")]);
    assert!(store.networks().unwrap().is_empty());
}

/// What a file with these bytes changed, and cut there, is taken for.
fn damage(flips: &[(usize, u8)], cut: Option<usize>) -> Result<Vec<Record>, StoreError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut store = RedbStore::open(&path).unwrap();
    store.commit(&[put("a"), put("b")]).unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    for (at, flip) in flips.iter().copied() {
        let at = at % bytes.len();
        bytes[at] ^= flip;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut);
    }
    std::fs::write(&path, &bytes).unwrap();
    RedbStore::open(&path).and_then(|mut store| store.load())
}

#[test]
fn a_file_about_which_redb_asserts_is_refused() {
    let refused = damage(&[(16_870, 7)], None);
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_is_refused_or_harmless(
        flips in proptest::collection::vec((0..1_usize << 20, 1..=255_u8), 1..8),
        cut in proptest::option::weighted(0.3, 0..1_usize << 20),
    ) {
        match damage(&flips, cut) {
            Ok(list) => prop_assert_eq!(list, [record("a"), record("b")]),
            Err(StoreError::Damaged { .. } | StoreError::Io { .. } | StoreError::Format { .. }) => {}
            Err(e) => prop_assert!(false, "{e}"),
        }
    }
}
