//! From an address to the device that is there.
//!
//! A VM has two buses, ports and memory. Each is put together before its virtual CPUs run and never changes, so
//! a lookup takes no lock.

use std::ops::Range;
use std::sync::Arc;

use crate::device::Device;

/// A bus.
#[derive(Default)]
pub struct Bus {
    /// In the order of addresses, without overlaps.
    places: Vec<Place>,
}

struct Place {
    addresses: Range<u64>,
    /// The device's offset of the first address.
    offset: u64,
    device: Arc<dyn Device>,
}

/// A device wanted addresses that another has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("addresses {0:#x?} are taken")]
pub struct Taken(pub Range<u64>);

impl Bus {
    /// Gives a device the addresses from `start` on, its registers from `offset` on.
    ///
    /// # Errors
    /// [`Taken`].
    pub fn insert(
        &mut self,
        addresses: Range<u64>,
        offset: u64,
        device: Arc<dyn Device>,
    ) -> Result<(), Taken> {
        let at = self
            .places
            .partition_point(|p| p.addresses.end <= addresses.start);
        if self
            .places
            .get(at)
            .is_some_and(|p| p.addresses.start < addresses.end)
        {
            return Err(Taken(addresses));
        }
        self.places.insert(
            at,
            Place {
                addresses,
                offset,
                device,
            },
        );
        Ok(())
    }

    /// Reads from `address`; `false` where nothing is: then `data` is all ones, as on a bus that nobody drives.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        match self.find(address, data.len()) {
            Some((device, offset)) => {
                device.read(offset, data);
                true
            }
            None => {
                data.fill(0xFF);
                false
            }
        }
    }

    /// Writes to `address`; `false` where nothing is.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        match self.find(address, data.len()) {
            Some((device, offset)) => {
                device.write(offset, data);
                true
            }
            None => false,
        }
    }

    /// The device at `address`. An access that begins in a device is the device's, however long: a string
    /// instruction on a port gives all its elements at once.
    fn find(&self, address: u64, length: usize) -> Option<(&dyn Device, u64)> {
        let at = self.places.partition_point(|p| p.addresses.end <= address);
        let place = self.places.get(at)?;
        let inside = length > 0 && place.addresses.contains(&address);
        inside.then(|| {
            (
                &*place.device,
                address - place.addresses.start + place.offset,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Probe(AtomicU64);

    impl Device for Probe {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&self, offset: u64, data: &[u8]) {
            self.0
                .store(offset << 8 | u64::from(data[0]), Ordering::Relaxed);
        }
    }

    #[test]
    fn an_access_reaches_its_device_and_no_other() {
        let (a, b) = (Arc::new(Probe::default()), Arc::new(Probe::default()));
        let mut bus = Bus::default();
        bus.insert(0x64..0x65, 4, Arc::<Probe>::clone(&b)).unwrap();
        bus.insert(0x10..0x20, 0, Arc::<Probe>::clone(&a)).unwrap();
        bus.insert(0x60..0x61, 0, b.clone()).unwrap();
        assert_eq!(bus.insert(0x1F..0x30, 0, a.clone()), Err(Taken(0x1F..0x30)));

        let mut data = [0; 2];
        assert!(bus.read(0x13, &mut data) && data == [3, 3]);
        assert!(bus.read(0x64, &mut data) && data == [4, 4]);
        assert!(bus.write(0x60, &[7]));
        assert_eq!(
            (a.0.load(Ordering::Relaxed), b.0.load(Ordering::Relaxed)),
            (0, 7)
        );
        for hole in [0, 0xF, 0x20, 0x61, 0x65, u64::MAX] {
            assert!(!bus.read(hole, &mut data) && data == [0xFF, 0xFF]);
            assert!(!bus.write(hole, &[1]));
        }
    }
}
