//! Which processor the guest sees: the host's, as far as KVM supports it, with a topology of its own.
//!
//! One package of one-thread cores, numbered by their APIC ids. What a guest must not use is hidden: performance counters, and
//! those of KVM's paravirtual features that are hypercalls (a host that emulates ring 0 retries `vmcall` for ever).
//!
//! Sources: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; Linux `Documentation/virt/kvm/x86/cpuid.rst`.

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::Kvm;

const LEAF_FEATURES: u32 = 1;
const LEAF_CACHES: u32 = 4;
const LEAF_PERFORMANCE: u32 = 0xA;
const LEAF_TOPOLOGY: u32 = 0xB;
const LEAF_TOPOLOGY_V2: u32 = 0x1F;
const LEAF_KVM_FEATURES: u32 = 0x4000_0001;
const LEAF_AMD_SIZES: u32 = 0x8000_0008;
const LEAF_AMD_CACHES: u32 = 0x8000_001D;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001E;

const ECX_X2APIC: u32 = 1 << 21;
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_HTT: u32 = 1 << 28;

/// PV_UNHALT, PV_TLB_FLUSH, PV_SEND_IPI, PV_SCHED_YIELD.
const KVM_HYPERCALLS: u32 = 1 << 7 | 1 << 9 | 1 << 11 | 1 << 13;

/// What all virtual CPUs of a VM have in common.
#[derive(Clone, Debug)]
pub struct Template {
    entries: CpuId,
    vcpus: u8,
}

impl Template {
    /// What this host supports, for a VM of `vcpus` processors.
    ///
    /// # Errors
    /// Those of `KVM_GET_SUPPORTED_CPUID`.
    pub fn new(kvm: &Kvm, vcpus: u8) -> Result<Self, kvm_ioctls::Error> {
        let entries = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        Ok(Self::from_supported(entries.as_slice(), vcpus))
    }

    fn from_supported(supported: &[kvm_cpuid_entry2], vcpus: u8) -> Self {
        let mut entries: Vec<_> = supported
            .iter()
            .filter(|e| !matches!(e.function, LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2))
            .copied()
            .collect();
        for entry in &mut entries {
            common(entry, vcpus);
        }
        if supported
            .iter()
            .any(|e| e.function == 0 && e.eax >= LEAF_TOPOLOGY)
        {
            entries.extend(topology(vcpus));
        }
        entries.truncate(KVM_MAX_CPUID_ENTRIES);
        Self {
            // The length was cut to what the type holds, the only error there is.
            entries: CpuId::from_entries(&entries).unwrap_or_else(|_| unreachable!()),
            vcpus,
        }
    }

    /// What processor `id` sees.
    #[must_use]
    pub fn of_vcpu(&self, id: u8) -> CpuId {
        let mut entries = self.entries.clone();
        for entry in entries.as_mut_slice() {
            match entry.function {
                LEAF_FEATURES => {
                    let flush_size = entry.ebx & 0xFF00;
                    entry.ebx = u32::from(id) << 24
                        | u32::from(self.vcpus) << 16
                        | flush_size
                        | entry.ebx & 0xFF;
                }
                LEAF_TOPOLOGY => entry.edx = u32::from(id),
                LEAF_AMD_TOPOLOGY => {
                    entry.eax = u32::from(id);
                    entry.ebx = u32::from(id);
                }
                _ => {}
            }
        }
        entries
    }
}

/// Bits that number `vcpus` processors.
fn id_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

fn common(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    let count = u32::from(vcpus);
    match entry.function {
        LEAF_FEATURES => {
            entry.ecx |= ECX_X2APIC | ECX_TSC_DEADLINE | ECX_HYPERVISOR;
            entry.edx = entry.edx & !EDX_HTT | if vcpus > 1 { EDX_HTT } else { 0 };
        }
        // A subleaf is a cache, the first of type zero the end. The third level is everybody's, the others are a core's own.
        LEAF_CACHES if entry.eax & 0x1F != 0 => {
            let ids = (1 << id_bits(vcpus)) - 1;
            let shared = if (entry.eax >> 5) & 7 >= 3 { ids } else { 0 };
            entry.eax = entry.eax & 0x3FFF | shared << 14 | ids << 26;
        }
        LEAF_AMD_CACHES if entry.eax & 0x1F != 0 => {
            let shared = if (entry.eax >> 5) & 7 >= 3 {
                count - 1
            } else {
                0
            };
            entry.eax = entry.eax & 0x3FFF | shared << 14;
        }
        LEAF_PERFORMANCE => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        LEAF_KVM_FEATURES => entry.eax &= !KVM_HYPERCALLS,
        LEAF_AMD_SIZES => entry.ecx = id_bits(vcpus) << 12 | (count - 1),
        LEAF_AMD_TOPOLOGY => entry.ecx = 0,
        _ => {}
    }
}

/// Leaf 0xB: a level of threads with one in each core, a level of cores, the end.
fn topology(vcpus: u8) -> [kvm_cpuid_entry2; 3] {
    let level = |index: u32, shift, count, kind: u32| kvm_cpuid_entry2 {
        function: LEAF_TOPOLOGY,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        ..kvm_cpuid_entry2::default()
    };
    [
        level(0, 0, 1, 1),
        level(1, id_bits(vcpus), u32::from(vcpus), 2),
        level(2, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            eax,
            ..kvm_cpuid_entry2::default()
        }
    }

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let found = |e: &&kvm_cpuid_entry2| e.function == function && e.index == index;
        *cpuid.as_slice().iter().find(found).unwrap()
    }

    #[test]
    fn each_processor_has_its_own_id_and_all_share_one_topology() {
        let supported = [
            entry(0, 0, 0x16),
            entry(1, 0, 0),
            entry(4, 0, 0x0400_4121),
            entry(4, 3, 0x1C00_4163),
            entry(0xB, 0, 7),
            entry(0x1F, 0, 7),
        ];
        let template = Template::from_supported(&supported, 6);
        let cpuid = template.of_vcpu(5);
        assert_eq!(leaf(&cpuid, 1, 0).ebx >> 16, 0x0506);
        assert_eq!(
            leaf(&cpuid, 1, 0).ecx,
            ECX_X2APIC | ECX_TSC_DEADLINE | ECX_HYPERVISOR
        );
        assert_eq!(leaf(&cpuid, 4, 0).eax >> 14, 7 << 12);
        assert_eq!(leaf(&cpuid, 4, 3).eax >> 14, 7 << 12 | 7);
        let cores = leaf(&cpuid, 0xB, 1);
        assert_eq!(
            (cores.eax, cores.ebx, cores.ecx, cores.edx),
            (3, 6, 0x201, 5)
        );
        assert!(!cpuid.as_slice().iter().any(|e| e.function == 0x1F));
    }

    #[test]
    fn features_that_are_hypercalls_are_hidden() {
        let supported = [entry(0, 0, 1), entry(LEAF_KVM_FEATURES, 0, u32::MAX)];
        let cpuid = Template::from_supported(&supported, 1).of_vcpu(0);
        let features = leaf(&cpuid, LEAF_KVM_FEATURES, 0).eax;
        assert_eq!(features & KVM_HYPERCALLS, 0);
        assert_eq!(features | KVM_HYPERCALLS, u32::MAX);
    }
}
