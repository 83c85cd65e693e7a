//! How a virtual CPU is brought out of the guest: a signal to its thread, whose handler sets `immediate_exit` there.
//!
//! The signal alone interrupts a thread that is in `KVM_RUN`; the flag makes the next `KVM_RUN` return at once, where the
//! signal came just before it. So no kick is lost, whenever it comes.

use std::cell::Cell;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Once;
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// `immediate_exit` of the virtual CPU whose thread this is; null for other threads.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: `Kickable` keeps it pointing into the mapped `kvm_run` of this thread's own virtual CPU.
        unsafe { flag.write_volatile(1) };
    }
}

/// Installs the handler: to be called before the first thread that is kicked, for the signal ends a process without one.
pub(crate) fn install() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // A real-time signal's number is valid: the only error there is.
        let _ = register_signal_handler(SIGRTMIN(), on_kick);
    });
}

/// This thread can be kicked out of its virtual CPU while this lives, and that virtual CPU is this value's.
pub(crate) struct Kickable {
    vcpu: VcpuFd,
}

impl Kickable {
    /// Makes `vcpu` that of this thread.
    pub(crate) fn new(mut vcpu: VcpuFd) -> Self {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Self { vcpu }
    }

    /// The virtual CPU.
    pub(crate) fn vcpu(&mut self) -> &mut VcpuFd {
        &mut self.vcpu
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        // Before the virtual CPU is unmapped.
        IMMEDIATE_EXIT.set(std::ptr::null_mut());
    }
}

/// Kicks the virtual CPU of `thread`, if it has one now.
pub(crate) fn kick(thread: &JoinHandle<()>) {
    // SAFETY: the handle is not joined, so the thread's id is still its own.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGRTMIN()) };
}
