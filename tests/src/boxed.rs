//! A small Linux image that Shoal did not make: one static busybox under the names of its programs, as `docker save` would write it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Debian's package busybox-static has it.
const BUSYBOX: &str = "/bin/busybox";
/// What the image calls it.
const PROGRAMS: [&str; 6] = ["cat", "httpd", "sh", "sleep", "sync", "true"];
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
