//! Starting programs.
//!
//! The child shares the agent's memory until it executes its program (`CLONE_VM | CLONE_VFORK`): copying page tables, and
//! taking a fault for each page touched afterwards, is what makes `fork` dear where ring 0 is emulated. So the child
//! calls nothing but the kernel, and all that it needs is prepared before.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use abi::agent::reply::{Code, Failure};
use abi::agent::request::Program;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::user::{self, Ids};

/// Where programs are looked for when nobody says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The child makes a dozen calls on it.
const STACK: usize = 32 * 1024;

/// A program that can be started, as often as need be.
pub(crate) struct Command {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Where the program may be, in order.
    candidates: Vec<CString>,
    cwd: CString,
    ids: Ids,
    terminal: bool,
}

/// Where the child failed.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
enum Step {
    Session,
    Files,
    User,
    Directory,
    Execute,
}

/// What the child works with, in memory that it shares with us.
struct Shared {
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    candidates: Vec<*const c_char>,
    cwd: *const c_char,
    groups: *const u32,
    group_count: usize,
    uid: u32,
    gid: u32,
    stdio: [RawFd; 3],
    terminal: bool,
    files: Option<libc::rlimit>,
    failed: Option<(Step, c_int)>,
}

impl Command {
    /// `program`, with the environment `base` beneath its own.
    pub(crate) fn new(program: &Program, base: &[String]) -> Result<Self, Failure> {
        let ids = user::resolve(program.user.as_deref(), &program.groups)?;
        let mut env: Vec<&str> = Vec::with_capacity(base.len() + program.env.len() + 3);
        for variable in base.iter().chain(&program.env) {
            let name = variable.split('=').next();
            match env.iter_mut().find(|other| other.split('=').next() == name) {
                Some(other) => *other = variable,
                None => env.push(variable),
            }
        }
        let has = |env: &[&str], key: &str| env.iter().any(|v| v.split('=').next() == Some(key));
        let (path, home) = (format!("PATH={PATH}"), format!("HOME={}", ids.home));
        let term = program
            .tty
            .as_ref()
            .map(|tty| tty.term.as_deref().unwrap_or("xterm"));
        let term = format!("TERM={}", term.unwrap_or_default());
        if !has(&env, "PATH") {
            env.push(&path);
        }
        if !has(&env, "HOME") {
            env.push(&home);
        }
        if program.tty.is_some() && !has(&env, "TERM") {
            env.push(&term);
        }
        let search = env
            .iter()
            .find_map(|v| v.strip_prefix("PATH="))
            .unwrap_or_default();
        // The protocol lets no program without a name through.
        let name = program.argv.first().map_or("", String::as_str);
        let candidates = if name.contains('/') {
            vec![c_string(name)?]
        } else {
            let dirs = search
                .split(':')
                .map(|dir| if dir.is_empty() { "." } else { dir });
            dirs.map(|dir| c_string(&format!("{dir}/{name}")))
                .collect::<Result<_, _>>()?
        };
        Ok(Self {
            candidates,
            argv: program
                .argv
                .iter()
                .map(|arg| c_string(arg))
                .collect::<Result<_, _>>()?,
            env: env.into_iter().map(c_string).collect::<Result<_, _>>()?,
            cwd: c_string(program.cwd.as_deref().unwrap_or("/"))?,
            terminal: program.tty.is_some(),
            ids,
        })
    }

    /// Starts the program with these for its standard input, output and error, in a session of its own.
    pub(crate) fn spawn(&self, stdio: [BorrowedFd<'_>; 3]) -> Result<Pid, Failure> {
        let mut shared = self.share(stdio);
        let mut stack = vec![0_u128; STACK / 16];
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: `child` only makes system calls and reads and writes `shared`. `CLONE_VFORK` stops this thread
        // until the child has executed its program or ended, so `shared`, what it points to and `stack` outlive its
        // use of them. The stack's end is aligned as the ABI wants.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(stack.len());
            libc::clone(child, top.cast(), flags, ptr::from_mut(&mut shared).cast())
        };
        let pid =
            Pid::from_raw(Errno::result(pid).map_err(|errno| self.failure(Step::Session, errno))?);
        // SAFETY: `shared` lives; the volatile read sees what another process wrote through the same memory.
        match unsafe { ptr::read_volatile(&raw const shared.failed) } {
            None => Ok(pid),
            Some((step, errno)) => {
                // It ended already, and is nobody's child but ours.
                while nix::sys::wait::waitpid(pid, None) == Err(Errno::EINTR) {}
                Err(self.failure(step, Errno::from_raw(errno)))
            }
        }
    }

