//! The Linux guest's first file system: the agent, and what it cannot do without.
//!
//! An uncompressed cpio archive of the "newc" kind (Documentation/driver-api/early-userspace/buffer-format.rst): the kernel unpacks
//! it in ring 0, which is slow where that is emulated, so there is nothing in it that is not needed.

/// Directories that the agent mounts on.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "sys", "lower", "disk", "newroot"];
/// Devices that a process has open before it can mount `/dev`: name, mode, major, minor.
const DEVICES: [(&str, u32, u32); 2] = [("dev/console", 5, 1), ("dev/null", 1, 3)];

const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;

/// The archive, with `agent` as process 1.
pub(crate) fn pack(agent: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(agent.len() + 4096);
    for name in DIRECTORIES {
        entry(&mut archive, name, DIRECTORY, (0, 0), &[]);
    }
    for (name, major, minor) in DEVICES {
        entry(&mut archive, name, CHARACTER_DEVICE, (major, minor), &[]);
    }
    entry(&mut archive, "init", PROGRAM, (0, 0), agent);
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    archive.extend_from_slice(b"070701");
    // Number of the file, mode, owner, group, links, time, size, device of the file, device that it is, length of the name,
    // checksum. Owner, group and time are 0, so that the same agent gives the same archive.
    let fields = [
        0,
        mode as usize,
        0,
        0,
        1,
        0,
        content.len(),
        0,
        0,
        device.0 as usize,
        device.1 as usize,
        name.len() + 1,
        0,
    ];
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_what_the_kernel_looks_for() {
        let archive = pack(b"agent");
        assert_eq!(archive.len() % 4, 0);
        let (mut at, mut found) = (0, Vec::new());
        loop {
            let field = |number: usize| {
                let from = at + 6 + number * 8;
                let text = std::str::from_utf8(&archive[from..from + 8]).expect("digits");
                usize::from_str_radix(text, 16).expect("a number")
            };
            assert_eq!(&archive[at..at + 6], b"070701");
            let (mode, size, name) = (field(1), field(6), field(11));
            let start = at + 110;
            let content = (start + name).next_multiple_of(4);
            let name = std::str::from_utf8(&archive[start..start + name - 1]).expect("a name");
            if name == "TRAILER!!!" {
                assert_eq!(content, archive.len());
                break;
            }
            let device = (field(9), field(10));
            found.push((
                name,
                mode,
                device,
                archive[content..content + size].to_vec(),
            ));
            at = (content + size).next_multiple_of(4);
        }
        assert!(found.contains(&("init", 0o100_755, (0, 0), b"agent".to_vec())));
        assert!(found.contains(&("dev/console", 0o020_600, (5, 1), vec![])));
        // A directory comes before what is in it.
        assert_eq!(found[0].0, "dev");
    }
}
