//! Halts with interrupts off: nothing but the monitor can end it.
#![no_std]
#![no_main]

bare::guest! { r#"
entry:
    cli
    hlt
    jmp entry
"# }
