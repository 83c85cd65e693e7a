//! Links a program with the library OS: a program's `build.rs` has nothing to do but to call [`link`].

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// The linker script, but for the page tables.
const SCRIPT: &str = include_str!("../guest.ld");
/// Where the entries of the page tables go in it.
const PLACE: &str = "@IMAGE_TABLES@";

/// Pages whose entries the linker writes: two tables, 4 MiB.
const PAGES: u64 = 1024;
const PAGE: u64 = 4096;

// Bits of an entry: present, write, user, accessed, dirty, no execution. Accessed and dirty are set beforehand, for nobody
// wants to know them, and a hypervisor that shadows the tables would write them, and not map neighbours without them.
const PRESENT: u64 = 1 | 1 << 5;
const WRITE: u64 = 1 << 1 | 1 << 6;
const USER: u64 = 1 << 2;
const NO_EXECUTE: u64 = 1 << 63;

/// The parts of the image with rights of their own: first symbol, the one behind, rights. The rest is data.
const PARTS: [(&str, &str, u64); 4] = [
    ("__text_start", "__text_end", PRESENT | USER),
    (
        "__rodata_start",
        "__rodata_end",
        PRESENT | USER | NO_EXECUTE,
    ),
    ("__main_guard", "__main_stack", 0),
    ("__trap_guard", "__trap_stack", 0),
];

/// Has cargo link this package's programs as guests: static, at fixed addresses, nothing of the host's C library.
///
/// Tests of the package are linked as ever, for the host.
///
/// # Panics
/// Outside a build script, and where the script cannot be written.
pub fn link() {
    let directory = env::var_os("OUT_DIR").expect("cargo runs build scripts with OUT_DIR");
    let script = Path::new(&directory).join("guest.ld");
    fs::write(&script, SCRIPT.replace(PLACE, &image_tables()))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", script.display()));
    println!("cargo::rerun-if-changed=build.rs");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        // A page is 4 KiB here; a linker's larger default would only pad the file.
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}

/// The entries, in the linker's language.
fn image_tables() -> String {
    let mut entries = String::new();
    for page in 0..PAGES {
        let address = page * PAGE;
        let entry = match address {
            0 => "0".to_string(),
            0x10_0000 => format!("{:#x}", address | PRESENT),
            0x10_1000 => format!("{:#x}", address | PRESENT | WRITE | NO_EXECUTE),
            _ => {
                let data = address | PRESENT | WRITE | USER | NO_EXECUTE;
                let mut entry = format!("{data:#x}");
                for (start, end, rights) in PARTS {
                    let inside = if rights == 0 { 0 } else { address | rights };
                    entry = format!(
                        "({address:#x} >= {start} && {address:#x} < {end}) ? {inside:#x} : {entry}"
                    );
                }
                entry
            }
        };
        writeln!(entries, "        QUAD({entry})").expect("a string takes everything");
    }
    entries
}
