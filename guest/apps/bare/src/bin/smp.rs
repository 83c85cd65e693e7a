//! Starts every other processor by INIT and SIPI; each counts itself. Ends with the number of processors as status.
//!
//! All of them are addressed at once, so the count need not be known; it is taken when none has come for 50 ms of a
//! counter of 2 GHz, and is right where it does not change any more after that.
#![no_std]
#![no_main]

bare::guest! { r#"
.set TRAMPOLINE, 0x90000
.set COUNTER,    0x91000
.set ICR,        0xFEE00300
.set WAIT,       100000000

entry:
    cld
    mov esp, offset stack
    mov esi, offset trampoline
    mov edi, TRAMPOLINE
    mov ecx, 32                                 // it is shorter
    rep movsb
    mov dword ptr [COUNTER], 1
    mov dword ptr [ICR], 0x000C4500             // INIT to all but self
    mov ebx, WAIT / 5
    call wait
    mov dword ptr [ICR], 0x000C4690             // SIPI to all but self: page 0x90
again:
    mov ebp, [COUNTER]
    mov ebx, WAIT
    call wait
    cmp ebp, [COUNTER]
    jne again
    exit ebp

// Waits for ebx ticks.
wait:
    rdtsc
    mov edi, eax
1:  rdtsc
    sub eax, edi
    cmp eax, ebx
    jb 1b
    ret

.code16
trampoline:
    cli
    mov ax, COUNTER >> 4
    mov ds, ax
    lock inc dword ptr [0]
2:  hlt
    jmp 2b
.code32
.bss
    .fill 64, 1, 0
stack:
"# }
