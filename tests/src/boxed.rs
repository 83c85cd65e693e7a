//! A small Linux image that Shoal did not make: one static busybox under the names of its programs. Written here as
//! `docker save` would, or by umoci and carried to a registry by skopeo.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Debian's package busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";
/// What the image calls it.
const PROGRAMS: [&str; 9] = [
    "cat", "httpd", "nc", "sh", "sleep", "stty", "sync", "true", "tty",
];
/// What the image's server serves at `/`.
pub const PAGE: &str = "a page of a guest's own\n";

/// Writes an image whose program serves [`PAGE`] on port 80, and says where.
///
/// # Errors
/// Where there is no busybox, or the file cannot be written.
pub fn archive(dir: &Path) -> Result<PathBuf> {
    let layer = layer()?;
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/bin/httpd"],
            "Cmd": ["-f", "-p", "80", "-h", "/www"],
            "Env": ["PATH=/bin"],
            "ExposedPorts": {"80/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    }))?;
    let config_name = format!("{}.json", hex(&config));
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_name,
        "RepoTags": ["box:latest"],
        "Layers": ["layer.tar"],
    }]))?;
    let path = dir.join("box.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path)?);
    for (name, bytes) in [
        ("layer.tar", &layer),
        (config_name.as_str(), &config),
        ("manifest.json", &manifest),
    ] {
        file(&mut archive, name, 0o644, bytes)?;
    }
    archive.finish()?;
    Ok(path)
}

/// The same image, made by umoci as an OCI layout: gives the layout's directory and, after a colon, the image's tag.
///
/// # Errors
/// Where umoci or busybox is missing, or fails.
pub fn layout(dir: &Path) -> Result<String> {
    let image = format!("{}:1", dir.join("layout").display());
    let bundle = dir.join("bundle");
    let layout = dir.join("layout");
    run("umoci", &["init", "--layout", &layout.to_string_lossy()])?;
    run("umoci", &["new", "--image", &image])?;
    run(
        "umoci",
        &["unpack", "--image", &image, &bundle.to_string_lossy()],
    )?;
    let root = bundle.join("rootfs");
    std::fs::create_dir_all(root.join("bin"))?;
    std::fs::create_dir_all(root.join("www"))?;
    std::fs::copy(BUSYBOX, root.join("bin/busybox"))
        .with_context(|| format!("{BUSYBOX}: install busybox-static"))?;
    for program in PROGRAMS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(program))?;
    }
    std::fs::write(root.join("www/index.html"), PAGE)?;
    run(
        "umoci",
        &["repack", "--image", &image, &bundle.to_string_lossy()],
    )?;
    let mut config = vec![
        "config",
        "--image",
        &image,
        "--config.entrypoint=/bin/httpd",
    ];
    config.extend(
        ["-f", "-p", "80", "-h", "/www"]
            .iter()
            .flat_map(|word| ["--config.cmd", word]),
    );
    config.extend([
        "--config.env",
        "PATH=/bin",
        "--config.exposedports",
        "80/tcp",
    ]);
    run("umoci", &config)?;
    Ok(image)
}

/// Runs a program of the host to its end.
///
/// # Errors
/// Where it is missing or fails; the error has its words.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    ensure!(
        output.status.success(),
        "{program} {args:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn layer() -> Result<Vec<u8>> {
    let busybox =
        std::fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX}: install busybox-static"))?;
    let mut layer = tar::Builder::new(Vec::new());
    file(&mut layer, "bin/busybox", 0o755, &busybox)?;
    for program in PROGRAMS {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        layer.append_link(&mut header, format!("bin/{program}"), "busybox")?;
    }
    file(&mut layer, "www/index.html", 0o644, PAGE.as_bytes())?;
    Ok(layer.into_inner()?)
}

fn file(
    archive: &mut tar::Builder<impl std::io::Write>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = header(bytes.len() as u64, mode);
    Ok(archive.append_data(&mut header, name, bytes)?)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