    /// Becomes the program: for an init of the image's own. Returns only when that failed.
    pub(crate) fn become_it(&self, stdio: [BorrowedFd<'_>; 3]) -> Failure {
        let mut shared = self.share(stdio);
        child(ptr::from_mut(&mut shared).cast());
        match shared.failed {
            Some((step, errno)) => self.failure(step, Errno::from_raw(errno)),
            None => self.failure(Step::Execute, Errno::UnknownErrno),
        }
    }

    fn share(&self, stdio: [BorrowedFd<'_>; 3]) -> Shared {
        let pointers = |texts: &[CString]| -> Vec<*const c_char> {
            texts
                .iter()
                .map(|text| text.as_ptr())
                .chain([ptr::null()])
                .collect()
        };
        Shared {
            argv: pointers(&self.argv),
            env: pointers(&self.env),
            candidates: pointers(&self.candidates),
            cwd: self.cwd.as_ptr(),
            groups: self.ids.groups.as_ptr(),
            group_count: self.ids.groups.len(),
            uid: self.ids.uid,
            gid: self.ids.gid,
            stdio: stdio.map(|fd| fd.as_raw_fd()),
            terminal: self.terminal,
            files: crate::limits::for_programs(),
            failed: None,
        }
    }

    fn failure(&self, step: Step, errno: Errno) -> Failure {
        let name = self.argv[0].to_string_lossy();
        let why = errno.desc();
        let code = match (step, errno) {
            (Step::Session | Step::Files, Errno::EAGAIN | Errno::ENOMEM) => Code::NoSpace,
            (Step::Session | Step::Files, _) => Code::Failed,
            (Step::User, _) => Code::Permission,
            (_, Errno::ENOENT) => Code::NotFound,
            (Step::Directory, Errno::ENOTDIR) => Code::NotDirectory,
            (Step::Directory, Errno::EACCES) => Code::Permission,
            (Step::Execute, Errno::ENOTDIR) => Code::NotFound,
            (Step::Execute, Errno::EACCES | Errno::ENOEXEC | Errno::EISDIR) => Code::NotExecutable,
            (_, Errno::E2BIG | Errno::ENOMEM) => Code::NoSpace,
            (_, _) => Code::Failed,
        };
        match step {
            Step::Session | Step::Files => {
                Failure::new(code, format_args!("cannot start {name:?}: {why}"))
            }
            Step::User => Failure::new(
                code,
                format_args!(
                    "cannot become user {}:{}: {why}",
                    self.ids.uid, self.ids.gid
                ),
            ),
            Step::Directory => Failure::new(
                code,
                format_args!(
                    "cannot go to directory {:?}: {why}",
                    self.cwd.to_string_lossy()
                ),
            ),
            Step::Execute => Failure::new(code, format_args!("cannot execute {name:?}: {why}")),
        }
    }
}

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::new(Code::Invalid, "text with a NUL in it"))
}

/// The child, up to its program. Ends the process where it fails; in [`Command::become_it`] it returns.
extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: both callers pass a `Shared` that outlives the call, and do not touch it meanwhile.
    let shared = unsafe { &mut *shared.cast::<Shared>() };
    let step = match prepare(shared) {
        Ok(()) => Step::Execute,
        Err(step) => {
            shared.failed = Some((step, Errno::last_raw()));
            return 127;
        }
    };
    // What is there and may not be run says more than what is not there.
    let mut why = libc::ENOENT;
    for &candidate in shared.candidates.iter().filter(|c| !c.is_null()) {
        // SAFETY: the path and both lists are C strings, the lists end in null.
        unsafe { libc::execve(candidate, shared.argv.as_ptr(), shared.env.as_ptr()) };
        match Errno::last_raw() {
            libc::ENOENT | libc::ENOTDIR => {}
            errno => why = errno,
        }
    }
    shared.failed = Some((step, why));
    127
}

fn prepare(shared: &Shared) -> Result<(), Step> {
    let done = |result: i64, step| if result < 0 { Err(step) } else { Ok(()) };
    // SAFETY: system calls on values of our own; the descriptors are open, the lists as long as they say. The calls that
    // change ids bypass the C library, which would reach for the agent's other threads. The signal set is written
    // before it is read.
    unsafe {
        // Process 1 may lead a session already: then it fails, and is as well.
        libc::setsid();
        for (target, &fd) in shared.stdio.iter().enumerate() {
            // The agent's own descriptors are never 0 to 2: see `main`.
            done(libc::dup2(fd, target as c_int).into(), Step::Files)?;
        }
        if shared.terminal {
            done(libc::ioctl(0, libc::TIOCSCTTY, 0).into(), Step::Files)?;
        }
        if let Some(files) = &shared.files {
            done(
                libc::setrlimit(libc::RLIMIT_NOFILE, files).into(),
                Step::Files,
            )?;
        }
        if shared.uid != 0 || shared.gid != 0 || libc::geteuid() == 0 {
            let (uid, gid) = (shared.uid, shared.gid);
            done(
                libc::syscall(libc::SYS_setgroups, shared.group_count, shared.groups),
                Step::User,
            )?;
            done(
                libc::syscall(libc::SYS_setresgid, gid, gid, gid),
                Step::User,
            )?;
            done(
                libc::syscall(libc::SYS_setresuid, uid, uid, uid),
                Step::User,
            )?;
        }
        done(libc::chdir(shared.cwd).into(), Step::Directory)?;
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
    Ok(())
}
