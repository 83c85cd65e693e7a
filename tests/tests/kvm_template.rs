//! A tenant's own project: written by `vmctl new`, built outside this repository with stock Rust, booted.

use std::process::Command;

use tests::shoal::Shoal;

#[test]
fn a_new_project_builds_and_boots() {
    let shoal = Shoal::start();
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("greeter");
    shoal.ok(&["new", &project.to_string_lossy()]);

    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release"]).current_dir(&project);
    // As a tenant types it: nothing of our own build may reach in.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO_") && text != "CARGO_HOME";
        if ours || text == "CARGO" || text == "RUSTFLAGS" || text.starts_with("NEXTEST") {
            cargo.env_remove(&name);
        }
    }
    let built = cargo.output().unwrap();
    assert!(
        built.status.success(),
        "it does not build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let program = project.join("target/release/greeter");
    shoal
        .vmctl(&["run", "--timeout", "60s", &program.to_string_lossy()])
        .with_status(0)
        .shows("greeter");
}
