//! The book of networks and leases: all decisions, none of the deeds.
//!
//! It holds what the daemon has written down, and is made from it again at each start. Nothing here asks the kernel: what
//! the host's routes take is told, and published ports are reserved elsewhere.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::name::Instance;
use crate::net::{FIRST_SLOT, Known, Lease, LeaseRequest, Network, NetworkSpec};
use crate::port::Published;
use crate::slots::Slots;
use crate::subnet::{self, SpecError};

/// Most bytes of a network's name, and of a VM's: those of a label in DNS.
const NAME_MAX: usize = 63;

/// A network cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a name.
    #[error(
        "{0:?} is not a network's name: 1 to {NAME_MAX} lower-case letters, digits and hyphens, not beginning with a hyphen"
    )]
    Name(String),
    /// There is one.
    #[error("there is a network {0} already")]
    Exists(String),
    /// What was asked for cannot be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Somebody has that subnet.
    #[error("subnet {wanted} overlaps {taken}, which {by} has")]
    Overlaps {
        /// The subnet that was asked for.
        wanted: String,
        /// The other.
        taken: String,
        /// Whose it is.
        by: &'static str,
    },
    /// All of them are taken.
    #[error("no {0} subnet is free: name one, or remove a network")]
    NoSubnet(&'static str),
    /// All numbers are taken.
    #[error("there are as many networks as can be")]
    TooMany,
}

/// A VM gets no place in a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// Not a name.
    #[error(
        "{0:?} cannot be a name in a network: 1 to {NAME_MAX} lower-case letters, digits and hyphens, not beginning with a hyphen"
    )]
    Name(String),
    /// No such network.
    #[error("there is no network {0}")]
    NoNetwork(String),
    /// It has one.
    #[error("VM {0} has a place in a network already")]
    Twice(String),
    /// Another VM is called that.
    #[error("network {network} has a VM called {name} already")]
    NameTaken {
        /// The network.
        network: String,
        /// The name.
        name: String,
    },
    /// Not an address that a VM can have there.
    #[error("{address} is no address for a VM in network {network} ({subnet})")]
    NotThere {
        /// The address.
        address: Ipv4Addr,
        /// The network.
        network: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
    /// Another VM has it.
    #[error("{address} in network {network} belongs to VM {vm}")]
    Taken {
        /// The address.
        address: Ipv4Addr,
        /// The network.
        network: String,
        /// Who has it.
        vm: String,
    },
    /// No address is free.
    #[error("all {all} addresses of network {network} ({subnet}) are taken")]
    Full {
        /// How many there are.
        all: usize,
        /// The network.
        network: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
}

/// A network cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// No such network.
    #[error("there is no network {0}")]
    NoNetwork(String),
    /// VMs have places in it.
    #[error("network {network} has {count} VMs, {first} among them")]
    InUse {
        /// The network.
        network: String,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
}

/// What the daemon has written down makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Two networks have the same name, number or subnet.
    #[error("networks {0} and {1} have the same name, number or subnet")]
    Networks(String, String),
    /// A VM's place cannot be.
    #[error("what is written down of VM {vm} cannot be: {source}")]
    Lease {
        /// The VM.
        vm: String,
        /// What is wrong.
        source: SeatError,
    },
}

/// What the host's routes take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    pub(crate) ipv4: Vec<Ipv4Net>,
    pub(crate) ipv6: Vec<Ipv6Net>,
}

/// A network and who is in it.
#[derive(Debug)]
struct Page {
    network: Network,
    slots: Slots,
}

/// A VM's lease, and whether its plumbing is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) lease: Lease,
    pub(crate) slot: u16,
    pub(crate) live: bool,
}

/// All networks and leases of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pages: BTreeMap<String, Page>,
    leases: BTreeMap<String, Entry>,
}

impl Book {
    /// The book of what is written down.
    pub(crate) fn read(networks: &[Network], known: &[Known]) -> Result<Self, BookError> {
        let mut book = Self::default();
        for network in networks {
            if let Some(other) = book.networks().find(|other| same(other, network)) {
                return Err(BookError::Networks(
                    other.name.clone(),
                    network.name.clone(),
                ));
            }
            book.insert(network.clone());
        }
        for Known { lease, live } in known {
            let seated = book.seat(lease.clone(), *live);
            seated.map_err(|source| BookError::Lease {
                vm: lease.vm.clone(),
                source,
            })?;
        }
        Ok(book)
    }

