//! Puts the library OS and the template of a guest program into `vmctl`, for `vmctl new`.
//!
//! Writes `embedded.rs`: a list of each file's path in the new project and its bytes.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What a project is made of: a path in `guest/`, and where it goes.
const PARTS: [(&str, &str); 4] = [
    ("template", ""),
    ("Cargo.toml", "shoal/Cargo.toml"),
    ("abi", "shoal/abi"),
    ("libos", "shoal/libos"),
];

fn main() {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest");
    let mut files = Vec::new();
    for (from, to) in PARTS {
        let from = guest.join(from);
        println!("cargo::rerun-if-changed={}", from.display());
        collect(&from, Path::new(to), &mut files);
    }
    files.sort();
    let mut list = String::from("&[\n");
    for (to, from) in &files {
        let _ = writeln!(list, "    ({to:?}, include_bytes!({from:?})),");
    }
    list.push(']');
    let out = std::env::var_os("OUT_DIR").expect("cargo gives build scripts a folder");
    fs::write(Path::new(&out).join("embedded.rs"), list).expect("the folder can be written to");
}

fn collect(from: &Path, to: &Path, files: &mut Vec<(PathBuf, PathBuf)>) {
    if from.is_file() {
        let from = from
            .canonicalize()
            .expect("a file that is there has a path");
        files.push((to.to_owned(), from));
        return;
    }
    let entries =
        fs::read_dir(from).unwrap_or_else(|e| panic!("cannot read {}: {e}", from.display()));
    for entry in entries {
        let entry = entry.expect("a folder can be read to its end");
        let name = entry.file_name();
        // What a build in place left.
        if name != "target" && name != "Cargo.lock" {
            collect(&entry.path(), &to.join(&name), files);
        }
    }
}
