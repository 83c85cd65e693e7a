//! Reads and writes every I/O port, then ends with status 0.
//!
//! Left out is only what would end it early: the keyboard controller's reset (0x60 to 0x64), the fast reset (0x92), the
//! exit port (0xF4 to 0xF7), the serial port's output (0x3F8), the chipset's reset (0xCF9).
#![no_std]
#![no_main]

bare::guest! { r#"
entry:
    cld
    mov ebx, offset ranges
    xor edx, edx
next_range:
    mov edi, [ebx]
port:
    in eax, dx
    in al, dx
    mov al, 0x5A
    out dx, al
    inc edx
    cmp edx, edi
    jb port
    mov edx, [ebx + 4]
    add ebx, 8
    test edx, edx
    jnz next_range
    exit 0
.data
// Where a range ends, and where the next begins.
ranges:
    .long 0x5D, 0x65
    .long 0x8F, 0x93
    .long 0xF1, 0xF8
    .long 0x3F5, 0x3F9
    .long 0xCF6, 0xCFA
    .long 0x10000, 0
"# }
