//! Many callers, few commits, in order, and what a failure does to whom.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::record::Record;

/// A store that commits when it is told to, and tells what it was given.
struct Gated {
    gate: Receiver<Result<(), StoreError>>,
    seen: Sender<Vec<String>>,
}

impl Store for Gated {
    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        Ok(Vec::new())
    }

    fn networks(&mut self) -> Result<Vec<network::Network>, StoreError> {
        Ok(Vec::new())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let ids = changes.iter().map(|change| match change {
            Change::Put(record) => record.id.clone(),
            Change::Delete(id) | Change::DeleteNetwork(id) => id.clone(),
            Change::PutNetwork(network) => network.name.clone(),
        });
        self.seen.send(ids.collect()).unwrap();
        self.gate.recv().unwrap()
    }
}

fn gated() -> (
    Journal,
    Sender<Result<(), StoreError>>,
    Receiver<Vec<String>>,
) {
    let (open, gate) = channel();
    let (seen, batches) = channel();
    (Journal::start(Gated { gate, seen }).unwrap(), open, batches)
}

fn change(id: &str) -> Change {
    Change::Delete(id.to_owned())
}

#[tokio::test]
async fn what_comes_during_a_commit_goes_into_the_next_one() {
    let (journal, open, batches) = gated();
    let first = journal.put(change("a"));
    assert_eq!(batches.recv().unwrap(), ["a"]);
    let second = journal.put(change("b"));
    journal.later(change("c"));
    let third = journal.put(change("d"));
    open.send(Ok(())).unwrap();
    first.await.unwrap();
    assert_eq!(batches.recv().unwrap(), ["b", "c", "d"]);
    open.send(Ok(())).unwrap();
    second.await.unwrap();
    third.await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_to_who_waits_and_the_rest_is_tried_again() {
    let (journal, open, batches) = gated();
    let busy = journal.put(change("a"));
    batches.recv().unwrap();
    journal.later(change("b"));
    let refused = journal.put(change("c"));
    open.send(Ok(())).unwrap();
    busy.await.unwrap();
    assert_eq!(batches.recv().unwrap(), ["b", "c"]);
    let file = "state.redb".to_owned();
    open.send(Err(StoreError::NoSpace { file })).unwrap();
    assert!(matches!(refused.await, Err(StoreError::NoSpace { .. })));
    // Not what was refused: who asked for it knows.
    let next = journal.put(change("d"));
    open.send(Ok(())).unwrap();
    next.await.unwrap();
    assert_eq!(batches.recv().unwrap(), ["b", "d"]);
}

#[test]
fn what_nobody_waits_for_is_written_at_the_end() {
    let (journal, open, batches) = gated();
    open.send(Ok(())).unwrap();
    journal.later(change("a"));
    journal.close();
    assert_eq!(batches.recv().unwrap(), ["a"]);
}
