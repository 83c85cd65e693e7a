//! Memory slots: what KVM is told of guest memory, and when.
//!
//! ```text
//!                 before the boot                 HEAD_START later, or when it is wanted
//!   low RAM up to AT_ONCE, or the image's end   |   what is left below and above the hole
//! ```
//!
//! Where KVM shadows page tables, a slot costs time in proportion to its size: milliseconds a GiB, in which the guest's own page
//! faults wait too. So a guest starts on the first part, and a thread adds the rest when the boot is over. A guest that is
//! faster meets RAM that KVM does not know yet. It can only be the guest's own first write that gives such RAM a meaning, and that
//! write, like any access, exits:
//!
//! - an access that KVM can emulate exits as MMIO: it waits for the rest, and is then carried out on the same memory;
//! - one that it cannot emulate is an emulation failure: it waits for the rest, and is tried again.
//!
//! Either way everything is in place from the first such access on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use super::end::End;
use super::memory::{Memory, MemoryError};
use crate::outcome::{Cause, Outcome};
use crate::sync::lock;
use crate::words::words;

/// Bytes of low RAM that a guest has from its first instruction on: a slot of this size costs a small part of a millisecond.
const AT_ONCE: u64 = 64 << 20;
/// Slots end at huge pages, so that KVM can still use those.
const ALIGNMENT: u64 = 2 << 20;
/// How long a guest boots undisturbed.
const HEAD_START: Duration = Duration::from_millis(20);
/// Bytes of the thread's stack: it makes system calls alone.
const STACK: usize = 64 << 10;

/// A guest's RAM as KVM is told of it; the thread that tells it is joined on drop.
#[derive(Debug)]
pub(crate) struct Slots {
    left: Vec<kvm_userspace_memory_region>,
    rest: Arc<Rest>,
    thread: Option<JoinHandle<()>>,
}

/// Whether KVM knows all of the RAM.
#[derive(Debug)]
pub(crate) struct Rest {
    known: AtomicBool,
    wish: Mutex<Wish>,
    changed: Condvar,
}

/// When the rest is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// After the head start.
    Later,
    /// A virtual CPU waits.
    Now,
    /// The VM is over.
    Never,
}

impl Slots {
    /// Tells KVM of the RAM that a guest starts on, at least up to `image_end`. To be called before the VM has an interrupt
    /// controller: each slot costs milliseconds of waiting afterwards.
    ///
    /// # Errors
    /// [`MemoryError::Slot`].
    pub(crate) fn attach(vm: &VmFd, memory: &Memory, image_end: u64) -> Result<Self, MemoryError> {
        let mut left: Vec<_> = regions(memory, image_end);
        let first = left.remove(0);
        set(vm, first)?;
        let known = left.is_empty();
        Ok(Self {
            left,
            rest: Arc::new(Rest {
                known: AtomicBool::new(known),
                wish: Mutex::new(Wish::Later),
                changed: Condvar::new(),
            }),
            thread: None,
        })
    }

    /// For virtual CPUs, to wait on.
    pub(crate) fn rest(&self) -> Arc<Rest> {
        Arc::clone(&self.rest)
    }

    /// The first slot number that is not RAM's.
    pub(crate) fn next(&self) -> u32 {
        1 + self.left.len() as u32
    }

    /// Starts to tell KVM of the rest; a refusal is the VM's end. To be called once everything else is made: whatever
    /// changes a VM's buses meanwhile waits for it.
    pub(crate) fn tell_rest(&mut self, vm: &Arc<VmFd>, end: &Arc<End>) {
        let left = std::mem::take(&mut self.left);
        if left.is_empty() {
            return;
        }
        let (vm, rest, its_end) = (Arc::clone(vm), self.rest(), Arc::clone(end));
        let work = move || {
            if rest.head_start() != Wish::Never
                && let Err(error) = left.into_iter().try_for_each(|slot| set(&vm, slot))
            {
                its_end.report(Outcome::new(Cause::Failed, words(&error)));
            }
            rest.tell();
        };
        let thread = std::thread::Builder::new()
            .name("slots".to_owned())
            .stack_size(STACK)
            .spawn(work);
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                let why = format!("no thread for memory slots: {error}");
                end.report(Outcome::new(Cause::Failed, why));
                self.rest.tell();
            }
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.rest.wish(Wish::Never);
            // It panics in tests only, which then see that.
            let _ = thread.join();
        }
    }
}

