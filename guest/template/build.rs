//! Links the program with the library OS.

fn main() {
    libos_build::link();
}
