// Ring 0: start, interrupts, traps, and the gate.
//
//   PVH entry (32-bit) -> long mode -> iretq ------> ring 3: boot::start
//                                                      | ud2 at `shoal_gate`, a call number in eax
//   gate_batch / gate_idle / gate_window / gate_exit <-'   -> iretq
//   an exception -> trap_common -> iretq ----------> ring 3: trap::handle, which never returns
//   an interrupt, taken only inside gate_idle and gate_window -> its bit in `pending`
//
// Ring 3 runs with interrupts off. Hosts that emulate ring 0 lack some instructions: no int3, fwait, stac, clac, xsave,
// cmpxchg16b, popcnt, vmcall here. No loops over memory either: each instruction may cost 0.2 us.

// ---- The data page -------------------------------------------------------------------------------------

.set IDT,          {DATA}
.set GDT,          {DATA} + 0x400
.set TSS,          {DATA} + 0x480
.set FAULT_STACK,  {DATA} + 0x600
.set STACK,        {DATA} + 0x1000

.set RING0_CODE, 0x08
.set RING0_DATA, 0x10
.set RING3_DATA, 0x18 | 3
.set RING3_CODE, 0x20 | 3
.set TASK,       0x28

.set VECTOR_TIMER,    0x20
.set VECTOR_SPURIOUS, 0x3F

.section .ring0.data, "aw", @progbits
.balign 4096
ring0_data:
// Interrupt descriptor table: 64 interrupt gates to stubs of 16 bytes each. #DF has a stack of its own (IST 1).
.set vector, 0
.rept 64
    .word ({TEXT} + 0x800 + vector * 16) & 0xFFFF
    .word RING0_CODE
    .if vector == 8
    .byte 1
    .else
    .byte 0
    .endif
    .byte 0x8E
    .word ({TEXT} + 0x800 + vector * 16) >> 16
    .long 0, 0
    .set vector, vector + 1
.endr
// Global descriptor table.
.quad 0
.quad 0x00AF9B000000FFFF                        // ring 0 code, 64-bit
.quad 0x00CF93000000FFFF                        // ring 0 data
.quad 0x00CFF3000000FFFF                        // ring 3 data
.quad 0x00AFFB000000FFFF                        // ring 3 code, 64-bit
.quad (103 | ((TSS & 0xFFFFFF) << 16) | (0x89 << 40))
.quad 0
.fill 0x480 - 0x438, 1, 0
// Task state: the stack for traps from ring 3, and that for double faults. No port is ring 3's own.
.long 0
.quad STACK, 0, 0, 0
.quad FAULT_STACK, 0, 0, 0, 0, 0, 0
.quad 0
.word 0, 104
.balign 8
gdt_pointer: .word 0x437
             .long GDT
.balign 8
idt_pointer: .word 0x3FF
             .quad IDT
.balign 8
no_idt:      .word 0
             .quad 0
.balign 8
pending:     .long 0                            // interrupts since the last return from the gate
in_trap:     .long 0
.fill 0x1000 - (. - ring0_data), 1, 0           // FAULT_STACK and STACK grow down in here

// Tables to start on: the first GiB in 2 MiB pages, all of it ring 3's. `paging` builds those to stay on.
.section .boot.tables, "aw", @progbits
.balign 4096
boot_pml4:
    .quad boot_pdpt + 7
    .fill 511, 8, 0
boot_pdpt:
    .quad boot_pd + 7
    .fill 511, 8, 0
boot_pd:
.set entry, 0x87
.rept 512
    .quad entry
    .set entry, entry + 0x200000
.endr

// ---- Start ---------------------------------------------------------------------------------------------

.section .ring0.text, "ax", @progbits
.code32
.global shoal_entry
.type shoal_entry, @function
shoal_entry:                                    // ebx: the start information
    cld
    rdtsc
    mov [{boot_record}], eax
    mov [{boot_record} + 4], edx
    mov eax, 0x620                              // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xC0000080                         // EFER: LME, NXE
    mov eax, 0x900
    xor edx, edx
    wrmsr
    mov eax, 0x80010033                         // PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    .byte 0xEA                                  // jmp RING0_CODE:long_mode
    .long long_mode
    .word RING0_CODE
.code64
long_mode:
    lidt [idt_pointer]
    mov eax, RING0_DATA
    mov ss, eax
    mov esp, STACK
    mov eax, TASK
    ltr ax
    mov ecx, 0x1B                               // APIC_BASE: x2APIC on
    rdmsr
    or eax, 0xC00
    wrmsr
    xor edx, edx
    mov ecx, 0x80F                              // spurious vector, and the APIC's switch
    mov eax, 0x100 | VECTOR_SPURIOUS
    wrmsr
    mov ecx, 0x832                              // timer: TSC deadline
    mov eax, 0x40000 | VECTOR_TIMER
    wrmsr
    mov ecx, 0x835                              // LINT0: masked, or the 8259 would deliver vectors never set
    mov eax, 0x10000
    wrmsr
    // CPUID as the hypervisor wants it seen: ring 3 may see the host's own.
    mov esi, ebx
.irp leaf, 1, 0x80000001, 0x40000000, 0x40000001
    mov eax, \leaf
    cpuid
    .if \leaf == 1
    .set slot, 8
    .else
    .set slot, slot + 16
    .endif
    mov [{boot_record} + slot], eax
    mov [{boot_record} + slot + 4], ebx
    mov [{boot_record} + slot + 8], ecx
    mov [{boot_record} + slot + 12], edx
.endr
    push RING3_DATA
    push offset __main_stack_top
    push 2                                      // interrupts off
    push RING3_CODE
    push offset ring3_start
    iretq

