//! A panic: what, where, the way there, and the end of the VM.

use crate::core_cell::CoreCell;
use crate::trap::backtrace;
use crate::{console, exit, memory_bytes};
use abi::status;
use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

static PANICKING: CoreCell<bool> = CoreCell::new(false);

/// How the message of a failed allocation begins: `alloc` has no other way to tell on stable Rust.
const OUT_OF_MEMORY: &str = "memory allocation of ";

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if PANICKING
        .try_borrow()
        .is_none_or(|mut panicking| core::mem::replace(&mut *panicking, true))
    {
        exit::fail(status::PANIC);
    }
    let out_of_memory = begins_with(format_args!("{}", info.message()), OUT_OF_MEMORY);
    console::last_words(format_args!("\n{info}\n"));
    if out_of_memory {
        console::last_words(format_args!(
            "out of memory: this guest has {} MiB\n",
            memory_bytes() >> 20
        ));
    }
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    backtrace::print(None, frame);
    exit::fail(if out_of_memory {
        status::OUT_OF_MEMORY
    } else {
        status::PANIC
    })
}

/// Whether `text` begins with `prefix`, found without a heap.
fn begins_with(text: fmt::Arguments<'_>, prefix: &str) -> bool {
    struct Rest<'a>(Option<&'a str>);
    impl Write for Rest<'_> {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            self.0 = self.0.and_then(|rest| {
                rest.strip_prefix(piece)
                    .or_else(|| piece.starts_with(rest).then_some(""))
            });
            Ok(())
        }
    }
    let mut rest = Rest(Some(prefix));
    rest.write_fmt(text).is_ok() && rest.0 == Some("")
}
