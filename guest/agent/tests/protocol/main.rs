//! The agent over a unix socket: all that needs no virtual machine.

mod common;
mod copy;
mod exec;
mod hostile;
mod main_program;
