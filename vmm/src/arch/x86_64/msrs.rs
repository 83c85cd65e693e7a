//! Model-specific registers that a firmware would have set before a kernel sees them.
//!
//! The time-stamp counters are left alone: KVM keeps those of one VM together from their creation.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

const MISC_ENABLE: u32 = 0x1A0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MTRR_DEFAULT_TYPE: u32 = 0x2FF;
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_WRITE_BACK: u64 = 6;

/// Sets them. A host whose KVM does not know one goes without: none is vital.
///
/// # Errors
/// Those of `KVM_SET_MSRS`.
pub fn set(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    };
    let entries = [
        entry(MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MTRR_DEFAULT_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK),
    ];
    // Two entries fit: the only error there is.
    let msrs = Msrs::from_entries(&entries).unwrap_or_else(|_| unreachable!());
    vcpu.set_msrs(&msrs).map(drop)
}
