//! Faults with no interrupt table: the processor shuts down, and the VM with it.
#![no_std]
#![no_main]

bare::guest! { r#"
entry:
    lidt [nothing]
    ud2
.data
nothing:
    .word 0
    .long 0
"# }
