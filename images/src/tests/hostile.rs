//! Layers that mean harm.

use std::io::{self, Read};

use tar::EntryType;

use super::layers::{Layer, flatten, flatten_within, mounted};
use crate::rootfs::{FileSpool, Flattener, LayerError, Limits, TarError};

fn refused(layers: &[Vec<u8>]) -> LayerError {
    flatten(layers).expect_err("it was let through")
}

#[test]
fn no_path_leaves_the_root() {
    for path in [
        "../x",
        "a/../../x",
        "..",
        "a/..",
        "/../x",
        ".wh/../x",
        "../.wh.x",
    ] {
        let error = refused(&[Layer::new().file(path, b"x").bytes()]);
        assert!(matches!(error, LayerError::Path(_)), "{path}: {error}");
    }
    for target in ["../etc/passwd", "../../etc/shadow", "a/../../b"] {
        let error = refused(&[Layer::new().hard_link("x", target).bytes()]);
        assert!(matches!(error, LayerError::Path(_)), "{target}: {error}");
    }
    // An absolute one is the root's; that of the host is not looked at.
    for target in ["/etc/hostname", "/proc/self/exe", "nothing", "/"] {
        let error = refused(&[Layer::new().hard_link("x", target).bytes()]);
        assert!(
            matches!(error, LayerError::HardLink { .. }),
            "{target}: {error}"
        );
    }
}

#[test]
fn what_is_written_through_a_link_stays_in_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().to_str().unwrap();
    let layers = [
        Layer::new()
            .symlink("abs", outside)
            .symlink("up", "../../../../../../../..")
            .symlink("chain", "up")
            .file("abs/written", b"1")
            .file("up/at-root", b"1")
            .file("chain/too", b"1")
            .hard_link("abs/linked", "abs/written")
            .bytes(),
        Layer::new()
            .file("abs/.wh.written", b"")
            .file("/absolute", b"1")
            .bytes(),
    ];
    assert!(flatten(&layers).is_ok());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let Some(found) = mounted(&layers) else {
        return;
    };
    for path in [
        "at-root",
        "too",
        "absolute",
        &format!("{}/linked", &outside[1..]),
    ] {
        assert!(found.contains_key(path), "{path}");
    }
    assert!(!found.contains_key(&format!("{}/written", &outside[1..])));
}

#[test]
fn links_without_end_are_refused() {
    let error = refused(&[Layer::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"")
        .bytes()]);
    assert!(matches!(error, LayerError::Loop(_)), "{error}");
    let error = refused(&[Layer::new().symlink("a", "a/a").file("a/x", b"").bytes()]);
    assert!(matches!(error, LayerError::Loop(_)), "{error}");
    let error = refused(&[Layer::new().file("a", b"").file("a/x", b"").bytes()]);
    assert!(matches!(error, LayerError::NoDirectory(_)), "{error}");
    // Each is short, and all of them together are not.
    let step = format!("{}a", "./d/../".repeat(580));
    let mut layer = Layer::new()
        .directory("d", 0o755)
        .directory("a", 0o755)
        .symlink("l", &step);
    for i in 0..2000 {
        layer = layer.file(&format!("l/{i}"), b"");
    }
    let limits = Limits {
        entries: 10_000,
        ..Limits::DEFAULT
    };
    let error = flatten_within(limits, &[layer.bytes()]).unwrap_err();
    assert!(matches!(error, LayerError::Tangle), "{error}");
}

#[test]
fn devices_names_and_depths_have_bounds() {
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let error = refused(&[Layer::new()
            .device("d", EntryType::Block, major, minor)
            .bytes()]);
        assert!(matches!(error, LayerError::Device { .. }), "{error}");
    }
    for path in [&"n".repeat(256), &"d/".repeat(3000), "a\0b"] {
        let error = refused(&[Layer::new()
            .pax(&[("path", path.as_bytes())])
            .file("x", b"")
            .bytes()]);
        let told = matches!(
            error,
            LayerError::Path(_) | LayerError::Tar(TarError::LongPath)
        );
        assert!(told, "{error}");
    }
    let deep = "d/".repeat(600);
    let error = refused(&[Layer::new().directory(&deep, 0o755).bytes()]);
    assert!(matches!(error, LayerError::Deep(512)), "{error}");
    let target = "t".repeat(4096);
    let error = refused(&[Layer::new().symlink("l", &target).bytes()]);
    assert!(matches!(error, LayerError::Symlink(_)), "{error}");
    let long = "x".repeat(70 << 10);
    let error = refused(&[Layer::new()
        .pax(&[("SCHILY.xattr.user.a", long.as_bytes())])
        .file("x", b"")
        .bytes()]);
    assert!(
        matches!(error, LayerError::Tar(TarError::Xattrs)),
        "{error}"
    );
}

#[test]
fn a_million_entries_and_a_bomb_of_devices_are_refused() {
    /// A tar stream of as many entries as anybody reads.
    struct Endless {
        header: Vec<u8>,
        at: usize,
    }
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let left = &self.header[self.at..];
            let read = left.len().min(buffer.len());
            buffer[..read].copy_from_slice(&left[..read]);
            self.at = (self.at + read) % self.header.len();
            Ok(read)
        }
    }
    // The same name again and again counts as well.
    let device = Layer::new().device("again", EntryType::Block, 8, 0);
    let header = device.bytes()[..512].to_vec();
    let mut flat = Flattener::new(
        FileSpool::new(tempfile::tempfile().unwrap()),
        Limits::DEFAULT,
    );
    let error = flat.layer(Endless { header, at: 0 }).unwrap_err();
    assert!(matches!(error, LayerError::Entries(1_000_000)), "{error}");
}

#[test]
fn sizes_have_bounds_before_anything_is_written() {
    let limits = Limits {
        bytes: 10_000,
        ..Limits::DEFAULT
    };
    let layer = |size: usize| Layer::new().file("a", &vec![1; size]).bytes();
    assert!(flatten_within(limits, &[layer(5000), layer(5000)]).is_ok());
    let error = flatten_within(limits, &[layer(5000), layer(5001)])
        .err()
        .unwrap();
    assert!(matches!(error, LayerError::Bytes(10_000)), "{error}");
    // One that says more than it has.
    let mut lie = layer(100);
    let mut header = tar::Header::from_byte_slice(&lie[..512]).clone();
    header.set_size(1 << 62);
    header.set_cksum();
    lie[..512].copy_from_slice(header.as_bytes());
    assert!(matches!(
        refused(&[lie]),
        LayerError::Tar(TarError::Size(_))
    ));
}

#[test]
fn a_layer_cut_anywhere_is_refused_or_a_smaller_one() {
    let whole = Layer::new()
        .pax(&[("SCHILY.xattr.user.a", b"b")])
        .file("a", &[1; 1000])
        .symlink("b", "a")
        .bytes();
    for length in 0..whole.len() {
        let result = flatten(&[whole[..length].to_vec()]);
        // Before its end mark it may end between entries, which nobody can tell; behind the mark nothing counts.
        let mark = whole.len() - 1024;
        let fine = length == 0 || length == mark - 512 || length == mark || length >= mark + 512;
        assert_eq!(result.is_ok(), fine, "{length} of {}", whole.len());
    }
    let mut damaged = whole.clone();
    for at in (0..512).step_by(7) {
        damaged[at] ^= 0x40;
        assert!(matches!(refused(&[damaged.clone()]), LayerError::Tar(_)));
        damaged[at] ^= 0x40;
    }
}
