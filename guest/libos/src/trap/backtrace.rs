//! The way to a trap or a panic, by frame pointers.

use super::symbols::Symbols;
use crate::console::last_words;
use crate::image;
use crate::boot;

/// Most frames that are printed: an endless recursion has more than anybody reads.
const FRAMES: usize = 32;

/// Prints the functions from `rip`, where it is known, outwards by the frame pointer `frame`.
pub(crate) fn print(rip: Option<u64>, frame: u64) {
    let symbols = boot::machine()
        .and_then(|machine| machine.module)
        .and_then(Symbols::find);
    last_words(format_args!("backtrace:\n"));
    let frames = Frames { next: frame }.map(|address| (address, address - 1));
    let first = rip.map(|rip| (rip, rip));
    for (i, (address, within)) in first.into_iter().chain(frames).take(FRAMES).enumerate() {
        // A return address may be the first byte behind a function that never returns: the call is before it.
        match symbols.as_ref().and_then(|symbols| symbols.at(within)) {
            Some((name, offset)) => last_words(format_args!(
                "  {i:2}: {address:#x} {:#} + {offset:#x}\n",
                rustc_demangle::demangle(name)
            )),
            None => last_words(format_args!("  {i:2}: {address:#x}\n")),
        }
    }
    if symbols.is_none() {
        last_words(format_args!(
            "  (no names: the monitor handed over no boot module with symbols)\n"
        ));
    }
}

/// The return addresses of a chain of frames.
struct Frames {
    next: u64,
}

impl Iterator for Frames {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        // What is no frame on a stack, or does not lead upwards, ends the chain: nothing here may fault.
        let frame = self.next;
        let whole = |end: u64| frame.is_multiple_of(8) && frame.checked_add(16).is_some_and(|e| e <= end);
        if !image::stacks().iter().any(|s| s.start <= frame && whole(s.end)) {
            return None;
        }
        // SAFETY: sixteen mapped bytes of a stack.
        let [above, back] = unsafe { (frame as *const [u64; 2]).read() };
        self.next = if above > frame { above } else { 0 };
        image::is_code(back).then_some(back)
    }
}
