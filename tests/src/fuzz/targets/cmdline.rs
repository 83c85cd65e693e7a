//! The command line: any line is read to its end, and what is quoted comes back.

use crate::fuzz::Target;

pub(super) const TARGET: Target = Target {
    name: "cmdline",
    about: "the guest's command line, as the library OS reads it",
    seeds: || {
        vec![
            b"libos.timing=1 HOME=/ virtio_mmio.device=4K@0xd0000000:5 -- serve \"two words\""
                .to_vec(),
            b"\"a \\\" b\" virtio_mmio.device=0x200@0xfeb00e00:12:3".to_vec(),
        ]
    },
    words: &[
        b"virtio_mmio.device=",
        b"--",
        b"\"",
        b"\\",
        b"@0x",
        b"G",
        b":",
    ],
    run: |input| {
        let line = String::from_utf8_lossy(input);
        for word in abi::cmdline::words(&line) {
            let _ = abi::cmdline::Device::parse(word.raw());
            let text: String = word.chars().collect();
            // What is quoted comes back as it was.
            let quoted = abi::cmdline::Quoted(&text).to_string();
            let mut back = abi::cmdline::words(&quoted);
            let first: String = back.next().map(|w| w.chars().collect()).unwrap_or_default();
            assert_eq!(first, text);
            assert!(back.next().is_none());
        }
    },
};
