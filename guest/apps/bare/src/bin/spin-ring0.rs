//! Loops in ring 0 for ever: on hosts that emulate ring 0, the monitor's thread never comes back by itself.
#![no_std]
#![no_main]

bare::guest! { r#"
entry:
    jmp entry
"# }
