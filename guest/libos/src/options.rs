//! The command line: the program's arguments and environment, and the library OS's own options.
//!
//! | option | does |
//! |---|---|
//! | `libos.timing=1` | prints how long each phase of the boot took |

use crate::boot;
use crate::core_cell::CoreOnce;
use abi::cmdline::{self, Device};
use alloc::string::String;
use alloc::vec::Vec;

/// What options of the library OS begin with.
const PREFIX: &str = "libos.";
/// Prints the phases of the boot.
const TIMING: &str = "libos.timing=1";
/// Says nothing new: the default.
const NO_TIMING: &str = "libos.timing=0";

/// The words before `--` and those behind it, devices left out.
struct Words {
    before: Vec<String>,
    behind: Vec<String>,
}

static WORDS: CoreOnce<Words> = CoreOnce::new();

fn split(line: &str) -> Words {
    let mut words = Words {
        before: Vec::new(),
        behind: Vec::new(),
    };
    let mut into = &mut words.before;
    let mut separated = false;
    for word in cmdline::words(line).filter(|word| Device::parse(word.raw()).is_none()) {
        if !separated && word.raw() == cmdline::ARGUMENTS {
            separated = true;
            into = &mut words.behind;
        } else {
            into.push(word.chars().collect());
        }
    }
    words
}

fn words() -> &'static Words {
    WORDS.get_or_init(|| split(boot::machine().map_or("", |machine| machine.cmdline)))
}

/// The program's arguments: the words behind `--` on the command line.
#[must_use]
pub fn args() -> &'static [String] {
    &words().behind
}

/// The value of a variable of the environment; the last one where the command line has several.
#[must_use]
pub fn env(name: &str) -> Option<&'static str> {
    envs().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
}

/// The environment: the words `KEY=value` before `--`, in their order.
pub fn envs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let before = words().before.iter();
    let variables = before.filter(|word| !word.starts_with(PREFIX));
    variables.filter_map(|word| word.split_once('='))
}

/// The library OS's options as they stand: unquoted, and read without a heap, for every boot passes here.
fn options() -> impl Iterator<Item = &'static str> {
    let line = boot::machine().map_or("", |machine| machine.cmdline);
    cmdline::words(line)
        .map(cmdline::Word::raw)
        .take_while(|word| *word != cmdline::ARGUMENTS)
        .filter(|word| word.starts_with(PREFIX))
}

/// Whether the phases of the boot are to be printed.
pub(crate) fn timing() -> bool {
    options().any(|word| word == TIMING)
}

/// Says which options are not known: a mistyped one would otherwise do nothing, silently.
pub(crate) fn check() {
    for word in options().filter(|word| ![TIMING, NO_TIMING].contains(word)) {
        crate::println!("libos: no such option: {word}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stand_behind_the_separator_and_devices_nowhere() {
        let words = split(
            "libos.timing=1 HOME=/ virtio_mmio.device=4K@0xd0000000:5 -- serve \"two words\" -- virtio_mmio.device=512@0xfeb00000:6",
        );
        assert_eq!(words.before, ["libos.timing=1", "HOME=/"]);
        assert_eq!(words.behind, ["serve", "two words", "--"]);
    }
}
