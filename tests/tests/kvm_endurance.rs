//! `cargo ci bench leak` and `recover` in short.

use tests::bench::{leak, recover};

#[test]
fn creates_and_removes_leave_nothing_behind() {
    let leak = leak::measure(60).unwrap();
    assert_eq!(leak.before, leak.after);
    let (before, after) = leak.memory_kib;
    assert!(
        after < before + (8 << 10),
        "vmd grew from {before} to {after} KiB"
    );
}

#[test]
fn killing_the_daemon_under_load_loses_doubles_and_confuses_nothing() {
    let recovery = recover::measure(8, 1).unwrap();
    assert_eq!(recovery.words, Vec::<String>::new());
    assert!(recovery.seen > 0);
}
