//! How many of a virtual CPU's instructions KVM has carried out itself: its own count.
//!
//! On hardware a few, for devices; where ring 0 is emulated all of a kernel's. It tells what a guest's kernel costs there whatever
//! else the host does, which no clock does.
//!
//! Source: Linux, `Documentation/virt/kvm/api.rst`, 4.133 (`KVM_GET_STATS_FD`).

use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(KVM_GET_STATS_FD, kvm_bindings::KVMIO, 0xCE);

/// The statistic's name, as KVM writes it.
const NAME: &[u8] = b"insn_emulation\0";
/// Bytes of the file's head, and of a statistic's before its name.
const HEAD: usize = 24;
const DESCRIPTION: usize = 16;
/// KVM has some fifty.
const MOST: u32 = 1000;

/// The count of one virtual CPU.
#[derive(Debug)]
pub(super) struct Emulated {
    file: File,
    at: u64,
}

impl Emulated {
    /// That of `vcpu`; none where KVM does not count.
    pub(super) fn of(vcpu: &VcpuFd) -> Option<Self> {
        // SAFETY: this call takes no argument.
        let fd = unsafe { ioctl(vcpu, KVM_GET_STATS_FD()) };
        // SAFETY: the kernel made the descriptor for us just now.
        let file = (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })?;
        let at = find(&file)?;
        Some(Self { file, at })
    }

    /// How many so far.
    pub(super) fn count(&self) -> u64 {
        let mut count = [0; 8];
        match self.file.read_exact_at(&mut count, self.at) {
            Ok(()) => u64::from_le_bytes(count),
            Err(_) => 0,
        }
    }
}

/// Where in a file of statistics this one is.
fn find(file: &File) -> Option<u64> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0).ok()?;
    let (name, count) = (word(&head, 4)?, word(&head, 8)?);
    let (descriptions, values) = (word(&head, 16)?, word(&head, 20)?);
    let size = DESCRIPTION + usize::try_from(name).ok()?;
    if size > 4096 || count > MOST {
        return None;
    }
    // All at once: each is some sixty bytes.
    let mut all = vec![0; size * count as usize];
    file.read_exact_at(&mut all, u64::from(descriptions)).ok()?;
    let ours = all
        .chunks_exact(size)
        .find(|description| description[DESCRIPTION..].starts_with(NAME))?;
    Some(u64::from(values) + u64::from(word(ours, 8)?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_statistic_is_found_by_its_name() {
        let mut file = tempfile::tempfile().unwrap();
        let words = |words: &[u32]| {
            words
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let description =
            |offset: u32, name: &[u8; 16]| [words(&[0, 0, offset, 0]), name.to_vec()].concat();
        // Flags, bytes of a name, statistics, id, descriptions, values.
        file.write_all(&words(&[0, 16, 2, 0, 24, 88])).unwrap();
        let other = description(0, b"insn_emulation_f");
        let ours = description(8, b"insn_emulation\0\0");
        file.write_all(&[other, ours].concat()).unwrap();
        file.write_all(&[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])
            .unwrap();
        let at = find(&file).unwrap();
        assert_eq!(at, 96);
        assert_eq!(Emulated { file, at }.count(), 9);
    }

    #[test]
    fn another_file_has_none() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(find(&file), None);
        file.write_all(&[0xFF; 512]).unwrap();
        assert_eq!(find(&file), None);
    }
}
