//! The description of a VM: what is let through is valid.

use crate::fuzz::Target;

pub(super) const TARGET: Target = Target {
    name: "spec",
    about: "the description of a VM, as a monitor reads it from its launcher",
    seeds: || {
        vec![
            br#"{"version":1,"id":"a","vcpus":1,"memory_mib":64,"boot":{"kernel":0}}"#.to_vec(),
            br#"{"version":1,"id":"web-1","vcpus":32,"memory_mib":4096,"boot":{"kernel":1,"args":"A=b -- c"},"console":{"output":{"log":{"file":0,"keep":1048576}},"input":2},"entropy":true,"deadline_ms":5000,"launched_at_ns":1}"#.to_vec(),
            br#"{"version":1,"id":"b","vcpus":2,"memory_mib":1,"boot":{"kernel":0},"console":{"output":{"stream":1}},"meter":2,"control":3,"kvm":4,"lease":5}"#.to_vec(),
        ]
    },
    words: &[
        b"\"version\":",
        b"\"id\":",
        b"\"vcpus\":",
        b"\"memory_mib\":",
        b"\"boot\":",
        b"\"kernel\":",
        b"\"args\":",
        b"\"console\":",
        b"\"output\":",
        b"\"log\":",
        b"\"stream\":",
        b"\"input\":",
        b"\"keep\":",
        b"\"meter\":",
        b"\"control\":",
        b"null",
        b"18446744073709551616",
        b"-1",
        b"1e9",
        b"{",
        b"}",
        b"[",
        b",",
        b"\\u0000",
    ],
    run: |input| {
        // Whether descriptors are named rightly shows only where there are some.
        let count = input.first().map_or(0, |byte| usize::from(*byte % 7));
        let descriptors = (0..count)
            .filter_map(|_| rustix::pipe::pipe().ok())
            .map(|(read, _)| read)
            .collect();
        if let Ok(vm) = vmm::spec::Vm::validate(input, descriptors) {
            let vcpus = vm.vcpus.get();
            assert!((1..=32).contains(&vcpus), "{vcpus} vCPUs were let through");
        }
    },
};
