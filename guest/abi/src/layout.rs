//! Guest-physical addresses and interrupt lines.
//!
//! ```text
//! 0x0000_0000  RAM; the first MiB holds what the monitor hands to the guest
//! 0x0010_0000  RAM; a guest's image is linked at or above this
//! 0xC000_0000  hole: no RAM up to 4 GiB
//! 0xD000_0000  virtio-mmio devices, one a page, in the order of their interrupt lines
//! 0xE000_0000  the boot module (the guest's own ELF file), read-only, where there is one
//! 0xFEC0_0000  I/O APIC
//! 0xFEE0_0000  local APIC
//! 0x1_0000_0000  RAM beyond 3 GiB
//! ```

/// Where the monitor puts the PVH start information (one page).
pub const START_INFO: u64 = 0x6000;
/// Where the monitor puts the memory map that the start information names (one page).
pub const MEMORY_MAP: u64 = 0x7000;
/// Where the monitor puts the command line, NUL-terminated.
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes there are for the command line, its NUL included.
pub const CMDLINE_MAX: usize = 0x1_0000;
/// Top of the conventional memory that a guest may use below 1 MiB.
pub const LOW_MEMORY_END: u64 = 0x9_FC00;
/// Lowest address of a guest's image.
pub const IMAGE_START: u64 = 0x10_0000;

/// End of RAM below 4 GiB; what a guest has more begins at [`HIGH_RAM_START`].
pub const LOW_RAM_END: u64 = 0xC000_0000;
/// Start of the RAM that did not fit below [`LOW_RAM_END`].
pub const HIGH_RAM_START: u64 = 0x1_0000_0000;

/// First virtio-mmio device.
pub const VIRTIO_MMIO_START: u64 = 0xD000_0000;
/// Bytes of a virtio-mmio device, and the distance between two.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;
/// Interrupt line of the first virtio-mmio device; the next has the next line.
pub const VIRTIO_GSI_FIRST: u32 = 5;
/// Last interrupt line of a virtio-mmio device: the I/O APIC has 24 pins.
pub const VIRTIO_GSI_LAST: u32 = 23;

/// Boot module: a read-only mapping of the guest's own ELF file, from which it reads its symbols.
pub const MODULE_START: u64 = 0xE000_0000;
/// Most bytes of the boot module.
pub const MODULE_MAX: u64 = 0x1000_0000;

/// I/O APIC.
pub const IOAPIC: u64 = 0xFEC0_0000;
/// Local APIC, where it is not in x2APIC mode.
pub const LAPIC: u64 = 0xFEE0_0000;

/// Interrupt line of the keyboard controller: Ctrl-Alt-Del asks the guest to shut down.
pub const I8042_GSI: u32 = 1;
/// Interrupt line of the serial port.
pub const SERIAL_GSI: u32 = 4;
