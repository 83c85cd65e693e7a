//! Executes `popcnt` in ring 0, which a host that emulates ring 0 cannot: the VM ends with an internal error there, and with
//! status 0 on hardware.
#![no_std]
#![no_main]

bare::guest! { r#"
entry:
    popcnt eax, eax
    exit 0
"# }
