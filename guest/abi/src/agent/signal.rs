//! Signals by name, as people and images write them.

/// Linux's standard signals on x86-64, by their numbers from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first real-time signal that a program can use: the C library keeps 32 and 33.
const RTMIN: u8 = 34;
/// The last one.
pub const MAX: u8 = 64;

/// SIGTERM.
pub const TERM: u8 = 15;
/// SIGKILL.
pub const KILL: u8 = 9;

/// The signal that `text` names: `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, `RTMAX-1`; case does not matter.
#[must_use]
pub fn parse(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=MAX).contains(&number).then_some(number);
    }
    let name = strip(text, "SIG").unwrap_or(text);
    if let Some(at) = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name)) {
        return u8::try_from(at + 1).ok();
    }
    let number = if let Some(rest) = strip(name, "RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?)?
    } else {
        MAX.checked_sub(offset(strip(name, "RTMAX")?, '-')?)?
    };
    (RTMIN..=MAX).contains(&number).then_some(number)
}

/// The name of a standard signal, without `SIG`.
#[must_use]
pub fn name(signal: u8) -> Option<&'static str> {
    NAMES.get(usize::from(signal).checked_sub(1)?).copied()
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn offset(text: &str, sign: char) -> Option<u8> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_by_name() {
        assert_eq!(parse("15"), Some(TERM));
        assert_eq!(parse("term"), Some(TERM));
        assert_eq!(parse("SIGKILL"), Some(KILL));
        assert_eq!(parse("SIGWINCH"), Some(28));
        assert_eq!(parse("SIGRTMIN+3"), Some(37));
        assert_eq!(parse("rtmax-1"), Some(63));
        assert_eq!(parse("SIGRTMAX"), Some(64));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "", "0", "65", "-1", "SIG", "NOPE", "RTMIN-1", "RTMIN+31", "RTMAX-31", "RTMIN+", "SIGé",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_come_back() {
        for signal in 1..=31 {
            assert_eq!(name(signal).and_then(parse), Some(signal));
        }
        assert_eq!((name(0), name(32)), (None, None));
    }
}
