//! What drivers may do, and in which order.

use super::*;
use crate::virtio::ring::{Broken, Kept};

/// A device that remembers what was asked of it.
#[derive(Default)]
struct Probe {
    active_with: Option<u64>,
    /// Chains that it has taken and finishes only when it is drained.
    under_way: Vec<Kept>,
    drained: Vec<Kept>,
    written: Vec<(u64, Vec<u8>)>,
    slow: bool,
}

const OWN_FEATURE: u64 = 1 << 3;

impl VirtioDevice for Probe {
    fn id(&self) -> u32 {
        42
    }

    fn features(&self) -> u64 {
        OWN_FEATURE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[32, 8]
    }

    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5, 6]
    }

    fn activate(&mut self, features: u64) {
        self.active_with = Some(features);
    }

    fn serve(&mut self, _: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        for kept in self.drained.drain(..) {
            ring.done_kept(kept, 0)?;
        }
        while let Some(chain) = ring.next_chain()? {
            if self.slow {
                self.under_way.push(chain.keep());
            } else {
                ring.done(&chain, 0)?;
            }
        }
        Ok(())
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        self.written.push((offset, data.to_vec()));
        offset == 4
    }

    fn drain(&mut self) {
        self.drained.append(&mut self.under_way);
    }

    fn reset(&mut self) {
        self.active_with = None;
    }
}

fn transport() -> Transport<Probe> {
    let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
    let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    let meter = Arc::new(Meter::create(None::<std::fs::File>).unwrap());
    let doorbells = vec![event(), event()];
    Transport::new(Probe::default(), memory, event(), doorbells, meter)
}

