//! Memory: what the machine has, what is free, the heap in it, and the routines that the compiler calls.

mod bytes;
pub(crate) mod heap;
pub(crate) mod map;
