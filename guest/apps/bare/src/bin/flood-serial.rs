//! Writes to the serial port for ever: the monitor keeps a bounded part of it, and neither stops nor grows.
#![no_std]
#![no_main]

bare::guest! { r#"
entry:
    cld
    mov edx, 0x3F8
again:
    mov esi, offset line
    mov ecx, 64
    rep outsb
    jmp again
.data
line:
    .ascii "a guest that will not stop talking about nothing in particular.\n"
"# }
