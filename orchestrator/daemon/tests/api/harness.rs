//! A daemon of its own for each test, with a monitor that has no machine (`examples/fake_monitor.rs`).

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use api::{Client, CreateVm, LogsQuery, Until, Vm};
use bytes::Bytes;
use futures::stream;
use tempfile::TempDir;

/// A daemon and its directory.
pub(crate) struct Daemon {
    pub(crate) dir: TempDir,
    child: Child,
}

impl Daemon {
    /// Starts one in a new directory, and gives it the image `app`.
    pub(crate) async fn start() -> Self {
        let daemon = Self::on(tempfile::tempdir().unwrap());
        daemon
            .client()
            .add_image("app", content(image()))
            .await
            .unwrap();
        daemon
    }

    /// The same, with the Linux image `linux`, too, whose program is `serve`.
    pub(crate) async fn with_linux() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = images::Store::open(dir.path().join("images")).unwrap();
        let mut root = store.root_writer().unwrap();
        // As much of an erofs as the store looks at.
        let mut content = vec![0; 8192];
        content[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        root.write_all(&content).unwrap();
        let config = images::Config {
            cmd: vec!["serve".to_owned()],
            env: vec!["A=image".to_owned()],
            ..images::Config::new()
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        let source = images::Source::Oci { digest };
        let name = "linux".parse().unwrap();
        store
            .add_linux(&name, root.finish().unwrap(), config, source)
            .unwrap();
        Self::on(dir)
    }

    /// Creates a Linux VM whose agent is as `words` say, and waits until it is ready.
    pub(crate) async fn ready(&self, name: &str, words: &str) -> Vm {
        self.client().create(&linux(name, words)).await.unwrap();
        self.client().wait(name, Until::Ready).await.unwrap()
    }

    /// What a VM's console has written so far.
    pub(crate) async fn console(&self, vm: &str) -> String {
        let mut output = self.client().logs(vm, LogsQuery::default()).await.unwrap();
        let mut text = Vec::new();
        while let Some(bytes) = output.next().await.unwrap() {
            text.extend_from_slice(&bytes);
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads a VM's console until it has said something.
    pub(crate) async fn says(&self, vm: &str, wanted: &str) {
        let follow = LogsQuery {
            follow: true,
            tail: None,
        };
        let mut output = self.client().logs(vm, follow).await.unwrap();
        let mut text = String::new();
        while !text.contains(wanted) {
            let bytes = output.next().await.unwrap().expect("the output goes on");
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// Starts one on a directory; returns when it serves.
    pub(crate) fn on(dir: TempDir) -> Self {
        let mut child = command(&dir).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains(" ready "));
        assert!(ready, "vmd ended before it served");
        // Nobody reads on: the pipe stays open, and what vmd says is dropped here.
        std::thread::spawn(move || lines.for_each(drop));
        Self { dir, child }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("vmd.sock")
    }

    /// `kill -9`, and another one on the same directory.
    pub(crate) fn crash(self) -> Self {
        self.crash_and(|| ())
    }

    /// The same, and something in between.
    pub(crate) fn crash_and(self, between: impl FnOnce()) -> Self {
        let dir = self.killed();
        between();
        Self::on(dir)
    }

    /// `kill -9`; what is left is its directory, and its VMs.
    pub(crate) fn killed(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Creates a VM whose guest does what `args` say.
    pub(crate) async fn create(&self, name: &str, args: &[&str]) -> Vm {
        self.client().create(&request(name, args)).await.unwrap()
    }

    /// The same, and waits until it runs.
    pub(crate) async fn running(&self, name: &str, args: &[&str]) -> Vm {
        self.create(name, args).await;
        self.client().wait(name, Until::Running).await.unwrap()
    }

    /// Whether a VM has a folder.
    pub(crate) fn has_folder(&self, vm: &Vm) -> bool {
        self.dir.path().join("vms").join(&vm.id).exists()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // VMs outlive their daemon: they go first.
        if let Ok(None) = self.child.try_wait() {
            let socket = self.socket();
            let cleaning = std::thread::spawn(move || {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(async {
                    let client = Client::new(socket);
                    for vm in client.list(true).await.unwrap_or_default() {
                        let _ = client.remove(&vm.id, true).await;
                    }
                });
            });
            let _ = cleaning.join();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A daemon's command line.
pub(crate) fn command(dir: &TempDir) -> Command {
    let vmd = PathBuf::from(env!("CARGO_BIN_EXE_vmd"));
    let mut command = Command::new(vmd);
    command
        .arg("--dir")
        .arg(dir.path())
        .arg("--vmm")
        .arg(monitor());
    // What the fake monitor boots is there and is nothing.
    for flag in ["--kernel", "--initrd"] {
        command.arg(flag).arg("/dev/null");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The monitor that has no machine.
pub(crate) fn monitor() -> PathBuf {
    let vmd = PathBuf::from(env!("CARGO_BIN_EXE_vmd"));
    vmd.with_file_name("examples").join("fake_monitor")
}

pub(crate) fn request(name: &str, args: &[&str]) -> CreateVm {
    CreateVm {
        name: Some(name.to_owned()),
        args: args.iter().map(ToString::to_string).collect(),
        ..CreateVm::new("app")
    }
}

/// A Linux VM without a network, with a small disk.
pub(crate) fn linux(name: &str, words: &str) -> CreateVm {
    CreateVm {
        name: Some(name.to_owned()),
        kernel_args: words.to_owned(),
        networks: Some(vec!["none".to_owned()]),
        disk_mib: Some(64),
        ..CreateVm::new("linux")
    }
}

pub(crate) fn content(bytes: Vec<u8>) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    stream::iter([Ok(Bytes::from(bytes))])
}

/// The least ELF file that is an image: one segment, and the note that says where to enter it.
pub(crate) fn image() -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    let (notes_at, segment_at) = (64 + 2 * 56, 64 + 2 * 56 + 20);
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [ENTRY, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let header = |kind: u32, flags: u32, words: [u64; 6]| {
        let mut header = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        header.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        header
    };
    file.extend(header(1, 5, [segment_at, ENTRY, ENTRY, 4, 4, 4]));
    file.extend(header(4, 4, [notes_at, 0, 0, 20, 20, 4]));
    for word in [4, 4, abi::pvh::NOTE_TYPE] {
        file.extend(word.to_le_bytes());
    }
    file.extend(abi::pvh::NOTE_OWNER);
    file.extend((ENTRY as u32).to_le_bytes());
    file.extend([0x90; 4]);
    file
}