    pub(crate) fn networks(&self) -> impl Iterator<Item = &Network> {
        self.pages.values().map(|page| &page.network)
    }

    pub(crate) fn network(&self, name: &str) -> Option<&Network> {
        self.pages.get(name).map(|page| &page.network)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.leases.values()
    }

    pub(crate) fn entry(&self, vm: &str) -> Option<&Entry> {
        self.leases.get(vm)
    }

    /// Notes whether a VM's plumbing is wanted.
    pub(crate) fn set_live(&mut self, vm: &str, live: bool) {
        if let Some(entry) = self.leases.get_mut(vm) {
            entry.live = live;
        }
    }

    /// VMs of a network whose plumbing is wanted.
    pub(crate) fn live_in(&self, network: &str) -> impl Iterator<Item = &Entry> {
        self.entries()
            .filter(move |entry| entry.live && entry.lease.network == network)
    }

    /// Whom a published port would collide with, by name.
    pub(crate) fn publisher(&self, port: &Published) -> Option<&str> {
        let entry = self
            .entries()
            .find(|entry| entry.lease.ports.iter().any(|other| other.collides(port)))?;
        Some(&entry.lease.name)
    }

    /// Plans a network and notes it.
    pub(crate) fn create(
        &mut self,
        name: &str,
        spec: &NetworkSpec,
        instance: &Instance,
        (pool, mtu): (Ipv4Net, u16),
        routes: &Routes,
    ) -> Result<Network, PlanError> {
        if !is_name(name) {
            return Err(PlanError::Name(name.chars().take(NAME_MAX + 1).collect()));
        }
        if self.pages.contains_key(name) {
            return Err(PlanError::Exists(name.to_owned()));
        }
        subnet::check(spec)?;
        let used = |index| self.networks().any(|other| other.index == index);
        let index = (0..=u16::MAX)
            .find(|&index| !used(index))
            .ok_or(PlanError::TooMany)?;
        let network = Network {
            name: name.to_owned(),
            index,
            ipv4: self.subnet4(spec.ipv4, pool, instance.number(), routes)?,
            ipv6: self.subnet6(spec.ipv6, instance.global_id(), index, routes)?,
            mtu: spec.mtu.unwrap_or(mtu),
        };
        self.insert(network.clone());
        Ok(network)
    }

    fn subnet4(
        &self,
        wanted: Option<Ipv4Net>,
        pool: Ipv4Net,
        from: u32,
        routes: &Routes,
    ) -> Result<Ipv4Net, PlanError> {
        let mut ours: Vec<Ipv4Net> = self.networks().map(|network| network.ipv4).collect();
        if let Some(wanted) = wanted {
            overlap(wanted, subnet::taken4(wanted, &ours), "another network")?;
            overlap(
                wanted,
                subnet::taken4(wanted, &routes.ipv4),
                "a route of the host",
            )?;
            return Ok(wanted);
        }
        ours.extend(&routes.ipv4);
        subnet::choose4(pool, from, &ours).ok_or(PlanError::NoSubnet("IPv4"))
    }

    fn subnet6(
        &self,
        wanted: Option<Ipv6Net>,
        id: [u8; 5],
        index: u16,
        routes: &Routes,
    ) -> Result<Ipv6Net, PlanError> {
        let mut ours: Vec<Ipv6Net> = self.networks().map(|network| network.ipv6).collect();
        if let Some(wanted) = wanted {
            overlap(wanted, subnet::taken6(wanted, &ours), "another network")?;
            overlap(
                wanted,
                subnet::taken6(wanted, &routes.ipv6),
                "a route of the host",
            )?;
            return Ok(wanted);
        }
        ours.extend(&routes.ipv6);
        subnet::choose6(id, index, &ours).ok_or(PlanError::NoSubnet("IPv6"))
    }

