//! What happened, for whoever listens.
//!
//! The last [`KEEP`] events are kept, and every listener reads from there at its own pace: one that falls behind by more
//! is told so once (`lagged`) and goes on with the oldest that is left. Nothing grows with a slow listener.
//!
//! Numbers begin at the microseconds since 1970 of the daemon's start, so that they grow over a restart without being
//! written down, and a listener that comes back with an older number is told that it missed something.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{Event, EventKind, Outcome, VmRef};
use jiff::Timestamp;
use tokio::sync::watch;

/// How many events are kept.
pub const KEEP: usize = 4096;

/// The events of late.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    /// The number of the last event: wakes listeners.
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    next: u64,
}

impl Events {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        let next = Timestamp::now().as_microsecond().max(1).cast_unsigned();
        Self {
            ring: Mutex::new(Ring {
                events: VecDeque::new(),
                next,
            }),
            last: watch::Sender::new(next - 1),
        }
    }

    /// Something happened.
    pub fn tell(&self, kind: EventKind, vm: VmRef, outcome: Option<Outcome>) {
        let mut ring = self.ring();
        let seq = ring.next;
        ring.next += 1;
        if ring.events.len() == KEEP {
            ring.events.pop_front();
        }
        ring.events.push_back(Event {
            seq,
            time: Timestamp::now(),
            kind,
            vm: Some(vm),
            outcome,
        });
        // With the ring locked: numbers reach listeners in order.
        self.last.send_replace(seq);
    }

    /// Listens for events after `since`, or for those from now on.
    pub fn listen(self: &Arc<Self>, since: Option<u64>) -> Listener {
        let changed = self.last.subscribe();
        let seen = since.unwrap_or_else(|| self.ring().next - 1);
        Listener {
            events: Arc::clone(self),
            changed,
            seen,
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events after `seen`; first of all, where some are lost, one that says so.
    fn after(&self, seen: u64) -> Vec<Event> {
        let ring = self.ring();
        let first = ring.next - ring.events.len() as u64;
        let mut list = Vec::new();
        // A number from the future is another daemon's: start over.
        let lost = seen.saturating_add(1) < first || seen >= ring.next;
        if lost {
            list.push(Event {
                seq: first - 1,
                time: Timestamp::now(),
                kind: EventKind::Lagged,
                vm: None,
                outcome: None,
            });
        }
        let from = if lost { first } else { seen + 1 };
        list.extend(ring.events.iter().filter(|e| e.seq >= from).cloned());
        list
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Listener {
    events: Arc<Events>,
    changed: watch::Receiver<u64>,
    seen: u64,
}

impl Listener {
    /// The next events, at least one.
    pub async fn next(&mut self) -> Vec<Event> {
        loop {
            self.changed.mark_unchanged();
            let list = self.events.after(self.seen);
            if let Some(last) = list.last() {
                self.seen = last.seq;
                return list;
            }
            if self.changed.changed().await.is_err() {
                // The sender is in `events`, which this holds.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(n: usize) -> VmRef {
        VmRef {
            id: n.to_string(),
            name: String::new(),
        }
    }

    fn tell(events: &Events, n: usize) {
        events.tell(EventKind::Created, vm(n), None);
    }

    fn ids(list: &[Event]) -> Vec<String> {
        list.iter()
            .map(|e| e.vm.as_ref().map_or("lagged".to_owned(), |v| v.id.clone()))
            .collect()
    }

    #[tokio::test]
    async fn a_listener_gets_what_happens_from_then_on() {
        let events = Arc::new(Events::new());
        tell(&events, 1);
        let mut listener = events.listen(None);
        let waiting = tokio::spawn(async move { listener.next().await });
        tell(&events, 2);
        assert_eq!(ids(&waiting.await.unwrap()), ["2"]);
    }

    #[tokio::test]
    async fn who_comes_back_gets_what_it_missed() {
        let events = Arc::new(Events::new());
        (1..4).for_each(|n| tell(&events, n));
        let seq = events.after(0)[1].seq;
        assert_eq!(ids(&events.listen(Some(seq)).next().await), ["2", "3"]);
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_and_nothing_grows() {
        let events = Arc::new(Events::new());
        let mut slow = events.listen(None);
        (0..KEEP + 10).for_each(|n| tell(&events, n));
        let list = slow.next().await;
        assert_eq!(list.len(), KEEP + 1);
        assert_eq!(ids(&list[..2]), ["lagged", "10"]);
        assert_eq!(events.ring().events.len(), KEEP);
        // A daemon that was started again: its numbers are higher, and an older one is answered by `lagged`.
        assert_eq!(ids(&events.listen(Some(5)).next().await)[0], "lagged");
        assert_eq!(
            ids(&events.listen(Some(u64::MAX)).next().await)[0],
            "lagged"
        );
    }
}
