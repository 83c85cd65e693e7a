//! Which devices a description asks for, and where they are.
//!
//! | where | what | interrupt line |
//! |---|---|---|
//! | ports 0x3F8.. | serial port | 4 |
//! | ports 0x60, 0x64 | keyboard controller | 1 |
//! | ports 0x70, 0x71 | clock | |
//! | port 0xF4 | exit port | |
//! | port 0x6F0 | memory mover ([`super::mover`]: it is a virtual CPU's own, not on the bus) | |
//! | memory 0xD000_0000.. | virtio: console if there is one, entropy if asked for, disks, networks, sockets, balloon | 5.. |

use std::io;
use std::sync::Arc;

use abi::{layout, port};
use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::end::End;
use super::memory::Memory;
use crate::backend::console::Output;
use crate::backend::input::{Input, Room, Taker};
use crate::backend::tap::{Tap, TapError};
use crate::bus::{Bus, Taken};
use crate::device::exit::ExitPort;
use crate::device::i8042::{self, I8042};
use crate::device::rtc::{self, Rtc};
use crate::device::serial::{self, Serial};
use crate::device::{Device, Lifecycle};
use crate::event_loop::Subscriber;
use crate::meter::Meter;
use crate::spec;
use crate::virtio::VirtioDevice;
use crate::virtio::balloon::{Balloon, BalloonError};
use crate::virtio::block::{Block, BlockError};
use crate::virtio::console::Console;
use crate::virtio::entropy::Entropy;
use crate::virtio::mmio::{self, Transport};
use crate::virtio::net::{self, Net};
use crate::virtio::vsock::Vsock;

