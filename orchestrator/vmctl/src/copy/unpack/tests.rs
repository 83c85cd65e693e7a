//! What hostile archives come to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

/// An archive, entry by entry, with names that `tar` itself would refuse to write.
#[derive(Default)]
struct Made(Vec<u8>);

impl Made {
    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A directory with a target in it, and something beside the target that is nobody's to touch.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("precious"), "mine").unwrap();
        Self { dir }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn unpack_as(
        &self,
        archive: Vec<u8>,
        named: bool,
        name: Option<&str>,
    ) -> Result<Unpacked, UnpackError> {
        let target = Target {
            dir: fs::File::open(self.target()).unwrap().into(),
            named,
            name: name.map(Into::into),
        };
        unpack(&archive[..], &target)
    }

    /// By their own names.
    fn unpack(&self, archive: Made) -> Result<Unpacked, UnpackError> {
        self.unpack_as(archive.end(), false, None)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.target().join(name)).unwrap()
    }

    fn assert_nothing_outside(&self) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["precious", "target"]);
        let precious = self.dir.path().join("precious");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
        assert_eq!(fs::metadata(&precious).unwrap().nlink(), 1);
    }
}

#[test]
fn a_tree_comes_by_its_new_name_or_as_contents() {
    let tree = || {
        Made::default()
            .entry(EntryType::Directory, "etc/", "", b"")
            .file("etc/sub/hosts", "localhost")
            .entry(EntryType::Link, "etc/also", "etc/sub/hosts", b"")
            .entry(EntryType::Symlink, "etc/link", "/nowhere", b"")
            .end()
    };
    let place = Place::new();
    place.unpack_as(tree(), true, Some("new")).unwrap();
    assert_eq!(place.read("new/sub/hosts"), "localhost");
    assert_eq!(place.read("new/also"), "localhost");
    place.unpack_as(tree(), true, None).unwrap();
    assert_eq!(place.read("sub/hosts"), "localhost");
    assert_eq!(
        fs::read_link(place.target().join("link")).unwrap(),
        Path::new("/nowhere")
    );
    // Again, over what is there.
    place.unpack_as(tree(), true, None).unwrap();
    let root = Made::default().file("./a", "x").end();
    place.unpack_as(root, false, Some("root")).unwrap();
    assert_eq!(place.read("root/a"), "x");
    place.assert_nothing_outside();
}

#[test]
fn set_uid_is_not_taken_from_a_guest() {
    let place = Place::new();
    place.unpack(Made::default().file("shell", "x")).unwrap();
    let mode = fs::metadata(place.target().join("shell")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o755);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../precious", "/precious", "a/../../precious", ".."] {
        let place = Place::new();
        let error = place.unpack(Made::default().file(name, "theirs"));
        assert!(matches!(error, Err(UnpackError::Outside(_))), "{name}");
        let link = Made::default().entry(EntryType::Link, "a", name, b"");
        assert!(matches!(place.unpack(link), Err(UnpackError::Outside(_))));
        place.assert_nothing_outside();
    }
}

#[test]
fn links_are_not_followed_whoever_made_them() {
    let through = |archive: Made| archive.file("out/precious", "theirs");
    let place = Place::new();
    let own = Made::default().entry(EntryType::Symlink, "out", "..", b"");
    let error = place.unpack(through(own)).unwrap_err();
    assert!(
        matches!(error, UnpackError::Write(_, TreeError::Link(_))),
        "{error:?}"
    );
    place.assert_nothing_outside();
    let place = Place::new();
    symlink("..", place.target().join("out")).unwrap();
    assert!(place.unpack(through(Made::default())).is_err());
    let into = Made::default().entry(EntryType::Directory, "out", "", b"");
    assert!(place.unpack(into).is_err());
    let hard = Made::default().entry(EntryType::Link, "a", "out/precious", b"");
    assert!(place.unpack(hard).is_err());
    place.assert_nothing_outside();
    // A file takes a link's place, and does not go where it leads.
    symlink("../precious", place.target().join("file")).unwrap();
    place.unpack(Made::default().file("file", "new")).unwrap();
    assert_eq!(place.read("file"), "new");
    place.assert_nothing_outside();
}