fn read(transport: &Transport<Probe>, offset: u64) -> u32 {
    let mut data = [0; 4];
    transport.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write(transport: &Transport<Probe>, offset: u64, value: u32) {
    transport.write(offset, &value.to_le_bytes());
}

fn misuses(transport: &Transport<Probe>) -> u64 {
    transport.meter.read().counter(Counter::DriverErrors)
}

fn agree(transport: &Transport<Probe>, features: u64) {
    for status in [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER] {
        write(transport, STATUS, status);
    }
    for page in 0..2 {
        write(transport, DRIVER_FEATURES_SELECT, page);
        write(transport, DRIVER_FEATURES, (features >> (32 * page)) as u32);
    }
    write(transport, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
}

fn set_up_queue(transport: &Transport<Probe>, queue: u32, base: u32, size: u32) {
    write(transport, QUEUE_SELECT, queue);
    write(transport, QUEUE_SIZE, size);
    for (register, offset) in [(0x80, 0), (0x90, 0x1000), (0xA0, 0x2000)] {
        write(transport, register, base + offset);
        write(transport, register + 4, 0);
    }
    write(transport, QUEUE_READY, 1);
}

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

#[test]
fn a_driver_finds_what_it_looks_for() {
    let transport = transport();
    let identity = [0, 4, 8].map(|offset| read(&transport, offset));
    assert_eq!(identity, [0x7472_6976, 2, 42]);
    let features = [0, 1].map(|page| {
        write(&transport, DEVICE_FEATURES_SELECT, page);
        read(&transport, 0x10)
    });
    assert_eq!(features, [OWN_FEATURE as u32 | 1 << 28 | 1 << 29, 1]);
    write(&transport, QUEUE_SELECT, 1);
    assert_eq!(read(&transport, 0x34), 8);
    write(&transport, QUEUE_SELECT, 2);
    assert_eq!(read(&transport, 0x34), 0);
    assert_eq!(read(&transport, CONFIG + 4), 0x0605);
    assert_eq!(read(&transport, 0xB0), u32::MAX);
    assert_eq!(misuses(&transport), 0);
}

#[test]
fn an_honest_driver_is_served_and_interrupted() {
    let transport = transport();
    agree(&transport, VERSION_1 | OWN_FEATURE);
    set_up_queue(&transport, 1, 0, 8);
    assert_eq!(read(&transport, QUEUE_READY), 1);
    write(&transport, STATUS, 15);
    assert_eq!(
        lock(&transport.state).device.active_with,
        Some(VERSION_1 | OWN_FEATURE)
    );
    assert!(transport.meter.read().phase(Phase::Driver).is_some());
    // Both doorbells ring by themselves once.
    assert_eq!(transport.doorbells[1].read().unwrap(), 1);

    use vm_memory::Bytes;
    let memory = &transport.memory;
    memory.write_obj(0x4000_u64, GuestAddress(0)).unwrap();
    memory.write_obj(16_u32, GuestAddress(8)).unwrap();
    memory.write_obj(1_u16, GuestAddress(0x1002)).unwrap();
    assert!(!transport.serve(1));
    assert_eq!(memory.read_obj::<u16>(GuestAddress(0x2002)).unwrap(), 1);
    assert_eq!(transport.line.read().unwrap(), 1);
    assert_eq!(read(&transport, 0x60), INTERRUPT_USED);
    write(&transport, INTERRUPT_ACK, INTERRUPT_USED);
    assert_eq!(read(&transport, 0x60), 0);
    assert_eq!(misuses(&transport), 0);

    write(&transport, STATUS, 0);
    assert_eq!(lock(&transport.state).device.active_with, None);
    write(&transport, QUEUE_SELECT, 1);
    assert_eq!(
        (read(&transport, STATUS), read(&transport, QUEUE_READY)),
        (0, 0)
    );
}

#[test]
fn steps_out_of_order_are_refused() {
    let transport = transport();
    for status in [DRIVER, FEATURES_OK, 15 & !DRIVER, 1 << 5] {
        write(&transport, STATUS, status);
        assert_eq!(read(&transport, STATUS) & (FEATURES_OK | DRIVER_OK), 0);
        write(&transport, STATUS, 0);
    }
    write(&transport, STATUS, ACKNOWLEDGE | DRIVER);
    write(&transport, STATUS, DRIVER);
    assert_eq!(read(&transport, STATUS), ACKNOWLEDGE | DRIVER);
    assert_eq!(misuses(&transport), 5);
    set_up_queue(&transport, 0, 0, 8);
    assert_eq!(read(&transport, QUEUE_READY), 0);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for features in [0, OWN_FEATURE, VERSION_1 | 1 << 5, VERSION_1 | 1 << 40] {
        let transport = transport();
        agree(&transport, features);
        assert_eq!(read(&transport, STATUS) & FEATURES_OK, 0, "{features:#x}");
    }
}

#[test]
fn queues_that_make_no_sense_are_refused() {
    let transport = transport();
    agree(&transport, VERSION_1);
    for (queue, base, size) in [
        (0, 0, 0),
        (0, 0, 3),
        (0, 0, 64),
        (0, 8, 8),
        (0, 0xF000, 8),
        (2, 0, 8),
    ] {
        set_up_queue(&transport, queue, base, size);
        assert_eq!(read(&transport, QUEUE_READY), 0, "{queue} {base:#x} {size}");
    }
    set_up_queue(&transport, 0, 0, 8);
    assert_eq!(read(&transport, QUEUE_READY), 1);
}

#[test]
fn a_broken_ring_stops_the_device_until_reset() {
    use vm_memory::Bytes;
    let transport = transport();
    agree(&transport, VERSION_1);
    set_up_queue(&transport, 0, 0, 8);
    write(&transport, STATUS, 15);
    // Nine chains in a queue of eight.
    transport
        .memory
        .write_obj(9_u16, GuestAddress(0x1002))
        .unwrap();
    assert!(!transport.serve(0));
    assert_eq!(read(&transport, STATUS), 15 | NEEDS_RESET);
    assert_eq!(read(&transport, 0x60), INTERRUPT_CONFIG);
    assert!(!transport.serve(0));
    assert_eq!(misuses(&transport), 1);
    write(&transport, STATUS, 0);
    assert_eq!(read(&transport, STATUS), 0);
}

#[test]
fn accesses_of_odd_widths_do_nothing() {
    let transport = transport();
    let mut data = [0xAA; 8];
    transport.read(0, &mut data);
    assert_eq!(data, [0; 8]);
    transport.write(STATUS, &[1]);
    transport.write(STATUS + 1, &[1, 0, 0, 0]);
    transport.write(CONFIG, &[1, 0, 0, 0]);
    assert_eq!(read(&transport, STATUS), 0);
    assert_eq!(misuses(&transport), 4);
}

#[test]
fn what_is_under_way_is_given_back_before_a_pause_and_nothing_taken() {
    use vm_memory::Bytes;
    let transport = transport();
    agree(&transport, VERSION_1);
    set_up_queue(&transport, 0, 0, 8);
    write(&transport, STATUS, 15);
    lock(&transport.state).device.slow = true;
    let memory = &transport.memory;
    let used = || memory.read_obj::<u16>(GuestAddress(0x2002)).unwrap();
    memory.write_obj(1_u16, GuestAddress(0x1002)).unwrap();
    transport.serve(0);
    memory.write_obj(2_u16, GuestAddress(0x1002)).unwrap();
    assert_eq!(used(), 0);
    transport.pause();
    assert_eq!(used(), 1);
    assert_eq!(transport.line.read().unwrap(), 1);
    let _ = transport.doorbells[0].read();
    transport.resume();
    assert_eq!(transport.doorbells[0].read().unwrap(), 1);
    // At the end what was left is taken as well.
    transport.halt();
    assert_eq!(used(), 2);
}

#[test]
fn the_configuration_has_a_generation_and_takes_what_the_device_takes() {
    let transport = transport();
    transport.reconfigure(|_| ());
    assert_eq!((read(&transport, 0xFC), read(&transport, 0x60)), (1, 0));
    agree(&transport, VERSION_1);
    write(&transport, STATUS, 15);
    transport.reconfigure(|_| ());
    assert_eq!(
        (read(&transport, 0xFC), read(&transport, 0x60)),
        (2, INTERRUPT_CONFIG)
    );
    transport.write(CONFIG + 4, &[7]);
    assert_eq!(misuses(&transport), 0);
    transport.write(CONFIG, &[8, 9]);
    assert_eq!(misuses(&transport), 1);
    let written = lock(&transport.state).device.written.clone();
    assert_eq!(written, [(4, vec![7]), (0, vec![8, 9])]);
}