/// Devices could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// No descriptor left, or not one of the right kind.
    #[error("{0} cannot be made")]
    Make(&'static str, #[source] io::Error),
    /// KVM refused an interrupt line.
    #[error("KVM refused interrupt line {0}")]
    Line(u32, #[source] kvm_ioctls::Error),
    /// KVM refused a doorbell.
    #[error("KVM refused a doorbell at {0:#x}")]
    Doorbell(u64, #[source] kvm_ioctls::Error),
    /// A disk that cannot be.
    #[error(transparent)]
    Disk(#[from] BlockError),
    /// A balloon that cannot be.
    #[error(transparent)]
    Balloon(#[from] BalloonError),
    /// No tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// Two devices in one place.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// More virtio devices than interrupt lines.
    #[error("no interrupt line is left for another virtio device")]
    NoLine,
}

/// What a description asks for.
pub(super) struct Wanted {
    pub(super) console: Option<spec::Console>,
    pub(super) entropy: bool,
    pub(super) disks: Vec<spec::Disk>,
    pub(super) nets: Vec<spec::Net>,
    pub(super) vsock: Option<spec::Vsock>,
    pub(super) balloon: Option<spec::Balloon>,
}

/// A machine's devices.
pub(super) struct Devices {
    alive: Vec<Arc<dyn Lifecycle>>,
    subscribers: Vec<Subscriber>,
    words: Vec<abi::cmdline::Device>,
    keyboard: Arc<I8042>,
    disks: Vec<(spec::DeviceId, Arc<Transport<Block>>)>,
    nets: Vec<(spec::DeviceId, Arc<Transport<Net>>)>,
    balloon: Option<Arc<Transport<Balloon>>>,
}

/// Puts devices where they belong.
struct Builder<'a> {
    vm: &'a VmFd,
    memory: &'a Memory,
    meter: &'a Arc<Meter>,
    ports: Bus,
    mmio: Bus,
    alive: Vec<Arc<dyn Lifecycle>>,
    subscribers: Vec<Subscriber>,
    words: Vec<abi::cmdline::Device>,
}

impl Devices {
    /// Makes them, and the two buses on which they are.
    ///
    /// # Errors
    /// [`DevicesError`].
    pub(super) fn new(
        vm: &VmFd,
        memory: &Memory,
        wanted: Wanted,
        meter: &Arc<Meter>,
        end: &Arc<End>,
    ) -> Result<(Self, Bus, Bus), DevicesError> {
        let mut builder = Builder {
            vm,
            memory,
            meter,
            ports: Bus::default(),
            mmio: Bus::default(),
            alive: vec![],
            subscribers: vec![],
            words: vec![],
        };
        let (to, from) = wanted
            .console
            .map_or((None, None), |c| (Some(c.output), c.input));
        let has_console = to.is_some();
        let output =
            Output::new(to, Arc::clone(meter)).map_err(|e| DevicesError::Make("the console", e))?;
        let output = Arc::new(output);
        let room = Room::new().map_err(|e| DevicesError::Make("the console", e))?;

        // A driver of the virtio console is a better taker than the serial port: it comes first.
        let mut takers: Vec<Arc<dyn Taker>> = vec![];
        if has_console {
            let console = Console::new(Arc::clone(&output), room.clone());
            takers.push(builder.virtio(console)?);
        }
        if wanted.entropy {
            builder.virtio(Entropy::new(Arc::clone(meter)))?;
        }
        let mut disks = vec![];
        for disk in wanted.disks {
            let id = disk.id.clone();
            let block = Block::new(disk, memory.clone(), Arc::clone(meter))?;
            disks.push((id, builder.virtio(block)?));
        }
        let mut nets = vec![];
        for net in wanted.nets {
            let id = net.id;
            let link = Tap::new(net.tap)?;
            let settings = net::Settings {
                mac: net.mac,
                mtu: net.mtu,
                receive: net.receive,
                transmit: net.transmit,
            };
            let net = Net::new(Box::new(link), settings, Arc::clone(meter))
                .map_err(|e| DevicesError::Make("a network device", e))?;
            nets.push((id, builder.virtio(net)?));
        }
        if let Some(vsock) = wanted.vsock {
            let vsock = Vsock::new(vsock, Arc::clone(meter))
                .map_err(|e| DevicesError::Make("the socket device", e))?;
            builder.virtio(vsock)?;
        }
        let mut balloon = None;
        if let Some(wanted) = wanted.balloon {
            let made = Balloon::new(wanted, memory.clone(), Arc::clone(meter))?;
            balloon = Some(builder.virtio(made)?);
        }
        let line = builder.line(layout::SERIAL_GSI)?;
        let serial = Arc::new(Serial::new(output, line, room.clone()));
        builder.port(port::SERIAL, serial::SIZE, 0, serial.clone())?;
        builder.alive.push(serial.clone());
        takers.push(serial);
        if let Some(from) = from {
            let input = Input::new(from, takers, room, Arc::clone(meter));
            builder.subscribers.push(Arc::new(input));
        }
        let line = builder.line(layout::I8042_GSI)?;
        let keyboard = Arc::new(I8042::new(Arc::clone(end), line));
        builder.port(port::I8042_DATA, 1, i8042::DATA, keyboard.clone())?;
        builder.port(port::I8042_COMMAND, 1, i8042::COMMAND, keyboard.clone())?;
        builder.port(port::RTC_INDEX, 2, rtc::INDEX, Arc::new(Rtc::default()))?;
        let exit = Arc::new(ExitPort::new(Arc::clone(end)));
        builder.port(port::EXIT, 1, 0, exit)?;
        let devices = Self {
            alive: builder.alive,
            subscribers: builder.subscribers,
            words: builder.words,
            keyboard,
            disks,
            nets,
            balloon,
        };
        Ok((devices, builder.ports, builder.mmio))
    }

    /// Calls every device.
    pub(super) fn each(&self, call: impl Fn(&dyn Lifecycle)) {
        self.alive.iter().for_each(|device| call(&**device));
    }

    /// What the event loop serves.
    pub(super) fn subscribers(&self) -> Vec<Subscriber> {
        self.subscribers.clone()
    }

    /// What the command line says of them.
    pub(super) fn words(&self) -> &[abi::cmdline::Device] {
        &self.words
    }

    /// The disk with this name.
    pub(super) fn disk(&self, id: &str) -> Option<&Transport<Block>> {
        let mut disks = self.disks.iter();
        disks
            .find(|(i, _)| i.as_str() == id)
            .map(|(_, disk)| &**disk)
    }

    /// The network device with this name.
    pub(super) fn net(&self, id: &str) -> Option<&Transport<Net>> {
        let mut nets = self.nets.iter();
        nets.find(|(i, _)| i.as_str() == id).map(|(_, net)| &**net)
    }

    /// The memory balloon.
    pub(super) fn balloon(&self) -> Option<&Transport<Balloon>> {
        self.balloon.as_deref()
    }

    /// The keyboard controller.
    pub(super) fn keyboard(&self) -> &I8042 {
        &self.keyboard
    }
}

impl Builder<'_> {
    /// An event that raises interrupt line `gsi`.
    fn line(&self, gsi: u32) -> Result<EventFd, DevicesError> {
        let line = event()?;
        self.vm
            .register_irqfd(&line, gsi)
            .map_err(|e| DevicesError::Line(gsi, e))?;
        Ok(line)
    }

    fn port(
        &mut self,
        first: u16,
        count: u64,
        offset: u64,
        device: Arc<dyn Device>,
    ) -> Result<(), Taken> {
        let first = u64::from(first);
        self.ports.insert(first..first + count, offset, device)
    }

    /// A virtio device at the next free place.
    fn virtio<D: VirtioDevice + 'static>(
        &mut self,
        device: D,
    ) -> Result<Arc<Transport<D>>, DevicesError> {
        let index = self.words.len() as u32;
        let gsi = layout::VIRTIO_GSI_FIRST + index;
        if gsi > layout::VIRTIO_GSI_LAST {
            return Err(DevicesError::NoLine);
        }
        let base = layout::VIRTIO_MMIO_START + u64::from(index) * layout::VIRTIO_MMIO_SIZE;
        let mut doorbells = vec![];
        for queue in 0..device.queue_sizes().len() as u32 {
            let doorbell = event()?;
            let address = base + mmio::QUEUE_NOTIFY;
            self.vm
                .register_ioevent(&doorbell, &IoEventAddress::Mmio(address), queue)
                .map_err(|e| DevicesError::Doorbell(address, e))?;
            doorbells.push(doorbell);
        }
        let line = self.line(gsi)?;
        let memory = self.memory.clone();
        let transport = Transport::new(device, memory, line, doorbells, Arc::clone(self.meter));
        let transport = Arc::new(transport);
        self.mmio
            .insert(base..base + layout::VIRTIO_MMIO_SIZE, 0, transport.clone())?;
        self.alive.push(transport.clone());
        self.subscribers.push(transport.clone());
        self.words.push(abi::cmdline::Device {
            base,
            size: layout::VIRTIO_MMIO_SIZE,
            gsi,
        });
        Ok(transport)
    }
}

fn event() -> Result<EventFd, DevicesError> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
        .map_err(|e| DevicesError::Make("an event", e))
}
