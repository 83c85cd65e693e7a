//! What a store promises of Linux images.

use std::io::Write;

use super::*;

/// A root that no kernel mounts, with what a store looks for.
fn root_bytes(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    bytes.extend(content);
    bytes
}

fn root(store: &Store, content: &[u8]) -> Root {
    let mut writer = store.root_writer().unwrap();
    writer.write_all(&root_bytes(content)).unwrap();
    writer.finish().unwrap()
}

fn oci() -> Source {
    Source::Oci {
        digest: format!("sha256:{}", "ab".repeat(32)),
    }
}

fn config(cmd: &str) -> Config {
    Config {
        cmd: vec![cmd.to_owned()],
        env: vec!["A=b".to_owned()],
        ports: vec!["80".parse().unwrap()],
        ..Config::new()
    }
}

fn add(store: &Store, called: &str, content: &[u8], cmd: &str) -> Inspection {
    let root = root(store, content);
    let added = store.add_linux(&name(called), root, config(cmd), oci());
    added.unwrap()
}

#[test]
fn a_linux_image_is_listed_inspected_and_opened() {
    let (dir, store) = store();
    let added = add(&store, "h:1/app:v1", b"x", "/bin/x");
    let image = &added.image;
    assert_eq!(image.kind, Kind::Linux);
    assert!(image.size > 8193);
    assert_eq!(store.list().unwrap(), std::slice::from_ref(image));
    assert_eq!(store.inspect("h:1/app:v1").unwrap(), added);
    let Opened::Linux {
        digest,
        manifest,
        mut root,
    } = store.open_image("h:1/app:v1").unwrap()
    else {
        panic!("of another kind");
    };
    assert_eq!(digest, image.digest);
    assert_eq!(manifest.config, config("/bin/x"));
    assert_eq!((manifest.root_bytes, manifest.source), (8193, oci()));
    let mut bytes = Vec::new();
    root.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, root_bytes(b"x"));
    assert_eq!(manifest.root, Digest::of(&bytes));
    // The root itself is no image.
    assert!(store.inspect(&manifest.root.to_string()).is_err());
    let path = dir.path().join("roots").join(manifest.root.to_string());
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o444
    );
    assert_eq!(files(&dir.path().join("tmp")), [] as [String; 0]);
}

#[test]
fn a_root_stays_as_long_as_an_image_names_it() {
    let (dir, store) = store();
    let first = add(&store, "first", b"same", "/a").image;
    let second = add(&store, "second", b"same", "/b").image;
    assert_ne!(first.digest, second.digest);
    let roots = || files(&dir.path().join("roots"));
    assert_eq!(roots().len(), 1);

    store.remove("first").unwrap();
    assert_eq!(store.gc(&HashSet::new()).unwrap().digests, [first.digest]);
    assert_eq!(roots().len(), 1);

    // Without a name, but a virtual machine runs it.
    store.remove("second").unwrap();
    let freed = store.gc(&HashSet::from([second.digest])).unwrap();
    assert_eq!((freed, roots().len()), (Freed::default(), 1));

    let freed = store.gc(&HashSet::new()).unwrap();
    assert_eq!(
        (freed.digests, freed.bytes),
        (vec![second.digest], second.size)
    );
    assert_eq!(roots().len(), 0);
}

#[test]
fn a_crash_between_root_and_manifest_leaves_nothing_for_long() {
    let (dir, store) = store();
    let image = add(&store, "a", b"1", "/a").image;
    fs::remove_file(dir.path().join("names/a:latest")).unwrap();
    fs::remove_file(dir.path().join("blobs").join(image.digest.to_string())).unwrap();
    let freed = store.gc(&HashSet::new()).unwrap();
    assert_eq!((freed.digests.len(), freed.bytes), (0, 8193));
}

