//! What layers make of a root, as the kernel sees it.

use tar::EntryType;

use super::layers::{Layer, flatten, mounted, write};

const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn every_kind_of_entry_arrives() {
    let long = "n".repeat(255);
    let deep = format!("{}/{long}", ["d".repeat(100).as_str(); 9].join("/"));
    let many: Vec<String> = (0..2000).map(|i| format!("many/file-{i:04}")).collect();
    let mut layer = Layer::new()
        .directory("./", 0o755)
        .directory("etc/", 0o750)
        .file("etc/empty", b"")
        .file("etc/small", b"small")
        .file("etc/whole", &[1; 4096])
        .file("etc/large", &[2; 100_001])
        .owned("etc/setuid", 0o4755, 70_000, 1)
        .blank("etc/blank")
        .symlink("etc/link", "../etc/small")
        .symlink("etc/long-link", &"t/".repeat(2000))
        .hard_link("etc/small-too", "etc/small")
        .hard_link("etc/link-too", "/etc/link")
        .device("dev/null", EntryType::Char, 1, 3)
        .device("dev/big", EntryType::Block, 4095, 1_048_575)
        .device("run/fifo", EntryType::Fifo, 0, 0)
        .pax(&[
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("SCHILY.xattr.user.a", b"line\nline"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.com.example.other", b"x"),
            ("mtime", b"12.5"),
            ("uid", b"4000000000"),
        ])
        .file("bin/capable", &[3; 2000])
        .file(&deep, b"deep")
        .file("!first", b"sorted before the dots");
    for name in &many {
        layer = layer.file(name, name.as_bytes());
    }
    let layers = [layer.bytes()];
    let Some(found) = mounted(&layers) else {
        return;
    };
    let line = |path: &str| {
        found
            .get(path)
            .unwrap_or_else(|| panic!("{path} is not there"))
    };
    let starts = |path: &str, line_start: &str| {
        assert!(line(path).starts_with(line_start), "{path}: {}", line(path));
    };
    let hash = |bytes: &[u8]| crate::Digest::of(bytes).short();
    starts("etc", "directory 750 0:0 at 1700000000.000000000 x2 {}");
    starts("dev", "directory 755 0:0 at 0.000000000 x2 {}");
    starts("", "directory 755 0:0 at 1700000000.000000000 x8 {}");
    starts("etc/empty", "file 0 ");
    starts("etc/whole", &format!("file 4096 {} 644", hash(&[1; 4096])));
    starts(
        "etc/large",
        &format!("file 100001 {} 644", hash(&[2; 100_001])),
    );
    starts("etc/setuid", "file 0 af1349b9f5f9 4755 70000:70001 at 1.0");
    starts("etc/blank", "file 0 af1349b9f5f9 0 0:0 at 0.0");
    starts(
        "etc/small",
        &format!(
            "file 5 {} 644 0:0 at 1700000000.000000000 x2",
            hash(b"small")
        ),
    );
    assert_eq!(line("etc/small"), line("etc/small-too"));
    starts("etc/link", "link \"../etc/small\" 644");
    assert_eq!(line("etc/link"), line("etc/link-too"));
    assert!(line("etc/long-link").len() > 4000);
    starts("dev/null", "char 0x103 ");
    let big = rustix::fs::makedev(4095, 1_048_575);
    starts("dev/big", &format!("block {big:#x} "));
    starts("run/fifo", "fifo 0x0 ");
    let capable = line("bin/capable");
    assert!(
        capable.contains("4000000000:0 at 12.500000000"),
        "{capable}"
    );
    assert!(
        capable.contains(&format!("\"security.capability\": {CAPABILITY:?}")),
        "{capable}"
    );
    assert!(
        capable.contains(&format!("\"user.a\": {:?}", b"line\nline")),
        "{capable}"
    );
    assert!(
        !capable.contains("overlay") && !capable.contains("example"),
        "{capable}"
    );
    starts(&deep, "file 4 ");
    starts("!first", "file 22 ");
    for name in &many {
        starts(
            name,
            &format!("file {} {}", name.len(), hash(name.as_bytes())),
        );
    }
    assert_eq!(
        found
            .keys()
            .filter(|path| path.starts_with("many/"))
            .count(),
        2000
    );
}

#[test]
fn the_same_layers_make_the_same_bytes() {
    let layers = || {
        [
            Layer::new().file("a", &[7; 9000]).symlink("b", "a").bytes(),
            Layer::new().file("c/d", b"x").hard_link("e", "a").bytes(),
        ]
    };
    let bytes = || std::fs::read(write(&flatten(&layers()).unwrap()).path()).unwrap();
    assert_eq!(bytes(), bytes());
}

#[test]
fn upper_layers_hide_and_replace_lower_ones() {
    let lower = Layer::new()
        .file("gone", b"1")
        .file("kept", b"1")
        .file("dir/gone", b"1")
        .file("dir/kept", b"1")
        .file("opaque/gone", b"1")
        .file("opaque/deep/gone", b"1")
        .file("mixed/lower", b"1")
        .file("was-dir/x", b"1")
        .file("was-file", b"1")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .file("usr/lib/old", b"1")
        .file("twin", b"1")
        .hard_link("other-twin", "twin");
    let upper = Layer::new()
        .file(".wh.gone", b"")
        .file("dir/.wh.gone", b"")
        .file("opaque/new", b"22")
        .file("opaque/.wh..wh..opq", b"")
        .file("mixed/upper", b"22")
        .file(".wh.mixed", b"")
        .file("was-dir", b"22")
        .directory("was-file", 0o700)
        .file("lib/through", b"22")
        .file("abs/through-too", b"22")
        .hard_link("across", "kept")
        .file("twin", b"22")
        .file(".wh..wh.plnk", b"")
        .file("nowhere/.wh.nothing", b"");
    let Some(found) = mounted(&[lower.bytes(), upper.bytes()]) else {
        return;
    };
    let size = |path: &str| {
        found
            .get(path)
            .and_then(|l| l.split(' ').nth(1))
            .unwrap_or("none")
    };
    for (path, expected) in [
        ("gone", "none"),
        ("kept", "1"),
        ("across", "1"),
        ("dir/gone", "none"),
        ("dir/kept", "1"),
        ("opaque/gone", "none"),
        ("opaque/deep", "none"),
        ("opaque/new", "2"),
        ("mixed/lower", "none"),
        ("mixed/upper", "2"),
        ("was-dir", "2"),
        ("was-dir/x", "none"),
        ("was-file", "700"),
        ("usr/lib/through", "2"),
        ("usr/lib/through-too", "2"),
        ("usr/lib/old", "1"),
        ("twin", "2"),
        ("other-twin", "1"),
        (".wh..wh.plnk", "none"),
        ("nowhere", "none"),
    ] {
        assert_eq!(size(path), expected, "{path}: {:?}", found.get(path));
    }
    assert!(found["lib"].starts_with("link \"usr/lib\""));
    assert!(
        found["other-twin"].contains(" x1 "),
        "{}",
        found["other-twin"]
    );
    assert!(found["kept"].contains(" x2 "), "{}", found["kept"]);
}
