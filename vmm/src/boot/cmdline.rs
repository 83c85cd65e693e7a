//! The command line, with the monitor's devices in it.

use std::fmt::Write;

use abi::cmdline::{ARGUMENTS, Device, words};

/// `line` with a word for each device: before the `--` that ends the operating system's words, or at the end.
#[must_use]
pub fn with_devices(line: &str, devices: &[Device]) -> String {
    // A word is a part of the line: where it begins is its address less the line's.
    let separator = words(line)
        .find(|word| word.raw() == ARGUMENTS)
        .map(|word| word.raw().as_ptr() as usize - line.as_ptr() as usize);
    let (system, arguments) = line.split_at(separator.unwrap_or(line.len()));
    let mut whole = system.trim_end().to_owned();
    for device in devices {
        let gap = if whole.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(whole, "{gap}{device}");
    }
    if !arguments.is_empty() {
        let gap = if whole.is_empty() { "" } else { " " };
        whole = format!("{whole}{gap}{arguments}");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Device = Device {
        base: 0xD000_0000,
        size: 4096,
        gsi: 5,
    };
    const WORD: &str = "virtio_mmio.device=4096@0xd0000000:5";

    #[test]
    fn devices_stand_before_the_arguments() {
        let cases = [
            ("", WORD.to_owned()),
            ("quiet", format!("quiet {WORD}")),
            ("quiet -- serve", format!("quiet {WORD} -- serve")),
            ("-- serve --", format!("{WORD} -- serve --")),
            ("A=\"-- x\" b", format!("A=\"-- x\" b {WORD}")),
        ];
        for (line, whole) in cases {
            assert_eq!(with_devices(line, &[DEVICE]), whole);
        }
    }

    #[test]
    fn without_devices_nothing_changes() {
        assert_eq!(with_devices("a -- b", &[]), "a -- b");
    }
}
