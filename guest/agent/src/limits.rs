//! How many files the agent, and programs, may have open.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What programs begin with, as on common distributions: some size tables by this number.
const SOFT: u64 = 1024;
/// What they may raise it to, where that is ours to say.
const HARD: u64 = 1024 * 1024;
/// Four descriptors for each connection, and some.
const FOR_US: u64 = 8192;

static FOR_PROGRAMS: OnceLock<libc::rlimit> = OnceLock::new();

/// Makes room for as many connections as the agent takes.
pub(crate) fn raise() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let higher = hard.max(HARD);
    let raised = setrlimit(Resource::RLIMIT_NOFILE, FOR_US.min(higher), higher);
    let hard = if raised.is_ok() { higher } else { hard };
    if raised.is_err() {
        // Where that is refused too, fewer connections are served: `accept` says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, FOR_US.min(hard), hard);
    }
    FOR_PROGRAMS.get_or_init(|| libc::rlimit {
        rlim_cur: SOFT.min(hard),
        rlim_max: hard,
    });
}

/// What programs get; `None`: what we have.
pub(crate) fn for_programs() -> Option<libc::rlimit> {
    FOR_PROGRAMS.get().copied()
}
