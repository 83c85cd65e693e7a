//! What a store promises.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod hostile;
mod layers;
mod linux;
mod model;
mod oci;
mod recipes;
mod roots;
mod survey;

/// A small image: one segment that holds `payload`, and the note that says where to enter it.
fn elf(payload: &[u8]) -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    let (notes_at, segment_at) = (64 + 2 * 56, 64 + 2 * 56 + 20);
    let length = payload.len() as u64;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(ENTRY.to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let header = |kind: u32, flags: u32, offset: u64, at: u64, bytes: u64, memory: u64| {
        let words = [offset, at, at, bytes, memory, 4];
        let mut header = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        header.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        header
    };
    file.extend(header(1, 5, segment_at, ENTRY, length, length + 4096));
    file.extend(header(4, 4, notes_at, 0, 20, 20));
    for word in [4, 4, abi::pvh::NOTE_TYPE] {
        file.extend(word.to_le_bytes());
    }
    file.extend(abi::pvh::NOTE_OWNER);
    file.extend((ENTRY as u32).to_le_bytes());
    assert_eq!(file.len() as u64, segment_at);
    file.extend(payload);
    file
}

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn files(folder: &Path) -> Vec<String> {
    let mut list: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    list.sort();
    list
}

/// Everything that a person would see of a store.
fn contents(dir: &Path) -> Vec<Vec<String>> {
    ["blobs", "roots", "names", "factory", "tmp"]
        .iter()
        .map(|f| files(&dir.join(f)))
        .collect()
}

#[test]
fn an_image_is_found_by_name_and_by_digest() {
    let (_dir, store) = store();
    let bytes = elf(b"hello");
    let added = store.add(&name("hello"), &bytes[..]).unwrap();
    assert_eq!(added.image.digest, Digest::of(&bytes));
    assert_eq!(added.image.size, bytes.len() as u64);
    let facts = elf::Facts {
        entry: 0x10_0000,
        memory: 0x10_1005,
    };
    assert_eq!(added.detail, Detail::LibOs(facts));
    let digest = added.image.digest.to_string();
    for reference in ["hello", "hello:latest", &digest, &digest[..4]] {
        assert_eq!(store.inspect(reference).unwrap(), added, "{reference}");
        let Opened::LibOs { digest, mut file } = store.open_image(reference).unwrap() else {
            panic!("{reference} is of another kind");
        };
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!((digest, read), (added.image.digest, bytes.clone()));
    }
}

#[test]
fn the_same_bytes_are_kept_once_and_cannot_be_written() {
    let (dir, store) = store();
    let first = store.add(&name("a"), &elf(b"x")[..]).unwrap();
    let second = store.add(&name("b:v2"), &elf(b"x")[..]).unwrap();
    assert_eq!(second.image.names, [name("a"), name("b:v2")]);
    assert_eq!(store.list().unwrap(), [second.image]);
    let blob = dir
        .path()
        .join("blobs")
        .join(first.image.digest.to_string());
    assert_eq!(
        fs::metadata(blob).unwrap().permissions().mode() & 0o777,
        0o444
    );
    assert_eq!(contents(dir.path())[4], [] as [String; 0]);
}

#[test]
fn a_name_moves_to_the_image_that_was_added_last() {
    let (_dir, store) = store();
    let old = store
        .add(&name("app"), &elf(b"1")[..])
        .unwrap()
        .image
        .digest;
    let new = store
        .add(&name("app"), &elf(b"2")[..])
        .unwrap()
        .image
        .digest;
    assert_eq!(store.open_image("app").unwrap().digest(), new);
    let list = store.list().unwrap();
    let shown: Vec<_> = list.iter().map(|i| (i.digest, i.names.len())).collect();
    assert_eq!(shown, [(new, 1), (old, 0)]);
}

#[test]
fn an_image_goes_when_neither_a_name_nor_a_vm_has_it() {
    let (_dir, store) = store();
    let used = store.add(&name("used"), &elf(b"1")[..]).unwrap().image;
    let free = store.add(&name("free"), &elf(b"2")[..]).unwrap().image;
    store.add(&name("named"), &elf(b"3")[..]).unwrap();
    let removed = store.remove("used").unwrap();
    assert_eq!(removed.names, [name("used")]);
    // By its digest: every name.
    store.add(&name("also-free"), &elf(b"2")[..]).unwrap();
    let removed = store.remove(&free.digest.to_string()).unwrap();
    assert_eq!(removed.names, [name("also-free"), name("free")]);

    let opened = store.open_image(&free.digest.to_string()).unwrap();
    let Opened::LibOs {
        file: held_open, ..
    } = opened
    else {
        panic!("of another kind");
    };
    let freed = store.gc(&HashSet::from([used.digest])).unwrap();
    assert_eq!((freed.digests, freed.bytes), (vec![free.digest], free.size));
    assert_eq!(held_open.metadata().unwrap().len(), free.size);
    let left: Vec<_> = store.list().unwrap().into_iter().map(|i| i.names).collect();
    assert_eq!(left, [vec![name("named")], vec![]]);
    let freed = store.gc(&HashSet::new()).unwrap();
    assert_eq!(freed.digests, [used.digest]);
}

