//! Names of VMs: a small resolver at each network's gateway.
//!
//! ```text
//! guest --"db"--> gateway:53 --(a VM of this network)--> its addresses
//!                            \-(any other name)--------> the host's resolvers, and their answer back
//! ```
//! A name is known as `db` and as `db.shoal`, in its own network only. The resolver is part of the daemon and is away when that is: then nobody
//! answers at the gateway, the guest's C library hears so at once, and asks the next resolver that it was told, which is the host's. So the world's names
//! are found all the time, and the VMs' again when the daemon is back. (A hosts file in each guest would outlive the daemon, but would have to be
//! changed in every guest for each that comes or goes, by an agent which some guests do not have.)
//!
//! - [`answer`]: what to say to a packet (pure).
//! - [`server`]: sockets and forwarding.

mod answer;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

/// The names of one network.
pub(crate) type Zone = BTreeMap<String, (Ipv4Addr, Ipv6Addr)>;
type Zones = Arc<RwLock<HashMap<String, Zone>>>;

/// What the thread is told.
enum Order {
    /// Answer at these addresses for a network.
    Open(String, [IpAddr; 2]),
    /// Answer no more.
    Close(String),
}

/// The thread that answers; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Names {
    zones: Zones,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    /// Starts the thread, which asks the resolvers in `resolv_conf` for what it does not know.
    pub(crate) fn start(resolv_conf: PathBuf) -> io::Result<Self> {
        let zones = Zones::default();
        let (orders, queue) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let seen = Arc::clone(&zones);
        let thread = thread::Builder::new().name("names".to_owned());
        let thread =
            thread.spawn(move || runtime.block_on(server::run(queue, seen, resolv_conf)))?;
        Ok(Self {
            zones,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Says what a network's names are, and that they are answered at its gateways.
    pub(crate) fn set(&self, network: &str, gateways: [IpAddr; 2], zone: Zone) {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        zones.insert(network.to_owned(), zone);
        self.order(Order::Open(network.to_owned(), gateways));
    }

    /// Forgets a network.
    pub(crate) fn remove(&self, network: &str) {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        if zones.remove(network).is_some() {
            self.order(Order::Close(network.to_owned()));
        }
    }

    /// A thread that has ended answers nothing either way.
    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
