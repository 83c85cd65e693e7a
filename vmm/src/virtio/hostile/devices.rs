//! The devices that are driven, and what an honest driver asks of each.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::MemfdFlags;
use vm_memory::{FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::MEMORY;
use super::peers::{self, Peers, Wire};
use crate::backend::console::Output;
use crate::backend::input::{Room, Taker};
use crate::device::{Device, Lifecycle};
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter};
use crate::spec;
use crate::virtio::VirtioDevice;
use crate::virtio::balloon::Balloon;
use crate::virtio::block::Block;
use crate::virtio::console::Console;
use crate::virtio::entropy::Entropy;
use crate::virtio::mmio::Transport;
use crate::virtio::net::{Net, Settings};
use crate::virtio::vsock::Vsock;

/// Sectors of a disk.
const SECTORS: u64 = 64;

/// A device behind its transport.
pub(super) trait Driven: Device + Lifecycle {
    /// Serves a queue for one turn; says whether there is more to do.
    fn serve(&self, queue: usize) -> bool;
}

impl<D: VirtioDevice> Driven for Transport<D> {
    fn serve(&self, queue: usize) -> bool {
        Self::serve(self, queue)
    }
}

/// A device to be driven.
pub(super) struct Subject {
    pub(super) device: Arc<dyn Driven>,
    pub(super) queues: usize,
    /// What an honest driver asks for.
    pub(super) honest: Honest,
    /// Somebody on the host who types.
    pub(super) taker: Option<Arc<dyn Taker>>,
    /// Somebody on the host who sends and receives.
    pub(super) peers: Option<Peers>,
}

/// A chain, and what is counted once it was served.
#[derive(Clone, Copy)]
pub(super) struct Honest {
    pub(super) queue: usize,
    /// Bytes that the device reads.
    pub(super) out: &'static [u8],
    /// How many bytes it writes.
    pub(super) filled: u32,
    pub(super) counter: Counter,
    pub(super) adds: u64,
}

/// Makes devices on one memory.
pub(super) struct Maker {
    pub(super) memory: Memory,
    pub(super) meter: Arc<Meter>,
}

impl Maker {
    pub(super) fn new() -> io::Result<Self> {
        let meter = Meter::create(None::<File>).map_err(io::Error::other)?;
        // As a guest's: a file, in which there can be holes.
        let place = FileOffset::new(file(MEMORY)?, 0);
        let ranges = [(GuestAddress(0), MEMORY as usize, Some(place))];
        Ok(Self {
            memory: Memory::from_ranges_with_files(ranges).map_err(io::Error::other)?,
            meter: Arc::new(meter),
        })
    }

    fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    pub(super) fn console(&self) -> io::Result<Subject> {
        let output = Arc::new(Output::new(None, self.meter())?);
        let honest = Honest {
            queue: 1,
            out: b"a line.\n",
            filled: 0,
            counter: Counter::ConsoleOut,
            adds: 8,
        };
        let transport = self.transport(Console::new(output, Room::new()?))?;
        Ok(Subject {
            device: transport.clone(),
            queues: 2,
            honest,
            taker: Some(transport),
            peers: None,
        })
    }

    pub(super) fn entropy(&self) -> io::Result<Subject> {
        let honest = Honest {
            queue: 0,
            out: &[],
            filled: 8,
            counter: Counter::Entropy,
            adds: 8,
        };
        self.subject(Entropy::new(self.meter()), honest)
    }

    pub(super) fn block(&self, engine: spec::IoEngine) -> io::Result<Subject> {
        let disk = spec::Disk {
            id: "disk".parse().map_err(io::Error::other)?,
            file: file(SECTORS * 512)?.into(),
            read_only: false,
            rate: spec::RateLimit::default(),
            io_engine: Some(engine),
        };
        let block = Block::new(disk, self.memory.clone(), self.meter());
        // A read of the first sector: all of its header is zero.
        let honest = Honest {
            queue: 0,
            out: &[0; 16],
            filled: 513,
            counter: Counter::DiskReads,
            adds: 1,
        };
        self.subject(block.map_err(io::Error::other)?, honest)
    }

    pub(super) fn balloon(&self) -> io::Result<Subject> {
        let wanted = spec::Balloon {
            target_mib: 0,
            deflate_on_oom: true,
            stats_interval_s: 1,
            free_page_reporting: true,
        };
        let balloon =
            Balloon::new(wanted, self.memory.clone(), self.meter()).map_err(io::Error::other)?;
        let honest = Honest {
            queue: 1,
            out: &[3, 0, 0, 0],
            filled: 0,
            counter: Counter::BalloonDeflated,
            adds: 1,
        };
        self.subject(balloon, honest)
    }

    pub(super) fn net(&self) -> io::Result<Subject> {
        let (wire, outside) = Wire::new()?;
        let net = Net::new(Box::new(wire), Settings::default(), self.meter())?;
        let honest = Honest {
            queue: 1,
            out: &[0; 60],
            filled: 0,
            counter: Counter::NetSent,
            adds: 1,
        };
        let mut subject = self.subject(net, honest)?;
        subject.peers = Some(Peers::outside(outside));
        Ok(subject)
    }

    pub(super) fn vsock(&self) -> io::Result<Subject> {
        let (listener, peers) = Peers::at_a_listener()?;
        let wanted = spec::Vsock {
            cid: peers::CID,
            listener,
            out: Some(peers.out()?),
        };
        let vsock = Vsock::new(wanted, self.meter())?;
        let honest = Honest {
            queue: 1,
            out: &peers::DATA,
            filled: 0,
            counter: Counter::VsockSent,
            adds: peers::DATA_BYTES,
        };
        let mut subject = self.subject(vsock, honest)?;
        subject.peers = Some(peers);
        Ok(subject)
    }

    fn subject<D: VirtioDevice + 'static>(&self, device: D, honest: Honest) -> io::Result<Subject> {
        let queues = device.queue_sizes().len();
        Ok(Subject {
            device: self.transport(device)?,
            queues,
            honest,
            taker: None,
            peers: None,
        })
    }

    fn transport<D: VirtioDevice>(&self, device: D) -> io::Result<Arc<Transport<D>>> {
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        let queues = device.queue_sizes().iter();
        let doorbells = queues.map(|_| event()).collect::<io::Result<_>>()?;
        let memory = self.memory.clone();
        Ok(Arc::new(Transport::new(
            device,
            memory,
            event()?,
            doorbells,
            self.meter(),
        )))
    }
}

fn file(bytes: u64) -> io::Result<File> {
    let file: OwnedFd = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, bytes)?;
    Ok(file.into())
}