#[test]
fn a_hard_link_to_a_link_is_the_link() {
    let place = Place::new();
    let archive = Made::default()
        .entry(EntryType::Symlink, "link", "../precious", b"")
        .entry(EntryType::Link, "hard", "link", b"")
        .file("hard", "theirs");
    place.unpack(archive).unwrap();
    assert_eq!(place.read("hard"), "theirs");
    place.assert_nothing_outside();
}

#[test]
fn devices_are_left_out_and_counted() {
    let place = Place::new();
    let archive = Made::default()
        .entry(EntryType::Char, "null", "", b"")
        .entry(EntryType::Fifo, "pipe", "", b"")
        .file("file", "x");
    let unpacked = place.unpack(archive).unwrap();
    assert_eq!((unpacked.entries, unpacked.left_out), (1, 2));
    assert_eq!(fs::read_dir(place.target()).unwrap().count(), 1);
}

#[test]
fn what_is_in_the_way_is_told_and_stays() {
    let place = Place::new();
    fs::create_dir(place.target().join("dir")).unwrap();
    fs::write(place.target().join("file"), "old").unwrap();
    let over = place.unpack(Made::default().file("dir", "x")).unwrap_err();
    assert!(
        matches!(over, UnpackError::Write(_, TreeError::Directory)),
        "{over:?}"
    );
    let below = place.unpack(Made::default().file("file/x", "x"));
    assert!(
        matches!(
            below,
            Err(UnpackError::Write(_, TreeError::NotDirectory(_)))
        ),
        "{below:?}"
    );
    assert_eq!(place.read("file"), "old");
}

#[test]
fn long_names_are_read_and_endless_ones_are_not() {
    let place = Place::new();
    let long = ["d".repeat(120), "f".repeat(120)].join("/");
    let mut archive = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(1);
    archive.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    place.unpack_as(archive, false, None).unwrap();
    assert_eq!(place.read(&long), "x");
    let pax = b"15 path=by-pax\n".as_slice();
    let archive = Made::default().entry(EntryType::XHeader, "pax", "", pax);
    place.unpack(archive.file("other", "y")).unwrap();
    assert_eq!(place.read("by-pax"), "y");

    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let endless = vec![b'x'; 70 << 10];
        let archive = Made::default().entry(kind, "long", "", &endless);
        let error = place.unpack(archive.file("f", "")).unwrap_err();
        assert!(
            matches!(error, UnpackError::Headers(HeadersError::Long(_))),
            "{error:?}"
        );
    }
    let deep = format!("{}f", "d/".repeat(300));
    let archive = Made::default().entry(EntryType::GNULongName, "l", "", deep.as_bytes());
    let error = place.unpack(archive.file("f", "")).unwrap_err();
    assert!(matches!(error, UnpackError::Deep), "{error:?}");
}

#[test]
fn a_cut_archive_is_an_error_and_an_empty_one_too() {
    let place = Place::new();
    let mut cut = Made::default().file("f", &"x".repeat(2000)).0;
    cut.truncate(1024);
    assert!(place.unpack_as(cut, false, None).is_err());
    assert!(matches!(
        place.unpack_as(Made::default().end(), false, None),
        Err(UnpackError::Empty)
    ));
    let lying = Made::default()
        .entry(EntryType::XHeader, "pax", "", b"10 size=9\n")
        .file("f", "");
    assert!(matches!(
        place.unpack(lying),
        Err(UnpackError::Headers(HeadersError::Size))
    ));
}

proptest! {
    #[test]
    fn no_archive_writes_outside(
        entries in proptest::collection::vec(
            (0..5usize, "[ab./]{1,8}", "[ab./]{1,8}"), 1..12,
        ),
    ) {
        let kinds = [
            EntryType::Regular,
            EntryType::Directory,
            EntryType::Symlink,
            EntryType::Link,
            EntryType::GNULongName,
        ];
        let place = Place::new();
        let archive = entries.iter().fold(Made::default(), |made, (kind, name, link)| {
            made.entry(kinds[*kind], name, link, b"theirs")
        });
        let _ = place.unpack(archive);
        place.assert_nothing_outside();
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let place = Place::new();
        let _ = place.unpack_as(bytes, false, None);
        place.assert_nothing_outside();
    }
}
