//! Images of strangers: layers, and the documents that lead to them.

use images::rootfs::{Flattener, Limits, MemorySpool};
use images::{erofs, oci};
use tar::{Builder, EntryType, Header};

use crate::fuzz::Target;

/// Small, so that each bound is reached.
const LIMITS: Limits = Limits {
    entries: 64,
    bytes: 64 << 10,
    depth: 8,
    ratio: 200,
};
/// What is between two layers of an input.
const SEAM: &[u8] = b"\n--layer--\n";

pub(super) const TARGET: Target = Target {
    name: "oci",
    about: "images of strangers: a manifest or configuration, or layers and the root that they make",
    seeds: || {
        let lower = layer(&[
            ("etc/a", EntryType::Regular, ""),
            ("l", EntryType::Symlink, "/etc"),
        ]);
        let upper = layer(&[
            ("etc/.wh.a", EntryType::Regular, ""),
            ("l/h", EntryType::Directory, ""),
            ("l/.wh..wh..opq", EntryType::Regular, ""),
            ("f", EntryType::Fifo, ""),
            ("g", EntryType::Link, "f"),
        ]);
        let manifest = br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":7},"layers":[]}"#;
        let config = br#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGRTMIN+3"},"rootfs":{"diff_ids":[]}}"#;
        vec![
            lower.clone(),
            [&lower[..], SEAM, &upper].concat(),
            sparse(),
            manifest.to_vec(),
            config.to_vec(),
        ]
    },
    words: &[
        SEAM,
        b".wh.",
        b".wh..wh..opq",
        b"../",
        b"ustar  \0",
        b"ustar\x0000",
        b"19 SCHILY.xattr.user.a=b\n",
        b"22 GNU.sparse.major=1\n",
        b"\"manifests\":[",
        b"\"platform\":{\"architecture\":\"amd64\",\"os\":\"linux\"}",
    ],
    run: |input| {
        if input.first() == Some(&b'{') {
            let _ = oci::check_json(input);
            return;
        }
        let mut flat = Flattener::new(MemorySpool::default(), LIMITS);
        let mut rest = input;
        loop {
            let seam = rest.windows(SEAM.len()).position(|w| w == SEAM);
            let mut layer = rest[..seam.unwrap_or(rest.len())].to_vec();
            mend(&mut layer);
            if flat.layer(&layer[..]).is_err() {
                return;
            }
            match seam {
                Some(at) => rest = &rest[at + SEAM.len()..],
                None => break,
            }
        }
        let mut root = Vec::new();
        erofs::write(&flat, &mut root, |_| Ok(())).expect("a good tree is not written");
        // Bounded by the limits, whatever the layers were: a block of its own for each entry, and what they hold.
        assert!(
            root.len() <= 4096 * 3 * 70 + (128 << 10),
            "{} bytes",
            root.len()
        );
        assert!(root.len() % 4096 == 0);
    },
};

/// Gives each block that may be a header the sum that it would have, so that mutations get past it.
fn mend(layer: &mut [u8]) {
    for block in layer.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            let header = Header::from_byte_slice(block);
            let mut header = header.clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
}

fn layer(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let records = [("SCHILY.xattr.user.a", &b"b"[..]), ("mtime", b"1.5")];
    builder.append_pax_extensions(records).expect("in memory");
    for &(path, kind, target) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        let data: &[u8] = if kind == EntryType::Regular {
            b"data"
        } else {
            b""
        };
        header.set_size(data.len() as u64);
        let added = match target {
            "" => builder.append_data(&mut header, path, data),
            target => builder.append_link(&mut header, path, target),
        };
        added.expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// A file with holes, whose map is text before its data.
fn sparse() -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let records = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"holes"),
        ("GNU.sparse.realsize", b"9000"),
    ];
    builder.append_pax_extensions(records).expect("in memory");
    let mut data = b"2\n0\n4\n8000\n4\n".to_vec();
    data.resize(512, 0);
    data.extend(b"onestwos");
    let mut header = Header::new_gnu();
    header.set_size(data.len() as u64);
    let added = builder.append_data(&mut header, "GNUSparseFile.0/holes", &data[..]);
    added.expect("in memory");
    builder.into_inner().expect("in memory")
}
