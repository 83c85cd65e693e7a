//! What `vmm --probe` prints, and what it means.

use serde::Deserialize;
use serde_json::Value;

use super::verdict::{Finding, Level};

/// The part of the probe that people hear of; the probe says more. `vmm::host::Host` is what prints it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Probe {
    irqchip: bool,
    irqfd: bool,
    ioeventfd: bool,
    immediate_exit: bool,
    readonly_memory: bool,
    max_vcpus: u32,
    ring0_emulated: bool,
}

impl Probe {
    /// Reads what the monitor printed.
    pub(crate) fn read(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    /// What it means.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        vec![self.offers(), self.ring0()]
    }

    fn offers(&self) -> Finding {
        let needs = [
            (self.irqchip, "an interrupt controller in the kernel"),
            (self.irqfd, "interrupts by descriptor (irqfd)"),
            (self.ioeventfd, "doorbells by descriptor (ioeventfd)"),
            (
                self.immediate_exit,
                "a way out of a guest without a race (immediate exit)",
            ),
            (self.readonly_memory, "memory that a guest can only read"),
        ];
        let missing: Vec<&str> = needs.iter().filter(|n| !n.0).map(|n| n.1).collect();
        if missing.is_empty() {
            return Finding {
                about: "kvm offers",
                level: Level::Good,
                text: format!(
                    "all that a monitor needs; up to {} vCPUs a VM",
                    self.max_vcpus
                ),
                mend: None,
            };
        }
        Finding {
            about: "kvm offers",
            level: Level::Problem,
            text: format!(
                "this kernel's KVM is too old: it lacks {}",
                missing.join(", ")
            ),
            mend: Some("run a kernel of this decade: Linux 5.10 or later".to_owned()),
        }
    }

    fn ring0(&self) -> Finding {
        let about = "ring 0";
        if !self.ring0_emulated {
            return Finding {
                about,
                level: Level::Good,
                text: "runs at the processor's own speed".to_owned(),
                mend: None,
            };
        }
        Finding {
            about,
            level: Level::Note,
            text: "is emulated: a guest's kernel code takes about a thousand times as long here. Library-OS guests run \
                   at full speed, because they do nearly everything in ring 3; Linux guests boot slowly"
                .to_owned(),
            mend: Some(
                "nothing for library-OS guests; for Linux guests, use a host with VT-x or AMD-V".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a good host's monitor prints.
    pub(in crate::doctor) fn good() -> Value {
        serde_json::json!({
            "api_version": 12, "irqchip": true, "split_irqchip": true, "irqfd": true, "ioeventfd": true,
            "immediate_exit": true, "readonly_memory": true, "max_vcpus": 1024, "memory_slots": 32764,
            "x2apic": true, "tsc_deadline": true, "ring0_emulated": false,
        })
    }

    fn findings(change: &str, value: bool) -> Vec<Finding> {
        let mut probe = good();
        probe[change] = value.into();
        Probe::read(&probe).unwrap().findings()
    }

    #[test]
    fn a_kvm_that_lacks_something_is_too_old() {
        for (field, words) in [
            ("irqchip", "interrupt controller"),
            ("irqfd", "irqfd"),
            ("ioeventfd", "ioeventfd"),
            ("immediate_exit", "immediate exit"),
            ("readonly_memory", "only read"),
        ] {
            let offers = &findings(field, false)[0];
            assert_eq!(offers.level, Level::Problem, "{field}");
            assert!(offers.text.contains(words), "{offers:?}");
        }
    }

    #[test]
    fn an_emulated_ring_0_is_explained_and_no_problem() {
        let ring0 = &findings("ring0_emulated", true)[1];
        assert_eq!(ring0.level, Level::Note);
        assert!(ring0.text.contains("full speed"), "{ring0:?}");
    }
}