#[test]
fn what_is_not_there_is_named() {
    let (_dir, store) = store();
    for unknown in ["nothing", "../../etc/passwd", "", "abcdef"] {
        let error = store.inspect(unknown).unwrap_err().to_string();
        assert!(error.contains(&format!("{unknown:?}")), "{error}");
        assert!(matches!(store.remove(unknown), Err(FindError::Unknown(_))));
    }
}

#[test]
fn a_prefix_of_two_digests_is_refused() {
    let (dir, store) = store();
    for last in ["0", "1"] {
        fs::write(
            dir.path().join("blobs").join("ab".repeat(31) + "c" + last),
            "",
        )
        .unwrap();
    }
    let error = store.open_image("abab").unwrap_err().to_string();
    assert!(
        error.contains("2 images") && error.contains("\"abab\""),
        "{error}"
    );
}

#[test]
fn a_refused_image_leaves_nothing_behind() {
    let (dir, store) = store();
    let before = contents(dir.path());
    let whole = elf(b"payload");
    for length in 0..whole.len() {
        let error = store.add(&name("cut"), &whole[..length]);
        assert!(matches!(error, Err(AddError::Elf(_))), "{length} bytes");
    }
    let error = store.add(&name("big"), io::repeat(0)).unwrap_err();
    assert_eq!(error.to_string(), "the image has more than 256 MiB");
    let broken = (&whole[..100]).chain(Broken);
    assert!(matches!(
        store.add(&name("broken"), broken),
        Err(AddError::Read(_))
    ));
    assert_eq!(contents(dir.path()), before);
}

/// A source that fails.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the cable is out"))
    }
}

#[test]
fn what_a_crash_left_goes_and_what_is_being_written_stays() {
    let (dir, store) = store();
    let left = dir.path().join("tmp/.tmpLEFT");
    for round in 0..2 {
        fs::write(&left, "half").unwrap();
        // The image is read while another process opens the store and collects.
        let bytes = elf(&[round]);
        let visit = Visit(|| {
            assert_eq!(files(&dir.path().join("tmp")).len(), 2);
            if round == 0 {
                Store::open(dir.path()).unwrap();
            } else {
                store.gc(&HashSet::new()).unwrap();
            }
            assert_eq!(files(&dir.path().join("tmp")).len(), 1);
        });
        let source = (&bytes[..50]).chain(visit).chain(&bytes[50..]);
        store.add(&name("new"), source).unwrap();
        assert!(!left.exists());
    }
}

/// A source that has no bytes and does something.
struct Visit<F>(F);

impl<F: FnMut()> Read for Visit<F> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        (self.0)();
        Ok(0)
    }
}

#[test]
fn a_crash_between_the_bytes_and_the_name_leaves_an_image_without_one() {
    let (dir, store) = store();
    let digest = store.add(&name("a"), &elf(b"1")[..]).unwrap().image.digest;
    fs::remove_file(dir.path().join("names/a:latest")).unwrap();
    assert_eq!(store.list().unwrap()[0].names, []);
    assert_eq!(store.gc(&HashSet::new()).unwrap().digests, [digest]);
}

#[test]
fn damage_from_outside_is_told_and_adding_again_mends_it() {
    let (dir, store) = store();
    let bytes = elf(b"1");
    let digest = store.add(&name("a"), &bytes[..]).unwrap().image.digest;
    let blob = dir.path().join("blobs").join(digest.to_string());
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&blob, &bytes[..40]).unwrap();
    assert!(matches!(store.inspect("a"), Err(InspectError::Elf { .. })));
    store.add(&name("a"), &bytes[..]).unwrap();
    assert_eq!(store.inspect("a").unwrap().image.digest, digest);

    fs::write(dir.path().join("names/a:latest"), "rubbish").unwrap();
    let error = store.gc(&HashSet::new()).unwrap_err().to_string();
    assert!(error.contains("what a stands for"), "{error}");
    store.add(&name("a"), &bytes[..]).unwrap();
    assert_eq!(store.gc(&HashSet::new()).unwrap(), Freed::default());
}

