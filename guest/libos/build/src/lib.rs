//! Links a program with the library OS. A program's whole `build.rs`:
//!
//! ```no_run
//! fn main() {
//!     libos_build::link();
//! }
//! ```

/// Has cargo link this package's programs as guests: static, at fixed addresses, nothing of the host's C library.
///
/// Tests of the package are linked as ever, for the host.
pub fn link() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/guest.ld");
    println!("cargo::rerun-if-changed={script}");
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
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
}