// ---- The gate: rax is what it is asked, rdi and rsi the arguments ------------------------------------------

invalid_opcode:
    cmp qword ptr [rsp], offset shoal_gate
    jne 1f
    add qword ptr [rsp], 2                      // past the ud2
    test eax, eax
    jz gate_batch
    dec eax
    jz gate_idle
    dec eax
    jz gate_window
    dec eax
    jz gate_exit
1:  push 0
    push 6
    jmp trap_common

// Register accesses, from rdi to rsi: each 24 bytes of operation, address, value.
gate_batch:
    cmp rdi, rsi
    jae 1f
    mov rax, [rdi]
    mov rdx, [rdi + 8]
    jmp [batch_table + rax * 8]
1:  iretq
batch_in8:
    xor eax, eax
    in al, dx
    jmp batch_result
batch_out8:
    mov eax, [rdi + 16]
    out dx, al
    jmp batch_next
batch_out_string:                               // the value: a string's address, and in its top 16 bits the length
    mov r8, rsi
    mov rcx, [rdi + 16]
    mov rsi, rcx
    shr rcx, 48
    shl rsi, 16
    shr rsi, 16
    rep outsb
    mov rsi, r8
    jmp batch_next
batch_read32:
    mov eax, [rdx]
batch_result:
    mov [rdi + 16], rax
batch_next:
    add rdi, 24
    jmp gate_batch
batch_write32:
    mov eax, [rdi + 16]
    mov [rdx], eax
    jmp batch_next
batch_write_msr:
    mov ecx, edx
    mov eax, [rdi + 16]
    mov edx, [rdi + 20]
    wrmsr
    jmp batch_next
batch_load_cr3:
    mov cr3, rdx
    jmp batch_next
batch_cpuid:                                    // address: leaf; value: eax and edx... see gate::Op
    mov r8, rbx
    mov eax, edx
    xor ecx, ecx
    cpuid
    mov [rdi + 8], eax
    mov [rdi + 12], ebx
    mov [rdi + 16], ecx
    mov [rdi + 20], edx
    mov rbx, r8
    jmp batch_next
.balign 8
batch_table:
    .quad batch_in8, batch_out8, batch_out_string, batch_read32, batch_write32, batch_write_msr, batch_load_cr3, batch_cpuid

// Sleep until an interrupt, the one at TSC rdi among them if that is not 0. An interrupt that is already pending
// ends the hlt at once: sti holds interrupts off until hlt has begun.
gate_idle:
    mov ecx, 0x6E0                              // TSC deadline
    mov eax, edi
    mov rdx, rdi
    shr rdx, 32
    wrmsr
    sti
    hlt
    cli
gate_collect:
    xor eax, eax
    xchg eax, [pending]
    iretq

// Take what interrupts there are, without sleeping.
gate_window:
    sti
    nop
    cli
    jmp gate_collect

// End the VM with status edi, by whatever this monitor has for it.
gate_exit:
    mov eax, edi
    mov edx, {EXIT}
    out dx, eax
    mov eax, {RESET}
    mov edx, {I8042}
    out dx, al
    lidt [no_idt]
    ud2                                         // a triple fault ends any VM

// ---- Interrupts: eax is the line. Only the gate's registers are lost ---------------------------------------

interrupt:
    bts [pending], eax
    mov rdx, [{acknowledge} + rax * 8]
    test rdx, rdx
    jz 1f
    mov dword ptr [rdx], 1                      // virtio-mmio InterruptACK: used buffers
1:  mov ecx, 0x80B                              // end of interrupt
    xor eax, eax
    xor edx, edx
    wrmsr
    iretq

// ---- Traps: the registers go to ring 3's frame, and ring 3 to its handler -----------------------------------

trap_common:                                    // vector, error code, rip, cs, rflags, rsp, ss
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rax, cr2
    push rax
    cmp dword ptr [in_trap], 0
    jne trap_in_trap
    inc dword ptr [in_trap]
    cld
    mov esi, esp
    mov edi, offset {trap_frame}
    mov ecx, 23
    rep movsq
    mov edi, offset {trap_frame}
    xor ebp, ebp
    mov esp, STACK
    push RING3_DATA
    push offset __trap_stack_top - 8            // as after a call
    push 2
    push RING3_CODE
    push offset {trap_handler}
    iretq
trap_in_trap:
    mov edi, [{trap_status}]
    jmp gate_exit

// ---- The stubs, 16 bytes a vector ----------------------------------------------------------------------------

.fill 0x800 - (. - shoal_entry), 1, 0xCC
.set vector, 0
.rept 64
    .if vector == VECTOR_SPURIOUS
    iretq
    .elseif vector >= 0x20
    mov eax, vector - 0x20
    jmp interrupt
    .elseif vector == 6
    jmp invalid_opcode
    .elseif vector == 8
    jmp trap_in_trap
    .else
    .if (vector == 10) || (vector == 11) || (vector == 12) || (vector == 13) || (vector == 14) || (vector == 17) || (vector == 21)
    .else
    push 0
    .endif
    push vector
    jmp trap_common
    .endif
    .balign 16, 0xCC
    .set vector, vector + 1
.endr

// ---- Ring 3 --------------------------------------------------------------------------------------------------

.section .text.ring3, "ax", @progbits
.type ring3_start, @function
ring3_start:
    xor ebp, ebp                                // a backtrace ends here
    mov edi, esi
    call {start}
    ud2

.global shoal_gate
.type shoal_gate, @function
shoal_gate:
    ud2
    ret