    /// Removes a network in which no VM has a place.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), RemoveError> {
        if !self.pages.contains_key(name) {
            return Err(RemoveError::NoNetwork(name.to_owned()));
        }
        let inside = || self.entries().filter(|entry| entry.lease.network == name);
        if let Some(first) = inside().next() {
            return Err(RemoveError::InUse {
                network: name.to_owned(),
                first: first.lease.name.clone(),
                count: inside().count(),
            });
        }
        self.pages.remove(name);
        Ok(())
    }

    /// Gives a VM a place, with the ports that were chosen for it.
    pub(crate) fn lease(
        &mut self,
        request: &LeaseRequest,
        ports: Vec<Published>,
    ) -> Result<Lease, SeatError> {
        self.check_seat(&request.vm, &request.name, &request.network)?;
        let no_network = || SeatError::NoNetwork(request.network.clone());
        let page = self
            .pages
            .get_mut(&request.network)
            .ok_or_else(no_network)?;
        let slot = match request.ipv4 {
            None => page.slots.next().ok_or_else(|| SeatError::Full {
                all: page.slots.capacity(),
                network: request.network.clone(),
                subnet: page.network.ipv4,
            })?,
            Some(address) => take(page, &self.leases, address)?,
        };
        let lease = Lease {
            vm: request.vm.clone(),
            name: request.name.clone(),
            network: request.network.clone(),
            ipv4: page.network.ipv4_at(slot),
            ipv6: page.network.ipv6_at(slot),
            ports,
        };
        let entry = Entry {
            lease: lease.clone(),
            slot,
            live: false,
        };
        self.leases.insert(lease.vm.clone(), entry);
        Ok(lease)
    }

    /// Notes a lease that was given before.
    fn seat(&mut self, lease: Lease, live: bool) -> Result<(), SeatError> {
        self.check_seat(&lease.vm, &lease.name, &lease.network)?;
        let no_network = || SeatError::NoNetwork(lease.network.clone());
        let page = self.pages.get_mut(&lease.network).ok_or_else(no_network)?;
        let slot = take(page, &self.leases, lease.ipv4)?;
        self.leases
            .insert(lease.vm.clone(), Entry { lease, slot, live });
        Ok(())
    }

    fn check_seat(&self, vm: &str, name: &str, network: &str) -> Result<(), SeatError> {
        if !is_name(name) {
            return Err(SeatError::Name(name.chars().take(NAME_MAX + 1).collect()));
        }
        if self.leases.contains_key(vm) {
            return Err(SeatError::Twice(vm.to_owned()));
        }
        let named = |entry: &Entry| entry.lease.network == network && entry.lease.name == name;
        if self.entries().any(named) {
            return Err(SeatError::NameTaken {
                network: network.to_owned(),
                name: name.to_owned(),
            });
        }
        Ok(())
    }

    /// Forgets a VM's place.
    pub(crate) fn release(&mut self, vm: &str) -> Option<Entry> {
        let entry = self.leases.remove(vm)?;
        if let Some(page) = self.pages.get_mut(&entry.lease.network) {
            page.slots.free(entry.slot);
        }
        Some(entry)
    }

    fn insert(&mut self, network: Network) {
        let slots = Slots::new(FIRST_SLOT, network.last_slot());
        self.pages
            .insert(network.name.clone(), Page { network, slots });
    }
}

fn take(
    page: &mut Page,
    leases: &BTreeMap<String, Entry>,
    address: Ipv4Addr,
) -> Result<u16, SeatError> {
    let network = &page.network;
    let slot = network
        .slot_of(address)
        .ok_or_else(|| SeatError::NotThere {
            address,
            network: network.name.clone(),
            subnet: network.ipv4,
        })?;
    if page.slots.take(slot) {
        return Ok(slot);
    }
    let holds = |entry: &&Entry| entry.slot == slot && entry.lease.network == network.name;
    let holder = leases.values().find(holds);
    Err(SeatError::Taken {
        address,
        network: network.name.clone(),
        vm: holder.map_or_else(String::new, |entry| entry.lease.vm.clone()),
    })
}

fn overlap<N: ToString>(wanted: N, taken: Option<N>, by: &'static str) -> Result<(), PlanError> {
    match taken {
        None => Ok(()),
        Some(taken) => Err(PlanError::Overlaps {
            wanted: wanted.to_string(),
            taken: taken.to_string(),
            by,
        }),
    }
}

fn same(a: &Network, b: &Network) -> bool {
    let overlaps =
        subnet::taken4(a.ipv4, &[b.ipv4]).is_some() || subnet::taken6(a.ipv6, &[b.ipv6]).is_some();
    a.name == b.name || a.index == b.index || overlaps
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-')
}
