//! Guest memory: a memfd, shared, in one or two regions around the hole below 4 GiB; and the boot module, a
//! read-only slot on the image's own file.
//!
//! Nothing here is in proportion to the memory's size: pages come when they are first touched.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use abi::layout;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use super::slots;
use crate::spec::MemorySize;

/// A guest's memory; cheap to clone, all clones are the same memory.
pub type Memory = GuestMemoryMmap<()>;

/// Guest memory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No memfd of this size.
    #[error("{mib} MiB of guest memory cannot be had")]
    Memfd {
        /// The size.
        mib: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be mapped.
    #[error("guest memory cannot be mapped")]
    Map(#[source] vm_memory::mmap::FromRangesError),
    /// The image's file could not be mapped.
    #[error("the boot module cannot be mapped")]
    Module(#[source] io::Error),
    /// KVM refused a slot.
    #[error("KVM refused memory slot {slot}")]
    Slot {
        /// Its number.
        slot: u32,
        /// Why.
        #[source]
        source: kvm_ioctls::Error,
    },
}

/// Makes a guest's memory.
///
/// # Errors
/// [`MemoryError::Memfd`], [`MemoryError::Map`].
pub fn create(size: MemorySize) -> Result<Memory, MemoryError> {
    let refused = |source: rustix::io::Errno| MemoryError::Memfd {
        mib: size.mib(),
        source: source.into(),
    };
    let fd = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).map_err(refused)?;
    rustix::fs::ftruncate(&fd, size.bytes()).map_err(refused)?;
    let file = Arc::new(File::from(fd));
    let low = size.bytes().min(layout::LOW_RAM_END);
    let high = size.bytes() - low;
    let part = |start, bytes: u64, offset| {
        let place = Some(FileOffset::from_arc(Arc::clone(&file), offset));
        (GuestAddress(start), bytes as usize, place)
    };
    let mut parts = vec![part(0, low, 0)];
    if high > 0 {
        parts.push(part(layout::HIGH_RAM_START, high, low));
    }
    Memory::from_ranges_with_files(parts).map_err(MemoryError::Map)
}

/// A read-only mapping of an image's file, which the guest sees at [`layout::MODULE_START`].
#[derive(Debug)]
pub(crate) struct BootModule {
    at: *mut std::ffi::c_void,
    mapped: usize,
}

// SAFETY: the mapping is owned by this value alone, and the monitor itself never reads it.
unsafe impl Send for BootModule {}

impl BootModule {
    /// Maps the file's `size` bytes into the guest, as slot number `slot`; `None` where they are too many or none.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub(crate) fn attach(
        vm: &VmFd,
        slot: u32,
        file: &File,
        size: u64,
    ) -> Result<Option<Self>, MemoryError> {
        if size == 0 || size > layout::MODULE_MAX {
            return Ok(None);
        }
        let mapped = (size as usize).next_multiple_of(rustix::param::page_size());
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                file.as_fd(),
                0,
            )
        }
        .map_err(|e| MemoryError::Module(e.into()))?;
        let module = Self { at, mapped };
        slots::set(
            vm,
            kvm_userspace_memory_region {
                slot,
                flags: KVM_MEM_READONLY,
                guest_phys_addr: layout::MODULE_START,
                memory_size: mapped as u64,
                userspace_addr: at as u64,
            },
        )?;
        Ok(Some(module))
    }
}

impl Drop for BootModule {
    fn drop(&mut self) {
        // SAFETY: mapped by `attach`, of this length; nobody else has the address once the VM is gone.
        let _ = unsafe { rustix::mm::munmap(self.at, self.mapped) };
    }
}
