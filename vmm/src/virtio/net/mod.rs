//! The network device (section 5.1): one pair of queues between a driver and a tap.
//!
//! ```text
//!  receive   tap --readv--> buffers of the driver, as many as the frame needs --> given back together
//!  transmit  buffers of the driver --writev--> tap
//! ```
//!
//! A frame goes from the tap into guest memory, and back, by one system call and no copy; what is left to do to it (checksums, cutting large
//! TCP packets) is said in its header, which driver and kernel understand alike. A guest that has no buffers leaves frames in the tap,
//! which drops what it has no room for; a frame that the tap does not take is dropped and counted, as a wire would. A tap whose
//! interface is gone is a wire that was pulled out: the device stays.

mod receive;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};

use super::VirtioDevice;
use super::ring::{BadChain, Broken, Chain, Ring};
use crate::backend::tap::{HEADER, Link, Offloads};
use crate::backend::vector::Vector;
use crate::meter::{Counter, Meter};
use crate::rate::{LimitChange, Limiter};
use crate::spec::{Mac, RateLimit};

/// Device id.
const ID: u32 = 1;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUES: [u16; 2] = [256, 256];
/// Bytes of an Ethernet header and one VLAN's tag.
const ETHERNET: usize = 14 + 4;
/// Bytes of a packet where nobody says otherwise.
const DEFAULT_MTU: u16 = 1500;
/// Most bytes of a frame and its header: a packet of IP, however large.
const FRAME_MAX: usize = HEADER + ETHERNET + 65535;

/// What a device is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Its hardware address; the driver chooses where there is none.
    pub mac: Option<Mac>,
    /// Most bytes of a packet, where the driver is told.
    pub mtu: Option<u16>,
    /// Limits of what the guest receives.
    pub receive: RateLimit,
    /// Limits of what the guest sends.
    pub transmit: RateLimit,
}

/// The device.
pub struct Net {
    link: Box<dyn Link>,
    config: [u8; 12],
    features: u64,
    mtu: u16,
    /// What the driver agreed on.
    active: u64,
    receive_limit: Limiter,
    transmit_limit: Limiter,
    meter: Arc<Meter>,
}

impl Net {
    /// A device whose frames come from and go to `link`.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn new(link: Box<dyn Link>, settings: Settings, meter: Arc<Meter>) -> io::Result<Self> {
        let mut features = [
            VIRTIO_NET_F_CSUM,
            VIRTIO_NET_F_GUEST_CSUM,
            VIRTIO_NET_F_GUEST_TSO4,
            VIRTIO_NET_F_GUEST_TSO6,
            VIRTIO_NET_F_HOST_TSO4,
            VIRTIO_NET_F_HOST_TSO6,
            VIRTIO_NET_F_MRG_RXBUF,
            VIRTIO_NET_F_STATUS,
        ]
        .iter()
        .fold(0, |all, feature| all | 1 << feature);
        // Address, status, pairs of queues (of which one is said elsewhere), size of packets.
        let mut config = [0; 12];
        config[6..8].copy_from_slice(&(VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
        if let Some(mac) = settings.mac {
            features |= 1 << VIRTIO_NET_F_MAC;
            config[..6].copy_from_slice(&mac.bytes());
        }
        if let Some(mtu) = settings.mtu {
            features |= 1 << VIRTIO_NET_F_MTU;
            config[10..].copy_from_slice(&mtu.to_le_bytes());
        }
        Ok(Self {
            link,
            config,
            features,
            mtu: settings.mtu.unwrap_or(DEFAULT_MTU),
            active: 0,
            receive_limit: Limiter::new(settings.receive)?,
            transmit_limit: Limiter::new(settings.transmit)?,
            meter,
        })
    }

    /// Changes its limits. Both queues should be served afterwards.
    pub fn limit(&mut self, receive: LimitChange, transmit: LimitChange) {
        self.receive_limit.change(receive);
        self.transmit_limit.change(transmit);
    }

    fn has(&self, feature: u32) -> bool {
        self.active & 1 << feature != 0
    }

    fn offloads(&self) -> Offloads {
        Offloads {
            checksum: self.has(VIRTIO_NET_F_GUEST_CSUM),
            tso4: self.has(VIRTIO_NET_F_GUEST_TSO4),
            tso6: self.has(VIRTIO_NET_F_GUEST_TSO6),
        }
    }

    fn transmit(&mut self, ring: &mut Ring<'_>) -> Result<(), Broken> {
        self.transmit_limit.clear();
        while self.transmit_limit.admits()
            && let Some(chain) = ring.next_chain()?
        {
            match frame(&chain) {
                Ok(frame) => self.send(&frame),
                Err(BadChain) => ring.note_bad_chain(),
            }
            ring.done(&chain, 0)?;
        }
        Ok(())
    }

    fn send(&mut self, frame: &Vector<'_>) {
        let length = (frame.len() - HEADER) as u64;
        self.transmit_limit.spend(length);
        match frame.write(&*self.link) {
            Ok(_) => {
                self.meter.add(Counter::NetSent, 1);
                self.meter.add(Counter::NetSentBytes, length);
            }
            // No room, or a header that the kernel makes no sense of.
            Err(Errno::AGAIN | Errno::INVAL | Errno::NOBUFS | Errno::MSGSIZE) => {
                self.meter.add(Counter::NetDropped, 1);
            }
            Err(_) => self.meter.add(Counter::NetErrors, 1),
        }
    }
}

/// The frame that a driver wants to send, behind its header.
fn frame<'a>(chain: &Chain<'a>) -> Result<Vector<'a>, BadChain> {
    let frame = chain.vector(false)?;
    if (HEADER + 1..=FRAME_MAX).contains(&frame.len()) {
        Ok(frame)
    } else {
        Err(BadChain)
    }
}

impl VirtioDevice for Net {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn wakes(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        vec![
            (RECEIVE, self.link.as_fd()),
            (RECEIVE, self.receive_limit.as_fd()),
            (TRANSMIT, self.transmit_limit.as_fd()),
        ]
    }

    fn activate(&mut self, features: u64) {
        self.active = features;
        self.link.set_offloads(self.offloads());
        self.link.forget();
    }

    fn serve(&mut self, index: usize, ring: &mut Ring<'_>) -> Result<(), Broken> {
        match index {
            RECEIVE => self.receive(ring),
            _ => self.transmit(ring),
        }
    }

    fn reset(&mut self) {
        self.active = 0;
    }
}

#[cfg(test)]
mod tests;
