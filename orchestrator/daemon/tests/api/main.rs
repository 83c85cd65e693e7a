//! The API as a client sees it, with a monitor that has no machine: these run where there is no KVM.

mod guest;
mod harness;
mod hostile;
mod life;
mod linux;
mod restart;
mod streams;
mod stuck;
mod volumes;
