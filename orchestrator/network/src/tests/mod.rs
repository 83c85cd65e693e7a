//! Networks in network namespaces that the tests make themselves: a host, guests behind real taps, and the world outside.
//!
//! They need root. Without it they pass unseen, and say so.

mod crash;
mod names;
mod place;
mod publish;
mod reach;
mod refuse;
mod spoof;
mod world;
