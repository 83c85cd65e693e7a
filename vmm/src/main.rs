//! `vmm`: one process is one microVM.
fn main() {}
