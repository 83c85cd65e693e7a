//! All networks of one daemon: what it is asked for, decided by the [book](crate::book), done by the [plumbing](crate::plumbing).
//!
//! ```text
//!            lease                 attach                  detach                release
//!  (nothing) -----> leased ------------------------> live --------> leased --------------> (nothing)
//!                   address and ports are chosen     tap, bridge, rules, ports, names
//! ```
//! The daemon writes a lease down before it attaches. Calls are synchronous, and one at a time: netlink answers in microseconds, and no two of them
//! may see half of one another.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::book::{Book, BookError, Entry, PlanError, RemoveError, SeatError};
use crate::error::SystemError;
use crate::name::Instance;
use crate::names::Names;
use crate::net::{Attachment, Known, Lease, LeaseRequest, Network, NetworkSpec};
use crate::nft::batch::Element;
use crate::plumbing::{self, BridgeError};
use crate::port::{PortSpec, Published};
use crate::probe;
use crate::reserve::{self, Reservation, ReserveError};
use crate::tap::TapError;
use crate::{conntrack, forwarding, link, resolv, rules};

/// Bytes of the largest packet where no route says.
const MTU: u16 = 1500;

/// What is the same for all networks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where IPv4 subnets are chosen from, each a /24.
    pub pool: Ipv4Net,
    /// Where the host's resolvers are written.
    pub resolv_conf: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pool: Ipv4Net::new_assert([10, 128, 0, 0].into(), 10),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// There can be no networks on this host.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something is missing.
    #[error("no networks on this host: {what}; {mend}")]
    Missing {
        /// What.
        what: String,
        /// How to mend it.
        mend: String,
    },
    /// The thread that answers names.
    #[error("cannot start the thread that answers names: {0}")]
    Names(std::io::Error),
}

/// A network cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It cannot be as asked.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The host's routes cannot be seen.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// A VM gets no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// No place in the network.
    #[error(transparent)]
    Seat(#[from] SeatError),
    /// A port is not to be had.
    #[error(transparent)]
    Port(#[from] ReserveError),
}

/// A VM cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It has no lease.
    #[error("VM {0} has no place in a network")]
    NoLease(String),
    /// It is attached.
    #[error("VM {0} is attached to its network already")]
    Twice(String),
    /// A port was taken meanwhile.
    #[error(transparent)]
    Port(#[from] ReserveError),
    /// The network's bridge.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The VM's tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The kernel refused something.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// What is there cannot be made what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The records contradict one another.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The kernel refused something.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// What [`Networks::reconcile`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Links that were nobody's, and are removed.
    pub removed: Vec<String>,
    /// VMs whose monitor lives and whose tap is gone: only a new start gives them another.
    pub lost: Vec<String>,
    /// What could not be brought back, in plain words.
    pub problems: Vec<String>,
}

/// What a VM's interface has carried, as the guest sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that the guest received.
    pub received_bytes: u64,
    /// Packets that it received.
    pub received_packets: u64,
    /// Bytes that it sent.
    pub sent_bytes: u64,
    /// Packets that it sent.
    pub sent_packets: u64,
}

/// All networks of one daemon.
#[derive(Debug)]
pub struct Networks {
    instance: Instance,
    config: Config,
    names: Names,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    /// The ports that are kept, by VM.
    kept: BTreeMap<String, Vec<Reservation>>,
}