impl Rest {
    /// Whether KVM knows all of the RAM, or will never.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Waits until [`Self::is_known`]; some ten milliseconds at most.
    pub(crate) fn wait(&self) {
        self.wish(Wish::Now);
        let wish = lock(&self.wish);
        let known = self.changed.wait_while(wish, |_| !self.is_known());
        drop(known.unwrap_or_else(PoisonError::into_inner));
    }

    fn wish(&self, wish: Wish) {
        *lock(&self.wish) = wish;
        self.changed.notify_all();
    }

    /// Waits for the head start to be over or a wish, and gives the wish.
    fn head_start(&self) -> Wish {
        let later = |wish: &mut Wish| *wish == Wish::Later;
        let wish = lock(&self.wish);
        let woken = self.changed.wait_timeout_while(wish, HEAD_START, later);
        *woken.unwrap_or_else(PoisonError::into_inner).0
    }

    fn tell(&self) {
        let _wish = lock(&self.wish);
        self.known.store(true, Ordering::Release);
        self.changed.notify_all();
    }
}

/// RAM as slots, that which a guest starts on first.
fn regions(memory: &Memory, image_end: u64) -> Vec<kvm_userspace_memory_region> {
    let mut slots = vec![];
    let mut add = |start: u64, size: u64, host: u64| {
        slots.push(kvm_userspace_memory_region {
            slot: slots.len() as u32,
            flags: 0,
            guest_phys_addr: start,
            memory_size: size,
            userspace_addr: host,
        });
    };
    for region in memory.iter() {
        let (start, size) = (region.start_addr().raw_value(), region.len());
        let host = region
            .get_host_address(MemoryRegionAddress(0))
            .map_or(0, |at| at as u64);
        // The region at zero is the one that images are in.
        let first = match start {
            0 => image_end.max(AT_ONCE).next_multiple_of(ALIGNMENT).min(size),
            _ => size,
        };
        add(start, first, host);
        if first < size {
            add(start + first, size - first, host + first);
        }
    }
    slots
}

/// Makes or changes one slot.
pub(crate) fn set(vm: &VmFd, slot: kvm_userspace_memory_region) -> Result<(), MemoryError> {
    // SAFETY: the mapping behind the slot is kept by the machine, which drops the VM first.
    unsafe { vm.set_user_memory_region(slot) }.map_err(|source| MemoryError::Slot {
        slot: slot.slot,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::memory;
    use crate::spec::MemorySize;

    fn of(mib: u64, image_end: u64) -> Vec<(u64, u64)> {
        let memory = memory::create(MemorySize::from_mib(mib).unwrap()).unwrap();
        let slots = regions(&memory, image_end);
        assert!((0..).zip(&slots).all(|(number, slot)| slot.slot == number));
        slots
            .iter()
            .map(|slot| (slot.guest_phys_addr >> 20, slot.memory_size >> 20))
            .collect()
    }

    #[test]
    fn a_small_guest_has_all_its_memory_at_once() {
        assert_eq!(of(64, 2 << 20), [(0, 64)]);
    }

    #[test]
    fn a_large_one_starts_on_the_first_part() {
        assert_eq!(of(1024, 2 << 20), [(0, 64), (64, 960)]);
        assert_eq!(of(4096, 2 << 20), [(0, 64), (64, 3008), (4096, 1024)]);
    }

    #[test]
    fn an_image_is_never_in_the_rest() {
        assert_eq!(of(1024, (300 << 20) + 1), [(0, 302), (302, 722)]);
        assert_eq!(of(302, (301 << 20) + 1), [(0, 302)]);
    }
}
