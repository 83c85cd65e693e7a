//! How many files the agent, and programs, may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What programs begin with, as on common distributions: some size tables by the soft limit.
pub(crate) const FOR_PROGRAMS: libc::rlimit = libc::rlimit {
    rlim_cur: 1024,
    rlim_max: 1024 * 1024,
};
/// Four descriptors for each connection, and some.
const FOR_US: u64 = 8192;

/// Makes room for as many connections as the agent takes.
pub(crate) fn raise() {
    // Where that is refused, fewer connections are served: `accept` says so.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let hard = hard.max(FOR_PROGRAMS.rlim_max);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, FOR_US.min(hard), hard);
    }
}
