//! Gives the first virtio device queues that no driver would: loops, addresses outside memory, lengths that wrap, indices out
//! of range, rings that are not there. Then ends with status 0: what the device makes of it is its own affair.
#![no_std]
#![no_main]

bare::guest! { r#"
.set DEVICE, 0xD0000000

.macro write offset, value
    mov dword ptr [ebx + \offset], \value
.endm
.macro copy offset, word
    mov eax, [esi + \word * 4]
    mov [ebx + \offset], eax
.endm

entry:
    mov ebx, DEVICE
    mov esi, offset cases
next_case:
    xor ebp, ebp                                // both queues of a console
    write 0x70, 0
    write 0x50, 0                               // a notification before anything is set up
    write 0x70, 3
    write 0x24, 1
    write 0x20, 1
    write 0x70, 11
next_queue:
    mov [ebx + 0x30], ebp
    copy 0x38, 0
    copy 0x80, 1
    copy 0x84, 2
    copy 0x90, 3
    copy 0x94, 4
    copy 0xA0, 5
    copy 0xA4, 6
    write 0x44, 1
    inc ebp
    cmp ebp, 2
    jb next_queue
    write 0x70, 15
    write 0x50, 0
    write 0x50, 1
    copy 0x50, 7
    // A set-up that changes while the device is at work.
    write 0x80, 0xFFFFFFFF
    write 0x44, 0
    write 0x38, 0xFFFF
    write 0x44, 1
    write 0x50, 1
    mov eax, [ebx + 0x60]
    write 0x64, 0xFFFFFFFF
    add esi, 32
    cmp esi, offset cases_end
    jb next_case
    // A queue that is none, and registers that are none.
    write 0x30, 0xFFFFFFFF
    write 0x44, 1
    write 0x100, 0xFFFFFFFF
    write 0xFFC, 0xFFFFFFFF
    mov eax, [ebx + 0xFFC]
    exit 0

.data
// size, descriptors (low, high), driver ring (low, high), device ring (low, high), queue to notify
cases:
    .long 8, loop, 0, ring, 0, used, 0, 1
    .long 8, outside, 0, ring, 0, used, 0, 1
    .long 8, wraps, 0, ring, 0, used, 0, 1
    .long 8, writable, 0, ring, 0, used, 0, 1
    .long 8, indirect, 0, ring, 0, used, 0, 1
    .long 8, next_out_of_range, 0, ring, 0, used, 0, 1
    .long 8, writable, 0, bad_ids, 0, used, 0, 1
    .long 8, writable, 0, far_ahead, 0, used, 0, 1
    .long 8, writable, 0, ring, 0, entry, 0, 1
    .long 0, writable, 0, ring, 0, used, 0, 1
    .long 3, writable, 0, ring, 0, used, 0, 1
    .long 0x10000, writable, 0, ring, 0, used, 0, 1
    .long 8, 0xFFFFFFF0, 0xFFFFFFFF, ring, 0, used, 0, 1
    .long 8, writable, 0, 0xFFFFFFFE, 0xFFFFFFFF, used, 0, 1
    .long 8, writable, 0, ring, 0, 0xFFFFFFFC, 0xFFFFFFFF, 1
    .long 8, writable + 1, 0, ring + 1, 0, used + 1, 0, 1
    .long 8, DEVICE, 0, DEVICE, 0, DEVICE, 0, 1
    .long 8, writable, 0, ring, 0, used, 0, 0xFFFF
cases_end:

// Descriptors: address (low, high), length, then flags and next.
.balign 16
loop:               .long buffer, 0, 64, 0x00000001
.balign 16
outside:            .long 0xFFFFF000, 0x0000FFFF, 0x1000, 2
.balign 16
wraps:              .long 0xFFFFFFF0, 0xFFFFFFFF, 0xFFFFFFFF, 0
.balign 16
writable:           .long buffer, 0, 0xFFFFFFFF, 2
.balign 16
indirect:           .long indirect, 0, 0xFFFFFFF0, 4
.balign 16
next_out_of_range:  .long buffer, 0, 64, 0xFFFF0001
.fill 128, 1, 0

// Driver rings: flags and index, then the ids.
ring:               .word 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0
.balign 4
bad_ids:            .word 0, 4, 0xFFFF, 8, 9, 0x8000, 0, 0, 0, 0, 0
.balign 4
far_ahead:          .word 0, 0x8000, 0, 0, 0, 0, 0, 0, 0, 0, 0
.balign 4
used:               .fill 256, 1, 0
buffer:             .fill 64, 1, 0x2E
"# }
