//! Memory that a Linux guest does not need goes back to its host, by the host's own count of pages.

use tests::memory::Guest;
use vmm::meter::Counter;

/// What the guest takes and gives back.
const MIB: u64 = 32;
/// Half of it: a guest reports whole pieces of 2 MiB, and some of what it frees is in others.
const MOST: f64 = 16.0;

#[test]
fn pages_that_a_guest_frees_are_the_hosts_again() {
    let mut guest = Guest::new(MIB, true).unwrap();
    // What the boot needed and freed went back first.
    let rest = guest.held().unwrap();
    guest.goes_on("taken");
    let taken = guest.held_once(|held| held > MIB as f64).unwrap();
    guest.goes_on("given");
    let given = guest.held_once(|held| held < taken - MOST).unwrap();
    println!("{rest} MiB at rest, {taken} taken, {given} given");
    // And are the guest's as soon as it wants them.
    guest.goes_on("taken again");
    guest.held_once(|held| held > given + MOST).unwrap();
    guest.ends();
}

#[test]
fn pages_in_a_balloon_are_the_hosts_until_it_shrinks() {
    let mut guest = Guest::new(MIB, false).unwrap();
    guest.goes_on("taken");
    guest.goes_on("given");
    // Nobody told the host.
    let given = guest.held().unwrap();
    assert!(given > MIB as f64, "{given} MiB");
    guest.balloon(MIB).unwrap();
    guest.counted(Counter::BalloonInflated, MIB).unwrap();
    let inflated = guest.held_once(|held| held < given - MOST).unwrap();
    guest.balloon(0).unwrap();
    guest.counted(Counter::BalloonDeflated, MIB).unwrap();
    println!("{given} MiB, {inflated} with a full balloon");
    guest.goes_on("taken again");
    guest.held_once(|held| held > inflated + MOST).unwrap();
    guest.ends();
}
