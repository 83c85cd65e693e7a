//! Shows how an image is made: what is done, and how much of it.
//!
//! On a terminal bars, else a line a step: who reads a log has no use for a bar.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use anyhow::{Result, bail};
use api::{ClientError, Image, ImageEvent, Lines};
use indicatif::{MultiProgress, ProgressBar};

use crate::output::{Output, printable};
use crate::{progress, units};

/// Most bars at a time; an image may have a hundred layers.
const BARS: usize = 8;
/// Most characters of what a bar is about: `sha256:` and the beginning of a digest.
const LABEL: usize = 20;

/// Follows `events` to the image that they lead to.
pub(crate) async fn made(output: &Output, mut events: Lines<ImageEvent>) -> Result<Image> {
    let mut show = Show::new(output.quiet, stderr().is_terminal());
    while let Some(event) = events.next().await? {
        match event {
            ImageEvent::Step { message } => show.step(&printable(&message)),
            ImageEvent::Progress { of, done, total } => show.progress(&of, done, total),
            ImageEvent::Done { image } => return Ok(*image),
            ImageEvent::Failed { error } => return Err(ClientError::Refused(error).into()),
        }
    }
    bail!("the daemon ended before the image was there: begin again, what was fetched is kept")
}

/// Who is shown what.
enum Show {
    /// Nothing.
    Nothing,
    /// Lines; and what of it was told to be done.
    Lines,
    /// Bars.
    Bars {
        all: MultiProgress,
        step: ProgressBar,
        parts: BTreeMap<String, ProgressBar>,
    },
}

impl Show {
    fn new(quiet: bool, terminal: bool) -> Self {
        if quiet {
            return Self::Nothing;
        }
        if !terminal {
            return Self::Lines;
        }
        let all = MultiProgress::new();
        let step = all.add(progress::waiting("beginning"));
        step.enable_steady_tick(Duration::from_millis(100));
        Self::Bars {
            all,
            step,
            parts: BTreeMap::new(),
        }
    }

    fn step(&mut self, message: &str) {
        match self {
            Self::Nothing => {}
            Self::Lines => eprintln!("vmctl: {message}"),
            Self::Bars { step, .. } => step.set_message(message.to_owned()),
        }
    }

    fn progress(&mut self, of: &str, done: u64, total: Option<u64>) {
        let whole = total.is_some_and(|total| done >= total);
        match self {
            Self::Nothing => {}
            Self::Lines if whole => eprintln!("vmctl: {}", line(of, done)),
            Self::Lines => {}
            Self::Bars { all, parts, .. } => {
                if whole {
                    if let Some(bar) = parts.remove(of) {
                        bar.finish_and_clear();
                    }
                } else if let Some(bar) = parts.get(of) {
                    bar.set_position(done);
                } else if parts.len() < BARS {
                    let bar = all.add(progress::bytes(&label(of), total));
                    bar.set_position(done);
                    parts.insert(of.to_owned(), bar);
                }
            }
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Self::Bars { step, parts, .. } = self {
            step.finish_and_clear();
            parts.values().for_each(ProgressBar::finish_and_clear);
        }
    }
}

fn label(of: &str) -> String {
    let of: String = of.chars().take(LABEL).collect();
    printable(&of)
}

fn line(of: &str, done: u64) -> String {
    format!("{}: {}", label(of), units::bytes(done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_a_short_line_without_what_a_terminal_obeys() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(line(&digest, 3 << 19), "sha256:ababababababa: 1.5 MiB");
        assert_eq!(line("\x1b[2J", 1), "\u{FFFD}[2J: 1 B");
    }

    #[test]
    fn bars_are_few_and_go_when_they_are_full() {
        let mut show = Show::new(false, true);
        for part in 0..20 {
            show.progress(&part.to_string(), 1, Some(9));
        }
        let count = |show: &Show| match show {
            Show::Bars { parts, .. } => parts.len(),
            _ => 0,
        };
        assert_eq!(count(&show), BARS);
        show.progress("0", 9, Some(9));
        assert_eq!(count(&show), BARS - 1);
    }
}
