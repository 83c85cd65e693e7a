//! The queue against a device in the same process, an honest one and a hostile one.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const SIZE: usize = 8;

/// Finishes the buffer that the driver offered as number `index`; gives its slot.
fn finish(queue: &Queue<SIZE>, index: u16, written: u32) -> u16 {
    let slot = queue.memory.driver_ring[index as usize % SIZE].load(Ordering::Acquire);
    put(queue, index, slot.into(), written);
    slot
}

/// Writes a used element as device, whatever it says.
fn put(queue: &Queue<SIZE>, index: u16, id: u32, length: u32) {
    let element = &queue.memory.device_ring[index as usize % SIZE];
    element.id.store(id, Ordering::Relaxed);
    element.length.store(length, Ordering::Relaxed);
    queue
        .memory
        .device_index
        .store(index.wrapping_add(1), Ordering::Release);
}

fn offer_to_write(queue: &mut Queue<SIZE>, length: u32) -> usize {
    let slot = queue.free_slot().unwrap();
    // SAFETY: no device reads or writes the buffer: it is a number here.
    unsafe { queue.offer_to_write(slot, 0x1000, length) };
    slot
}

#[test]
fn the_parts_are_where_the_device_may_look_for_them() {
    let queue = Queue::<SIZE>::new();
    let at = queue.addresses();
    assert_eq!((at.descriptors % 16, at.driver % 2, at.device % 4), (0, 0, 0));
    assert_eq!(at.driver - at.descriptors, 16 * SIZE as u64);
    assert!(at.device - at.driver >= 6 + 2 * SIZE as u64);
    assert_eq!(size_of::<UsedElement>(), 8);
}

#[test]
fn a_slot_never_given_breaks_the_queue_for_good() {
    let mut queue = Queue::<SIZE>::new();
    let slot = offer_to_write(&mut queue, 16);
    put(&queue, 0, slot as u32 + 1, 0);
    assert_eq!(queue.take(), Err(Broken));
    put(&queue, 0, slot as u32, 0);
    assert_eq!(queue.take(), Err(Broken));
    assert!(!queue.busy());
}

#[test]
fn more_bytes_than_fit_break_the_queue() {
    let mut queue = Queue::<SIZE>::new();
    offer_to_write(&mut queue, 16);
    finish(&queue, 0, 17);
    assert_eq!(queue.take(), Err(Broken));
}

#[test]
fn the_same_slot_twice_breaks_the_queue() {
    let mut queue = Queue::<SIZE>::new();
    offer_to_write(&mut queue, 16);
    let slot = finish(&queue, 0, 3);
    assert_eq!(queue.take(), Ok(Some(Done { slot: slot.into(), written: 3 })));
    put(&queue, 1, slot.into(), 3);
    assert_eq!(queue.take(), Err(Broken));
}

proptest! {
    #[test]
    fn every_buffer_comes_back_once_and_in_the_devices_order(steps in prop::collection::vec(any::<bool>(), 0..3000)) {
        let mut queue = Queue::<SIZE>::new();
        let (mut offered, mut finished) = (0u16, 0u16);
        let mut expected = Vec::new();
        for offer in steps {
            if offer && queue.free_slot().is_some() {
                offer_to_write(&mut queue, 100);
                offered = offered.wrapping_add(1);
            } else if finished != offered {
                let slot = finish(&queue, finished, u32::from(finished % 100));
                expected.push(Done { slot: slot.into(), written: usize::from(finished % 100) });
                finished = finished.wrapping_add(1);
            }
            if finished % 3 == 0 {
                for want in expected.drain(..) {
                    prop_assert_eq!(queue.take(), Ok(Some(want)));
                }
                prop_assert_eq!(queue.take(), Ok(None));
            }
        }
    }

    #[test]
    fn a_device_that_writes_anything_gets_nothing_out_of_range(
        elements in prop::collection::vec((0u32..12, 0u32..40), 0..40),
        jump in 0u16..20,
    ) {
        let mut queue = Queue::<SIZE>::new();
        for _ in 0..SIZE { offer_to_write(&mut queue, 32); }
        for (i, (id, length)) in elements.into_iter().enumerate() {
            put(&queue, (i as u16).wrapping_add(jump), id, length);
            while let Ok(Some(done)) = queue.take() {
                prop_assert!(done.slot < SIZE && done.written <= 32);
            }
        }
    }
}
