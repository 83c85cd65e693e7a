//! Who may send how much (section 5.10.6.3). Each side tells the other its buffer's size and how many bytes it has passed on in all;
//! what was sent and not yet passed on never exceeds the buffer. Counts wrap.
//!
//! ```text
//! guest -> host     received  >=  forwarded  >=  told          received - forwarded is what waits here: at most `window`
//! host -> guest     sent      >=  peer_forwarded               sent - peer_forwarded is at most `peer_window`
//! ```

/// The guest sent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// The credit of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    window: u32,
    received: u32,
    forwarded: u32,
    told: u32,
    peer_window: u32,
    peer_forwarded: u32,
    sent: u32,
}

impl Credit {
    /// Of a new connection, where the guest may have `window` bytes under way.
    pub(super) fn new(window: u32) -> Self {
        Self {
            window,
            received: 0,
            forwarded: 0,
            told: 0,
            peer_window: 0,
            peer_forwarded: 0,
            sent: 0,
        }
    }

    /// What a packet of the guest says of its side. It may say anything: a count that cannot be leaves it no room.
    pub(super) fn hear(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.peer_window = buf_alloc;
        self.peer_forwarded = fwd_cnt;
    }

    /// What a packet to the guest is to say of ours.
    pub(super) fn tell(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        (self.window, self.forwarded)
    }

    /// Whether so much was passed on that the guest should hear of it now. Half of the window is enough: it never stands still, as what it
    /// still may send is all the rest of the window, and it hears no more often than that.
    pub(super) fn is_worth_telling(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= self.window / 2
    }

    /// Bytes for which the guest has room.
    pub(super) fn room(&self) -> u32 {
        let under_way = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_window.saturating_sub(under_way)
    }

    /// Bytes went to the guest, no more than [`Self::room`].
    pub(super) fn send(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    /// Bytes came from the guest.
    pub(super) fn receive(&mut self, count: u32) -> Result<(), Overrun> {
        let waiting = self.received.wrapping_sub(self.forwarded);
        if count > self.window - waiting {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(count);
        Ok(())
    }

    /// Bytes were passed on to the host, no more than were received.
    pub(super) fn forward(&mut self, count: u32) {
        self.forwarded = self.forwarded.wrapping_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_guest_is_held_to_its_window() {
        let mut credit = Credit::new(100);
        assert_eq!(credit.receive(100), Ok(()));
        assert_eq!(credit.receive(1), Err(Overrun));
        credit.forward(49);
        assert!(!credit.is_worth_telling());
        credit.forward(1);
        assert!(credit.is_worth_telling());
        assert_eq!(credit.tell(), (100, 50));
        assert!(!credit.is_worth_telling());
        assert_eq!(credit.receive(51), Err(Overrun));
        assert_eq!(credit.receive(50), Ok(()));
    }

    #[test]
    fn a_guest_that_lies_of_its_buffer_gets_nothing() {
        let mut credit = Credit::new(100);
        credit.hear(10, 0);
        credit.send(10);
        assert_eq!(credit.room(), 0);
        credit.hear(10, 11);
        assert_eq!(credit.room(), 0);
        credit.hear(u32::MAX, 10);
        assert_eq!(credit.room(), u32::MAX);
        credit.hear(4, 10);
        assert_eq!(credit.room(), 4);
    }

    proptest! {
        #[test]
        fn counts_may_wrap(
            start: u32,
            steps in proptest::collection::vec((0_u32..200, 0_u32..200), 0..50),
        ) {
            let mut credit = Credit::new(128);
            (credit.received, credit.forwarded, credit.told) = (start, start, start);
            let mut waiting = 0;
            for (comes, goes) in steps {
                let fits = comes <= 128 - waiting;
                prop_assert_eq!(credit.receive(comes).is_ok(), fits);
                waiting += if fits { comes } else { 0 };
                credit.forward(goes.min(waiting));
                waiting -= goes.min(waiting);
                if credit.is_worth_telling() {
                    credit.tell();
                }
            }
        }
    }
}