#[test]
fn a_root_that_is_not_taken_leaves_nothing() {
    let (dir, store) = store();
    let before = contents(dir.path());
    let mut writer = store.root_writer().unwrap();
    writer.write_all(&[1; 9000]).unwrap();
    assert!(matches!(writer.finish(), Err(AddError::NoRoot)));
    drop(root(&store, b"dropped"));
    let bad = Config {
        env: vec!["=x".to_owned()],
        ..Config::new()
    };
    let error = store.add_linux(&name("a"), root(&store, b"x"), bad, oci());
    assert!(matches!(error, Err(AddError::Manifest(_))));
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_damaged_manifest_is_told_and_keeps_its_root() {
    let (dir, store) = store();
    let image = add(&store, "a", b"1", "/a").image;
    let blob = dir.path().join("blobs").join(image.digest.to_string());
    let text = fs::read_to_string(&blob).unwrap();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o600)).unwrap();
    for (damaged, said) in [
        (
            text.replace("\"version\": 1", "\"version\": 2"),
            "version 2",
        ),
        (text.replace("\"cmd\"", "\"command\""), "form"),
        (text.replace("amd64", "arm64"), "arm64"),
        ("{".to_owned(), "form"),
        (" ".repeat(2 << 20).replacen(' ', "{", 1), "more than"),
    ] {
        fs::write(&blob, &damaged).unwrap();
        let errors = [
            store.inspect("a").unwrap_err(),
            store.open_image("a").unwrap_err(),
            store.gc(&HashSet::new()).unwrap_err(),
        ];
        for error in errors {
            let InspectError::Manifest { source, .. } = error else {
                panic!("{error}");
            };
            assert!(source.to_string().contains(said), "{source}");
        }
        assert_eq!(store.list().unwrap()[0].names, [name("a")]);
    }
    assert_eq!(files(&dir.path().join("roots")).len(), 1);
    // Adding it again mends it.
    assert_eq!(add(&store, "a", b"1", "/a").image, store.list().unwrap()[0]);
}

#[test]
fn blocks_of_zeroes_are_holes() {
    use std::os::unix::fs::MetadataExt;
    let (dir, store) = store();
    let mut content = vec![0; 64 << 20];
    content.push(1);
    let added = add(&store, "sparse", &content, "/a");
    let roots = dir.path().join("roots");
    let path = roots.join(&files(&roots)[0]);
    assert_eq!(fs::read(&path).unwrap(), root_bytes(&content));
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    assert!(added.image.size > 64 << 20);
}

proptest! {
    // Each case syncs the disk.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_root_is_what_was_written_in_whatever_pieces(
        pieces in prop::collection::vec((0_usize..10_000, prop::bool::ANY), 0..20)
    ) {
        let (dir, store) = store();
        let mut expected = root_bytes(b"");
        let mut writer = store.root_writer().unwrap();
        writer.write_all(&expected).unwrap();
        for (length, zero) in pieces {
            let piece = vec![u8::from(!zero); length];
            writer.write_all(&piece).unwrap();
            expected.extend(piece);
        }
        let root = writer.finish().unwrap();
        let added = store.add_linux(&name("a"), root, Config::new(), oci()).unwrap();
        let Detail::Linux(manifest) = added.detail else { panic!() };
        prop_assert_eq!(manifest.root, Digest::of(&expected));
        let path = dir.path().join("roots").join(manifest.root.to_string());
        prop_assert_eq!(fs::read(path).unwrap(), expected);
    }

}

proptest! {
    #[test]
    fn a_port_is_read_as_it_is_written(number in 1_u16.., udp: bool) {
        let text = format!("{number}/{}", if udp { "udp" } else { "tcp" });
        prop_assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
    }
}

#[test]
fn a_configuration_that_no_agent_can_follow_is_refused() {
    type Change = fn(&mut Config);
    let cases: [(Change, &str); 12] = [
        (|c| c.architecture = "arm64".into(), "arm64"),
        (|c| c.env = vec!["NOTHING".into()], "NOTHING"),
        (|c| c.env = vec!["=x".into()], "=x"),
        (|c| c.cmd = vec!["a\0b".into()], "zero"),
        (|c| c.cmd = vec!["x".repeat(200 << 10)], "command"),
        (|c| c.entrypoint = vec![String::new(); 2000], "entry point"),
        (|c| c.workdir = "work".into(), "work"),
        (|c| c.workdir = "/a/../b".into(), ".."),
        (|c| c.user = "a:b:c".into(), "a:b:c"),
        (|c| c.volumes = vec!["/".into()], "volumes"),
        (|c| c.stop_signal = Some(65), "65"),
        (|c| c.stop_signal = Some(0), "0"),
    ];
    assert_eq!(Config::new().check(), Ok(()));
    for (change, said) in cases {
        let mut config = config("/bin/true");
        change(&mut config);
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for bad in ["", "0", "65536", "80/sctp", "80/", "+80", "http"] {
        assert!(bad.parse::<Port>().is_err(), "{bad:?}");
    }
}
