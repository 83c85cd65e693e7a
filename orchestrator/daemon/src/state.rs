//! The life of a VM: every state, everything that can happen, every move.
//!
//! ```text
//!                launched            entered
//!   creating ---------------> starting -----> running <----> paused
//!      |                         |             |   paused/resumed |
//!      |                         |  stop asked |                  |
//!      |                         +-----------> stopping <---------+
//!      |                         |             |                  |
//!      |    ended well           v             v                  v
//!      +----------------------> exited   (from each of these, by how it ended)
//!      |    ended badly
//!      +----------------------> failed
//!                    exited, failed -- remove asked --> removing -- cleared --> gone
//!                    exited, failed -- start asked --> creating
//! ```
//!
//! What is *wanted* is written down before it is acted on ([`crate::record::Desired`]); these states are what is *observed*, and
//! a daemon that returns finds them again from what is written and what lives ([`crate::fleet`]). What stands not in
//! the table does not move a VM: a late report of a monitor that was already told to stop, for one.
//!
//! [`markdown`] renders the table for `docs/vm-life.md`.

use std::fmt::{self, Write};

pub use api::VmState as State;

/// What can happen to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A monitor has its description.
    Launched,
    /// Its first virtual CPU was entered.
    Entered,
    /// It was made to stand still.
    Paused,
    /// It was let go on.
    Resumed,
    /// Its end was asked for.
    StopAsked,
    /// Its guest or its owner ended it.
    EndedWell,
    /// Anything else ended it.
    EndedBadly,
    /// It was asked for once more, as it was left.
    StartAsked,
    /// Its removal was asked for.
    RemoveAsked,
    /// All that it left is cleared away.
    Cleared,
}

impl Step {
    /// Everything that can happen.
    pub const ALL: [Self; 10] = [
        Self::Launched,
        Self::Entered,
        Self::Paused,
        Self::Resumed,
        Self::StopAsked,
        Self::EndedWell,
        Self::EndedBadly,
        Self::StartAsked,
        Self::RemoveAsked,
        Self::Cleared,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launched => "launched",
            Self::Entered => "entered",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::StopAsked => "stop asked",
            Self::EndedWell => "ended well",
            Self::EndedBadly => "ended badly",
            Self::StartAsked => "start asked",
            Self::RemoveAsked => "remove asked",
            Self::Cleared => "cleared",
        })
    }
}

/// Every state.
pub const STATES: [State; 9] = [
    State::Creating,
    State::Starting,
    State::Running,
    State::Paused,
    State::Stopping,
    State::Exited,
    State::Failed,
    State::Removing,
    State::Gone,
];

/// Every move.
pub const MOVES: [(State, Step, State); 25] = {
    use State::*;
    [
        (Creating, Step::Launched, Starting),
        (Creating, Step::EndedWell, Exited),
        (Creating, Step::EndedBadly, Failed),
        (Starting, Step::Entered, Running),
        (Starting, Step::StopAsked, Stopping),
        (Starting, Step::EndedWell, Exited),
        (Starting, Step::EndedBadly, Failed),
        (Running, Step::Paused, Paused),
        (Running, Step::StopAsked, Stopping),
        (Running, Step::EndedWell, Exited),
        (Running, Step::EndedBadly, Failed),
        (Paused, Step::Resumed, Running),
        (Paused, Step::StopAsked, Stopping),
        (Paused, Step::EndedWell, Exited),
        (Paused, Step::EndedBadly, Failed),
        (Stopping, Step::EndedWell, Exited),
        (Stopping, Step::EndedBadly, Failed),
        (Exited, Step::StartAsked, Creating),
        (Failed, Step::StartAsked, Creating),
        (Exited, Step::RemoveAsked, Removing),
        (Failed, Step::RemoveAsked, Removing),
        (Removing, Step::Cleared, Gone),
        // A removal that could not be finished is asked for again.
        (Removing, Step::RemoveAsked, Removing),
        // Asked twice is asked once; a kill while a stop waits is the same state.
        (Stopping, Step::StopAsked, Stopping),
        // A stop came while the monitor was on its way in: the VM is entered all the same, and then stopped.
        (Stopping, Step::Entered, Stopping),
    ]
};

/// Where `step` leads from `state`; `None` where it changes nothing.
#[must_use]
pub fn next(state: State, step: Step) -> Option<State> {
    MOVES
        .iter()
        .find(|(from, by, _)| (*from, *by) == (state, step))
        .map(|(_, _, to)| *to)
}

/// The table for people: a drawing (mermaid) and one line a state, one column for all that can happen.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> creating\n");
    for (from, step, to) in MOVES {
        let _ = writeln!(text, "    {from} --> {to}: {step}");
    }
    text.push_str("    gone --> [*]\n```\n\n| state |");
    for step in Step::ALL {
        let _ = write!(text, " {step} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Step::ALL.len()));
    for state in STATES {
        let _ = write!(text, "\n| {state} |");
        for step in Step::ALL {
            match next(state, step) {
                Some(to) => {
                    let _ = write!(text, " {to} |");
                }
                None => text.push_str(" – |"),
            }
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_says_each_thing_once() {
        let keys: HashSet<_> = MOVES.iter().map(|(from, step, _)| (from, step)).collect();
        assert_eq!(keys.len(), MOVES.len());
    }

    #[test]
    fn every_state_is_reached_and_only_gone_is_final() {
        for state in STATES {
            let reached = MOVES.iter().any(|(_, _, to)| *to == state);
            assert!(reached || state == State::Creating, "{state}");
            let left = MOVES
                .iter()
                .any(|(from, _, to)| *from == state && *to != state);
            assert_eq!(left, state != State::Gone, "{state}");
        }
    }

    #[test]
    fn a_vm_that_lives_can_always_end_and_one_that_ended_lives_again_only_where_it_is_asked_to() {
        for state in STATES {
            for step in [Step::EndedWell, Step::EndedBadly] {
                let to = next(state, step);
                assert_eq!(to.is_some(), !state.is_ended(), "{state}, {step}");
            }
            if state.is_ended() {
                for step in Step::ALL {
                    assert!(
                        next(state, step).is_none_or(State::is_ended) || step == Step::StartAsked,
                        "{state}, {step}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_rendering_has_every_move() {
        let text = markdown();
        for (from, step, to) in MOVES {
            assert!(text.contains(&format!("{from} --> {to}: {step}\n")));
        }
    }
}