#[test]
fn many_may_add_at_once() {
    let (dir, store) = store();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..4_u8 {
                    let image = elf(&[round, thread % 2]);
                    store
                        .add(&name(&format!("n{thread}-{round}")), &image[..])
                        .unwrap();
                    store.gc(&HashSet::new()).unwrap();
                }
            });
        }
    });
    let list = store.list().unwrap();
    assert_eq!(list.len(), 8);
    assert_eq!(list.iter().map(|i| i.names.len()).sum::<usize>(), 32);
    assert_eq!(files(&dir.path().join("tmp")), [] as [String; 0]);
}

#[test]
fn a_factory_image_comes_once_a_build() {
    let (_dir, store) = store();
    let factory = TempDir::new().unwrap();
    let file = factory.path().join("hello");
    fs::write(&file, elf(b"1")).unwrap();
    fs::write(factory.path().join("hello.d"), "a list of dependencies").unwrap();
    fs::write(factory.path().join("Odd Name"), elf(b"1")).unwrap();
    fs::write(factory.path().join("broken"), b"\x7fELF and no more").unwrap();
    fs::create_dir(factory.path().join("deps")).unwrap();

    let report = store.import_factory(factory.path()).unwrap();
    let shown: Vec<_> = report
        .iter()
        .map(|i| (i.name.name(), i.result.is_ok()))
        .collect();
    assert_eq!(shown, [("broken", false), ("hello", true)]);
    fs::remove_file(factory.path().join("broken")).unwrap();

    store.remove("hello").unwrap();
    assert!(store.import_factory(factory.path()).unwrap().is_empty());
    assert!(store.open_image("hello").is_err());

    fs::write(&file, elf(b"2")).unwrap();
    assert_eq!(store.import_factory(factory.path()).unwrap().len(), 1);
    assert_eq!(
        store.open_image("hello").unwrap().digest(),
        Digest::of(&elf(b"2"))
    );
    assert!(
        store
            .import_factory(&factory.path().join("nowhere"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_name_is_what_docker_takes_and_safe_as_a_file() {
    let digest = format!("a@sha256:{}", "0f".repeat(32));
    for good in [
        "a",
        "hello",
        "0.1",
        "kv_2",
        "a:v1.2-rc_3",
        "a:V1",
        &"x".repeat(63),
        "team/app",
        "127.0.0.1:5000/team/app:v2",
        &digest,
        &format!("localhost:5000/b/{digest}"),
        &digest.replace('@', ":latest@"),
    ] {
        let parsed = name(good);
        assert_eq!(parsed.to_string(), good);
        assert_eq!(ImageName::of_file(&parsed.file_name()), Some(parsed));
    }
    assert_eq!(name("a:latest").to_string(), "a");
    assert_eq!(name("h:1/a:latest").to_string(), "h:1/a");
    let full = name("h:1/b/a:t");
    assert_eq!((full.name(), full.tag()), ("h:1/b/a", Some("t")));
    assert_eq!(full.registry(), Some("h:1"));
    assert_eq!(name("team/app").registry(), None);
    assert_eq!(name("localhost/app").registry(), Some("localhost"));
    for bad in [
        "",
        ".",
        "..",
        "../a",
        "a/..",
        "a//b",
        "/a",
        "a/",
        "-a",
        "_a",
        "A",
        "a:",
        ":a",
        "a:b:c",
        "a:../b",
        "a b",
        "a\0",
        "é",
        "a%b",
        "a:b/c",
        "a:99999/c",
        "a@",
        "a@sha256:0f",
        "a@md5:00",
        "a:80/b:80/c",
    ] {
        assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
    }
    assert!("x".repeat(64).parse::<ImageName>().is_err());
    assert!(["x"; 121].join("/").parse::<ImageName>().is_err());
}

proptest! {
    #[test]
    fn no_name_leaves_its_folder(text in prop_oneof![".{0,80}", "[a-z0-9/:@.%]{0,250}"]) {
        if let Ok(name) = text.parse::<ImageName>() {
            let file = name.file_name();
            prop_assert!(Path::new(&file).components().eq([std::path::Component::Normal(file.as_ref())]));
            prop_assert!(file.len() <= 255);
            prop_assert_eq!(ImageName::of_file(&file), Some(name.clone()));
            prop_assert_eq!(name.to_string().parse::<ImageName>(), Ok(name));
        }
    }

    #[test]
    fn any_reference_is_answered(text in ".{0,80}") {
        let (_dir, store) = store();
        prop_assert!(store.inspect(&text).is_err());
    }

    #[test]
    fn a_digest_is_read_as_it_is_written(bytes: Vec<u8>) {
        let digest = Digest::of(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        prop_assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err() || !digest.to_string().contains(char::is_alphabetic));
    }
}
