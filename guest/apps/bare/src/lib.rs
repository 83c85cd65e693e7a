//! Guests without an operating system: a PVH note and a little assembly, entered in 32-bit protected mode.
//!
//! Each is a way of a guest to misbehave, or a use of the machine that the library OS does not make. They say how they ended
//! by the exit port; what a monitor must do with one that does not end stands at its head.
#![no_std]

/// Makes the program's one guest of assembly, which starts at its label `entry`.
///
/// Before it come the note and the macro `exit STATUS`; `eax` and `edx` are lost in that.
#[macro_export]
macro_rules! guest {
    ($assembly:literal) => {
        core::arch::global_asm!(
            r#"
            .section .note.pvh, "a", @note
            .balign 4
            .long 4, 4, 18
            .asciz "Xen"
            .long entry
            .macro exit status
                mov eax, \status
                mov edx, 0xF4
                out dx, eax
            9:  hlt
                jmp 9b
            .endm
            .text
            .code32
            .global entry
            "#,
            $assembly
        );

        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }

        // The linker takes no file in whose symbols nobody asks for.
        #[used]
        static ENTRY: unsafe extern "C" fn() = {
            unsafe extern "C" {
                fn entry();
            }
            entry
        };
    };
}