impl Networks {
    /// Looks whether there can be networks. Makes nothing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(instance: Instance, config: Config) -> Result<Self, OpenError> {
        if let Some(missing) = probe::probe().into_iter().find(|missing| missing.fatal) {
            let probe::Missing { what, mend, .. } = missing;
            return Err(OpenError::Missing { what, mend });
        }
        let names = Names::start(config.resolv_conf.clone()).map_err(OpenError::Names)?;
        Ok(Self {
            instance,
            config,
            names,
            state: Mutex::default(),
        })
    }

    /// Chooses what a new network is. Makes nothing in the kernel: that comes with its first VM.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(&self, name: &str, spec: &NetworkSpec) -> Result<Network, CreateError> {
        let mut state = self.state();
        let routes = link::routes(None)?;
        let choice = (
            self.config.pool,
            link::mtu_out()?
                .unwrap_or(MTU)
                .clamp(crate::subnet::MTU_MIN, MTU),
        );
        Ok(state
            .book
            .create(name, spec, &self.instance, choice, &routes)?)
    }

    /// Removes a network in which no VM has a place.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub fn remove(&self, name: &str) -> Result<(), RemoveError> {
        self.state().book.remove(name)
    }

    /// All networks, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Network> {
        self.state().book.networks().cloned().collect()
    }

    /// What a network's bridge is called, where it is there: while a VM is attached.
    #[must_use]
    pub fn bridge(&self, network: &str) -> Option<String> {
        let state = self.state();
        let found = state.book.network(network)?;
        state.book.live_in(network).next()?;
        Some(self.instance.bridge(found.index))
    }

    /// Gives a VM a place in a network and the ports it asks for, and keeps both for it.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn lease(&self, request: &LeaseRequest) -> Result<Lease, LeaseError> {
        let mut state = self.state();
        let mut kept: Vec<(usize, Reservation)> = Vec::new();
        // Named ports first: a chosen one must not be among them.
        let mut specs: Vec<(usize, &PortSpec)> = request.ports.iter().enumerate().collect();
        specs.sort_by_key(|(_, spec)| spec.host.is_none());
        for (at, spec) in specs {
            if let Some(host) = spec.host {
                let port = spec.published(host);
                state.free(&port)?;
                if kept.iter().any(|(_, other)| other.port.collides(&port)) {
                    let (port, protocol) = (port.host, port.protocol);
                    return Err(ReserveError::Twice { port, protocol }.into());
                }
            }
            kept.push((at, reserve::reserve(spec)?));
        }
        kept.sort_by_key(|(at, _)| *at);
        let kept: Vec<Reservation> = kept.into_iter().map(|(_, kept)| kept).collect();
        let ports = kept.iter().map(|kept| kept.port).collect();
        let lease = state.book.lease(request, ports)?;
        state.kept.insert(lease.vm.clone(), kept);
        Ok(lease)
    }

    /// A VM's lease.
    #[must_use]
    pub fn leased(&self, vm: &str) -> Option<Lease> {
        self.state().book.entry(vm).map(|entry| entry.lease.clone())
    }

    /// Makes a VM's tap, with the bridge if it is the network's first, and all that belongs to them.
    ///
    /// # Errors
    /// [`AttachError`]; then everything is as it was before.
    pub fn attach(&self, vm: &str) -> Result<Attachment, AttachError> {
        let mut state = self.state();
        let entry = state.book.entry(vm).cloned();
        let entry = entry.ok_or_else(|| AttachError::NoLease(vm.to_owned()))?;
        if entry.live {
            return Err(AttachError::Twice(vm.to_owned()));
        }
        state.keep(&entry)?;
        state.book.set_live(vm, true);
        let attached = self.plumb(&state, &entry);
        if attached.is_err() {
            state.book.set_live(vm, false);
            // What was in the way may be in the way of this too, and is what the caller should hear of.
            let _ = self.unplumb(&mut state, &entry);
        }
        attached
    }

    /// Takes away what [`Networks::attach`] made, when the VM's monitor is gone; the lease stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn detach(&self, vm: &str) -> Result<(), SystemError> {
        let mut state = self.state();
        let Some(entry) = state.book.entry(vm).cloned() else {
            return Ok(());
        };
        state.kept.remove(vm);
        if !entry.live {
            return Ok(());
        }
        state.book.set_live(vm, false);
        self.unplumb(&mut state, &entry)
    }

    /// [Detaches](Networks::detach) a VM and gives back its place and its ports.
    ///
    /// # Errors
    /// The kernel's.
    pub fn release(&self, vm: &str) -> Result<(), SystemError> {
        let detached = self.detach(vm);
        self.state().book.release(vm);
        detached
    }

    /// What a VM's interface has carried; nothing where it has none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stats(&self, vm: &str) -> Result<Option<Stats>, SystemError> {
        let state = self.state();
        let Some((entry, network)) = state.entry_and_network(vm) else {
            return Ok(None);
        };
        let link = link::find(&self.instance.tap(network.index, entry.slot))?;
        Ok(link.map(|link| Stats {
            received_bytes: link.counters.sent.0,
            received_packets: link.counters.sent.1,
            sent_bytes: link.counters.received.0,
            sent_packets: link.counters.received.1,
        }))
    }

    /// Makes the kernel's state that of the records: what is nobody's goes, what is missing comes back. What is as it should be is not
    /// touched, so that traffic goes on.
    ///
    /// # Errors
    /// [`ReconcileError`]; what concerns one network or VM only is in [`Reconciled::problems`].
    pub fn reconcile(
        &self,
        networks: &[Network],
        vms: &[Known],
    ) -> Result<Reconciled, ReconcileError> {
        let mut state = self.state();
        state.book = Book::read(networks, vms)?;
        state.kept.clear();
        let mut found = Reconciled {
            removed: self.remove_strays(&state)?,
            ..Reconciled::default()
        };
        let live: Vec<Entry> = state
            .book
            .entries()
            .filter(|entry| entry.live)
            .cloned()
            .collect();
        if live.is_empty() {
            rules::clear(&self.instance)?;
            forwarding::turn_off()?;
            return Ok(found);
        }
        rules::replace(&self.instance, self.elements(&state))?;
        forwarding::turn_on()?;
        let networks: Vec<Network> = state.book.networks().cloned().collect();
        for network in networks {
            self.restore(&state, &network, &mut found);
        }
        for entry in &live {
            if let Err(error) = state.keep(entry) {
                found
                    .problems
                    .push(format!("VM {}: {error}", entry.lease.vm));
            }
        }
        Ok(found)
    }

    /// Brings back what is missing of a network.
    fn restore(&self, state: &State, network: &Network, found: &mut Reconciled) {
        let live: Vec<&Entry> = state.book.live_in(&network.name).collect();
        if live.is_empty() {
            return;
        }
        let bridge = match plumbing::bridge(&self.instance, network) {
            Ok(bridge) => bridge,
            Err(error) => {
                return found
                    .problems
                    .push(format!("network {}: {error}", network.name));
            }
        };
        for entry in live {
            match plumbing::readopt(&self.instance, network, &bridge, entry) {
                Ok(true) => {}
                Ok(false) => found.lost.push(entry.lease.vm.clone()),
                Err(error) => found
                    .problems
                    .push(format!("VM {}: {error}", entry.lease.vm)),
            }
        }
        self.tell_names(state, network);
    }

    fn remove_strays(&self, state: &State) -> Result<Vec<String>, SystemError> {
        let mut wanted = Vec::new();
        for entry in state.book.entries().filter(|entry| entry.live) {
            if let Some(network) = state.book.network(&entry.lease.network) {
                wanted.push(self.instance.bridge(network.index));
                wanted.push(self.instance.tap(network.index, entry.slot));
            }
        }
        let mut removed = Vec::new();
        for stray in link::links()? {
            if stray.ours && self.instance.owns(&stray.name) && !wanted.contains(&stray.name) {
                link::remove(&stray)?;
                removed.push(stray.name);
            }
        }
        Ok(removed)
    }

    /// Makes what a VM needs; the book says already that it is live.
    fn plumb(&self, state: &State, entry: &Entry) -> Result<Attachment, AttachError> {
        let no_lease = || AttachError::NoLease(entry.lease.vm.clone());
        let network = state
            .book
            .network(&entry.lease.network)
            .ok_or_else(no_lease)?;
        let mut elements = rules::of_network(&self.instance, network);
        elements.extend(plumbing::elements(&self.instance, network, entry));
        // Where somebody emptied the packet filter, all of it is made anew.
        if !rules::present(&self.instance)? || rules::add(&self.instance, elements).is_err() {
            rules::replace(&self.instance, self.elements(state))?;
        }
        forwarding::turn_on()?;
        let bridge = plumbing::bridge(&self.instance, network)?;
        let (tap, link) = plumbing::tap(&self.instance, network, &bridge, entry)?;
        conntrack::forget_ports(&entry.lease)?;
        self.tell_names(state, network);
        Ok(self.attachment(network, entry, tap, link))
    }

    fn attachment(
        &self,
        network: &Network,
        entry: &Entry,
        tap: std::os::fd::OwnedFd,
        link: String,
    ) -> Attachment {
        let gateways = [
            IpAddr::V4(network.gateway4()),
            IpAddr::V6(network.gateway6()),
        ];
        let hosts = resolv::read(&self.config.resolv_conf).into_iter();
        // A guest cannot ask at the host's own loopback.
        let hosts = hosts.filter(|address| !address.is_loopback());
        Attachment {
            tap,
            link,
            mac: entry.lease.mac(),
            ipv4: Ipv4Net::new(entry.lease.ipv4, network.ipv4.prefix_len()).unwrap_or_default(),
            ipv6: Ipv6Net::new(entry.lease.ipv6, network.ipv6.prefix_len()).unwrap_or_default(),
            gateway4: network.gateway4(),
            gateway6: network.gateway6(),
            dns: gateways.into_iter().take(1).chain(hosts).collect(),
            mtu: network.mtu,
        }
    }

    /// Takes away what a VM had; the book says already that it is not live. All of it is tried, whatever fails.
    fn unplumb(&self, state: &mut State, entry: &Entry) -> Result<(), SystemError> {
        state.kept.remove(&entry.lease.vm);
        let Some(network) = state.book.network(&entry.lease.network) else {
            return Ok(());
        };
        let tap = plumbing::remove(&self.instance.tap(network.index, entry.slot));
        let mut elements = plumbing::elements(&self.instance, network, entry);
        let mut bridge = Ok(false);
        if state.book.live_in(&network.name).next().is_none() {
            self.names.remove(&network.name);
            bridge = plumbing::remove(&self.instance.bridge(network.index));
            elements.extend(rules::of_network(&self.instance, network));
        } else {
            self.tell_names(state, network);
        }
        let last = !state.book.entries().any(|entry| entry.live);
        let filter = if last {
            rules::clear(&self.instance).and_then(|()| forwarding::turn_off())
        } else if rules::remove(&self.instance, elements).is_err() {
            rules::replace(&self.instance, self.elements(state))
        } else {
            Ok(())
        };
        tap.and(bridge)
            .and(filter)
            .and(conntrack::forget_vm(&entry.lease))
    }

    /// What the rules should say now.
    fn elements(&self, state: &State) -> Vec<Element> {
        let mut elements = Vec::new();
        for network in state.book.networks() {
            let mut live = state.book.live_in(&network.name).peekable();
            if live.peek().is_some() {
                elements.extend(rules::of_network(&self.instance, network));
            }
            elements
                .extend(live.flat_map(|entry| plumbing::elements(&self.instance, network, entry)));
        }
        elements
    }

    fn tell_names(&self, state: &State, network: &Network) {
        let live = state.book.live_in(&network.name);
        let zone = live.map(|entry| {
            (
                entry.lease.name.clone(),
                (entry.lease.ipv4, entry.lease.ipv6),
            )
        });
        let gateways = [network.gateway4().into(), network.gateway6().into()];
        self.names.set(&network.name, gateways, zone.collect());
    }

    /// A panic elsewhere leaves the book as it was between two of its methods.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether no VM of ours publishes this.
    fn free(&self, port: &Published) -> Result<(), ReserveError> {
        match self.book.publisher(port) {
            None => Ok(()),
            Some(vm) => Err(ReserveError::Vm {
                port: port.host,
                protocol: port.protocol,
                vm: vm.to_owned(),
            }),
        }
    }

    /// Keeps the ports of a VM, where they are not kept yet.
    fn keep(&mut self, entry: &Entry) -> Result<(), ReserveError> {
        if self.kept.contains_key(&entry.lease.vm) {
            return Ok(());
        }
        let kept = entry
            .lease
            .ports
            .iter()
            .map(reserve::keep)
            .collect::<Result<_, _>>()?;
        self.kept.insert(entry.lease.vm.clone(), kept);
        Ok(())
    }

    fn entry_and_network(&self, vm: &str) -> Option<(&Entry, &Network)> {
        let entry = self.book.entry(vm)?;
        Some((entry, self.book.network(&entry.lease.network)?))
    }
}
