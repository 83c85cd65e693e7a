//! Reads and writes where no memory is: between RAM and the devices, every register of sixteen device pages, the rest up to
//! 4 GiB, and each GiB from there to 512. Then ends with status 0.
//!
//! It wants 64 MiB of memory; with more, some of the holes are memory, which is no harm. In 64-bit mode the
//! 2 MiB page number *n* leads to the first 2 MiB of the GiB number *n*, but for the first four, which lead to themselves.
#![no_std]
#![no_main]

bare::guest! { r#"
// Touches from esi up to edi in steps of ecx.
.macro touch from, to, step
    mov esi, \from
1:  mov eax, [esi]
    mov [esi], eax
    mov byte ptr [esi + 1], 0x5A
    add esi, \step
    cmp esi, \to
    jb 1b
.endm

entry:
    touch 0x08000000, 0xD0000000, 0x00400000
    touch 0xD0000000, 0xD0010000, 4
    touch 0xD0010000, 0xFEC00000, 0x00100000
    // From behind the I/O APIC to the local one, and from there to the top.
    touch 0xFEC01000, 0xFEE00000, 0x00010000
    touch 0xFEE01000, 0xFFFF0000, 0x00010000

    mov eax, 0x20
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xC0000080
    mov eax, 0x100
    xor edx, edx
    wrmsr
    mov edi, offset pd + 4 * 8
    mov eax, 0x83
    mov edx, 1
    mov ecx, 508
2:  mov [edi], eax
    mov [edi + 4], edx
    add edi, 8
    add eax, 0x40000000
    adc edx, 0
    loop 2b
    mov eax, 0x80000011
    mov cr0, eax
    lgdt [gdt_pointer]
    .byte 0xEA
    .long long_mode
    .word 8
.code64
long_mode:
    mov esi, 4
3:  mov rdi, rsi
    shl rdi, 21
    mov rax, [rdi]
    mov [rdi + 0x1000], rax
    inc esi
    cmp esi, 512
    jb 3b
    exit 0
.code32
.data
.balign 8
gdt:
    .quad 0, 0x00AF9B000000FFFF
gdt_pointer:
    .word 15
    .long gdt
.balign 4096
pml4:
    .quad pdpt + 3
    .fill 511, 8, 0
pdpt:
    .quad pd + 3
    .fill 511, 8, 0
pd:
    .quad 0x83, 0x200083, 0x400083, 0x600083
    .fill 508, 8, 0
"# }
