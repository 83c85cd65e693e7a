//! When the agent has its turn: not before the program that woke it is done with what it does.
//!
//! A program that reads its input a page at a time makes room in a pipe with each page, which wakes the agent. If that
//! took the processor at once, the two would change places for every page, and that costs thousands of instructions where
//! each may be emulated. So the agent is scheduled as work in batches is: it waits until a program sleeps or has had its time.

/// Lets whoever wakes this thread go on first. What it starts is scheduled as usual.
pub(crate) fn come_after() {
    schedule(libc::SCHED_BATCH | libc::SCHED_RESET_ON_FORK);
}

/// Schedules this thread, which becomes another program, as usual.
pub(crate) fn come_as_usual() {
    schedule(libc::SCHED_OTHER);
}

fn schedule(policy: libc::c_int) {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is this thread, and the parameters are there for as long as the call. Where it is refused, all is as it was.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
}
