//! Images that other programs made, and images that mean harm.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::layers::{Layer, look};
use super::survey::{is_there, run, survey};
use super::*;
use crate::oci::{self, Credentials, OciError, Sha256};

/// An OCI layout in the making.
struct Made(TempDir);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Made {
    fn new(layers: &[(&str, Vec<u8>, Vec<u8>)]) -> Self {
        Self::with(
            layers,
            json!({"Cmd": ["/bin/app"], "Env": ["A=b"], "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT", "WorkingDir": "", "Volumes": {"/data": {}}, "Labels": null}),
        )
    }

    /// Layers as type, bytes as they lie there, and unpacked.
    fn with(layers: &[(&str, Vec<u8>, Vec<u8>)], run: serde_json::Value) -> Self {
        let made = Self(TempDir::new().unwrap());
        fs::create_dir_all(made.blobs()).unwrap();
        let diff_ids: Vec<_> = layers
            .iter()
            .map(|(_, _, plain)| Sha256::of(plain).to_string())
            .collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [{"created_by": "test"}]});
        let config = made.blob(CONFIG, config.to_string().as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|(kind, packed, _)| made.blob(kind, packed))
            .collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut manifest = made.blob(MANIFEST, manifest.to_string().as_bytes());
        manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
        let mut other = manifest.clone();
        other["platform"]["architecture"] = json!("arm64");
        let index = json!({"schemaVersion": 2, "manifests": [other, manifest]});
        fs::write(made.path().join("index.json"), index.to_string()).unwrap();
        fs::write(
            made.path().join("oci-layout"),
            r#"{"imageLayoutVersion": "1.0.0"}"#,
        )
        .unwrap();
        made
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn blobs(&self) -> std::path::PathBuf {
        self.path().join("blobs/sha256")
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = Sha256::of(bytes);
        fs::write(self.blobs().join(digest.digits()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn import(&self, store: &Store) -> Result<Inspection, OciError> {
        import(store, oci::Source::Directory(self.path().to_owned()))
    }
}

fn import(store: &Store, source: oci::Source) -> Result<Inspection, OciError> {
    let cancel = Cancel::default();
    oci::import(
        store,
        source,
        None,
        &name("image"),
        Progress::new(&|_| {}, &cancel),
    )
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

fn layer(path: &str, bytes: &[u8]) -> Vec<u8> {
    Layer::new().file(path, bytes).bytes()
}

/// What is in the root of an image.
fn root(dir: &Path, image: &Inspection) -> Option<BTreeMap<String, String>> {
    let Detail::Linux(manifest) = &image.detail else {
        panic!()
    };
    look(&dir.join("roots").join(manifest.root.to_string()))
}

#[test]
fn a_layout_and_its_archives_are_one_image() {
    let (dir, store) = store();
    let plain = [
        layer("plain", b"1"),
        layer("gzip", b"22"),
        layer("zstd", &[3; 5000]),
    ];
    // Two frames, and one that holds nothing.
    let (first, second) = plain[2].split_at(1000);
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
    let frames = [&zstd(first)[..], skipped, &zstd(second)].concat();
    let made = Made::new(&[
        (TAR, plain[0].clone(), plain[0].clone()),
        (GZIP, gzip(&plain[1]), plain[1].clone()),
        (ZSTD, frames, plain[2].clone()),
    ]);
    let image = made.import(&store).unwrap();
    let Detail::Linux(manifest) = &image.detail else {
        panic!()
    };
    assert_eq!(manifest.config.cmd, ["/bin/app"]);
    assert_eq!(manifest.config.ports, ["80".parse().unwrap()]);
    assert_eq!(
        (
            manifest.config.stop_signal,
            manifest.config.workdir.as_str()
        ),
        (Some(3), "/")
    );
    if let Some(found) = root(dir.path(), &image) {
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["", "gzip", "plain", "zstd"]
        );
        assert!(found["zstd"].starts_with("file 5000 "));
    }
    let mut archive = ::tar::Builder::new(Vec::new());
    archive.append_dir_all(".", made.path()).unwrap();
    let archive = archive.into_inner().unwrap();
    for bytes in [archive.clone(), gzip(&archive), zstd(&archive)] {
        let again = import(
            &store,
            oci::Source::Stream(Box::new(io::Cursor::new(bytes))),
        )
        .unwrap();
        assert_eq!(again, image);
    }
}

#[test]
fn what_is_not_what_it_should_be_is_refused_and_leaves_nothing() {
    let (dir, store) = store();
    let before = contents(dir.path());
    let good = layer("a", b"1");
    let made = || Made::new(&[(GZIP, gzip(&good), good.clone())]);
    let packed = Sha256::of(&gzip(&good)).digits();
    type Harm = Box<dyn Fn(&Made)>;
    let write = |name: &'static str, text: &'static str| -> Harm {
        Box::new(move |made| fs::write(made.path().join(name), text).unwrap())
    };
    let at = packed.clone();
    let change_blob: Harm = Box::new(move |made| {
        let path = made.blobs().join(&at);
        let mut bytes = fs::read(&path).unwrap();
        // The time in the header, which gzip itself does not check.
        bytes[5] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    let at = packed.clone();
    let longer: Harm = Box::new(move |made| {
        let mut file = File::options()
            .append(true)
            .open(made.blobs().join(&at))
            .unwrap();
        file.write_all(&[0; 10]).unwrap();
    });
    let at = packed.clone();
    let link: Harm = Box::new(move |made| {
        let path = made.blobs().join(&at);
        fs::rename(&path, made.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../../elsewhere", path).unwrap();
    });
    let at = packed.clone();
    let pipe: Harm = Box::new(move |made| {
        let path = made.blobs().join(&at);
        fs::remove_file(&path).unwrap();
        run(Command::new("mkfifo").arg(&path));
    });
    let at = packed;
    let gone: Harm = Box::new(move |made| fs::remove_file(made.blobs().join(&at)).unwrap());
    let cases: [(Harm, &str); 10] = [
        (change_blob, "digest"),
        (longer, "cannot be used"),
        (link, "no file"),
        (pipe, "no file"),
        (gone, "missing"),
        (write("index.json", "{}"), "index"),
        (write("index.json", r#"{"manifests": []}"#), "linux/amd64"),
        (
            write("oci-layout", r#"{"imageLayoutVersion": "2.0.0"}"#),
            "version 1",
        ),
        (
            write(
                "index.json",
                r#"{"manifests": [{"mediaType": "", "digest": "md5:00", "size": 1}]}"#,
            ),
            "index",
        ),
        (
            write(
                "index.json",
                r#"{"manifests": [{"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000", "size": 99999999}]}"#,
            ),
            "more than",
        ),
    ];
    for (i, (harm, said)) in cases.iter().enumerate() {
        let made = made();
        harm(&made);
        let error = made.import(&store).unwrap_err().to_string();
        assert!(error.contains(said), "{i}: {error}");
    }
    // Digests that are right, of things that are wrong.
    let other = layer("b", b"2");
    let kinds: [(&str, Vec<u8>, Vec<u8>, &str); 4] = [
        (GZIP, gzip(&other), good.clone(), "unpacked"),
        (TAR, gzip(&good), good.clone(), "cannot be used"),
        (
            "application/zip",
            good.clone(),
            good.clone(),
            "application/zip",
        ),
        ("", good.clone(), good.clone(), "none"),
    ];
    for (kind, packed, plain, said) in kinds {
        let error = Made::new(&[(kind, packed, plain)])
            .import(&store)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{error}");
    }
    for (run, said) in [
        (json!({"User": "a b"}), "user"),
        (json!({"Env": ["nothing"]}), "environment"),
        (json!({"StopSignal": "SIGNONE"}), "SIGNONE"),
        (json!({"ExposedPorts": {"http": {}}}), "ports"),
    ] {
        let error = Made::with(&[], run).import(&store).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let error = import(&store, oci::Source::Stream(Box::new(&b"rubbish"[..]))).unwrap_err();
    assert!(matches!(error, OciError::Archive(_)), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let (dir, store) = store();
    let before = contents(dir.path());
    // A file of zeroes, packed as tightly as can be: some hundred bytes of zstd for each 128 KiB, and a thousandth by
    // gzip.
    let zeroes = Layer::new().file("zeroes", &vec![0; 80 << 20]).bytes();
    let mut rle = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    for _ in 0..4096 {
        // A block of 128 KiB that repeats one byte.
        rle.extend([0x02, 0x00, 0x10, 0x00]);
    }
    // A window of a terabyte.
    let window = b"\x28\xb5\x2f\xfd\x00\xf0\x01\0\0".to_vec();
    for (kind, packed) in [(GZIP, gzip(&zeroes)), (ZSTD, rle), (ZSTD, window)] {
        let error = Made::new(&[(kind, packed, zeroes.clone())])
            .import(&store)
            .unwrap_err();
        assert!(matches!(error, OciError::Layer { index: 1, .. }), "{error}");
    }
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn an_import_that_is_cancelled_leaves_nothing() {
    let (dir, store) = store();
    let before = contents(dir.path());
    let plain = layer("a", &vec![5; 3 << 20]);
    let made = Made::new(&[(TAR, plain.clone(), plain)]);
    for phase in [Phase::Unpack, Phase::Write] {
        let cancel = Cancel::default();
        let tell = |step: Step| {
            if step.phase == phase && step.done > 1 << 20 {
                cancel.cancel();
            }
        };
        let source = oci::Source::Directory(made.path().to_owned());
        let result = oci::import(
            &store,
            source,
            None,
            &name("a"),
            Progress::new(&tell, &cancel),
        );
        assert!(matches!(result, Err(OciError::Cancelled)), "{phase:?}");
        assert_eq!(contents(dir.path()), before);
    }
}

/// An image in an OCI layout that umoci made, and the root that umoci unpacks it to.
fn by_umoci(work: &Path) -> Option<BTreeMap<String, String>> {
    let root = rustix::process::geteuid().is_root();
    if !root || !is_there("umoci", "umoci") || !is_there("skopeo", "skopeo") {
        eprintln!("skipped: images of other programs need root, umoci and skopeo");
        return None;
    }
    let umoci = |words: &[&str]| run(Command::new("umoci").args(words).current_dir(work));
    umoci(&["init", "--layout", "layout"]);
    umoci(&["new", "--image", "layout:one"]);
    let unpack = |to: &str| umoci(&["unpack", "--image", "layout:one", to]);
    unpack("bundle");
    let script = "mkdir -p etc usr/bin var/empty dev && echo one > etc/one && echo two > etc/two && \
        ln etc/one etc/one-too && ln -s ../etc/one usr/bin/link && chmod 4755 etc/two && \
        chown 1000:1001 etc/two && mknod dev/null c 1 3 && mkfifo dev/fifo && chmod 1777 var/empty && \
        touch -d @1000000000 etc/two";
    let shell = |script: &str| {
        run(Command::new("sh")
            .args(["-ec", script])
            .current_dir(work.join("bundle/rootfs")))
    };
    shell(script);
    umoci(&["repack", "--image", "layout:one", "bundle"]);
    fs::remove_dir_all(work.join("bundle")).unwrap();
    unpack("bundle");
    shell(
        "rm etc/one-too && echo three > etc/three && rm -r var/empty && ln etc/two usr/bin/across",
    );
    umoci(&["repack", "--image", "layout:one", "bundle"]);
    umoci(&[
        "config",
        "--image",
        "layout:one",
        "--config.cmd",
        "/usr/bin/link",
        "--config.user",
        "7:8",
    ]);
    fs::remove_dir_all(work.join("bundle")).unwrap();
    unpack("bundle");
    Some(survey(&work.join("bundle/rootfs")))
}

fn assert_same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) {
    for (path, line) in theirs {
        assert_eq!(ours.get(path), Some(line), "{path}");
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn an_image_of_umoci_and_skopeo_is_what_umoci_unpacks_and_a_registry_gives_it_too() {
    let work = TempDir::new().unwrap();
    let Some(theirs) = by_umoci(work.path()) else {
        return;
    };
    let (dir, store) = store();
    let image = import(&store, oci::Source::Directory(work.path().join("layout"))).unwrap();
    let Detail::Linux(manifest) = &image.detail else {
        panic!()
    };
    assert_eq!(
        (
            manifest.config.cmd[0].as_str(),
            manifest.config.user.as_str()
        ),
        ("/usr/bin/link", "7:8")
    );
    if let Some(ours) = root(dir.path(), &image) {
        assert_same(&ours, &theirs);
    }
    let copy = |from: &str, to: &str| {
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            from,
            to,
        ]);
        run(skopeo.current_dir(work.path()));
    };
    for (kind, path) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        copy("oci:layout:one", &format!("{kind}:{path}:some/image:one"));
        let file = File::open(work.path().join(path)).unwrap();
        let archived = import(&store, oci::Source::Archive(file)).unwrap();
        let Detail::Linux(other) = &archived.detail else {
            panic!()
        };
        assert_eq!(
            (other.root, &other.config),
            (manifest.root, &manifest.config),
            "{kind}"
        );
    }
    let Some(registry) = Registry::start(work.path()) else {
        return;
    };
    let reference = format!("127.0.0.1:{}/some/image:one", registry.port);
    copy("oci:layout:one", &format!("docker://{reference}"));
    let cancel = Cancel::default();
    let steps = std::sync::Mutex::new(Vec::new());
    let tell = |step: Step| steps.lock().unwrap().push(step);
    let pull = |reference: &str| {
        let reference = name(reference);
        let who = Credentials::Anonymous;
        oci::pull(
            &store,
            &reference,
            &reference,
            &who,
            Progress::new(&tell, &cancel),
        )
    };
    let pulled = pull(&reference).unwrap();
    let Detail::Linux(other) = &pulled.detail else {
        panic!()
    };
    assert_eq!(other.root, manifest.root);
    assert!(pulled.image.names.contains(&name(&reference)));
    let steps = steps.into_inner().unwrap();
    let last = steps.iter().rfind(|s| s.phase == Phase::Download).unwrap();
    assert!(last.done == last.total && last.total > 0, "{last:?}");
    let Source::Oci { digest } = &other.source else {
        panic!()
    };
    let tell = |_| {};
    let pull = |reference: &str| {
        let reference = name(reference);
        let who = Credentials::Anonymous;
        oci::pull(
            &store,
            &reference,
            &reference,
            &who,
            Progress::new(&tell, &cancel),
        )
    };
    pull(&format!("127.0.0.1:{}/some/image@{digest}", registry.port)).unwrap();
    let error = pull(&reference.replace(":one", ":two"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("404"), "{error}");
    let error = pull("some/image").unwrap_err().to_string();
    assert!(error.contains("names no registry"), "{error}");
}

/// Debian's registry, on loopback.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(work: &Path) -> Option<Self> {
        if !is_there("docker-registry", "docker-registry") {
            return None;
        }
        // Nobody else gets this port at once, for the system hands out others first.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = work.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            work.join("registry").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.any(|line| line.unwrap().contains("listening on"));
        assert!(listening, "the registry does not listen");
        // Its further words go nowhere, and it does not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, port })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn credentials_are_those_of_dockers_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("config.json");
    assert_eq!(
        Credentials::from_docker(&file, "a:1").unwrap(),
        Credentials::Anonymous
    );
    fs::write(
        &file,
        r#"{"auths": {"a:1": {"auth": "dXNlcjpwYTpzcw=="}, "b": {"auth": "?"}, "c": {}}}"#,
    )
    .unwrap();
    let basic = Credentials::from_docker(&file, "a:1").unwrap();
    let (user, password) = ("user".to_owned(), "pa:ss".to_owned());
    assert_eq!(format!("{basic:?}"), "Basic(\"user\")");
    assert_eq!(basic, Credentials::Basic { user, password });
    assert_eq!(
        Credentials::from_docker(&file, "c").unwrap(),
        Credentials::Anonymous
    );
    assert!(Credentials::from_docker(&file, "b").is_err());
}
