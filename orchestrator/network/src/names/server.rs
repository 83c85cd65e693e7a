//! The sockets of the resolver, and what it asks of others.
//!
//! One task a socket, and one a query that is forwarded, of which each network may have only so many under way: more are dropped, and the guest
//! asks again. A forwarded query gets a socket of its own, connected to the resolver, so that a stranger has to guess its port
//! and its number to answer instead.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{self, Reply};
use super::{Order, Zones};
use crate::resolv;

/// Where resolvers are asked.
const PORT: u16 = 53;
/// Most bytes of a packet.
const MAX_PACKET: usize = 4096;
/// Forwarded queries of one network under way at once.
const MAX_FORWARDED: usize = 64;
/// How long a resolver may take; guests wait for five seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Carries out orders until nobody can give any.
pub(super) async fn run(
    mut orders: mpsc::UnboundedReceiver<Order>,
    zones: Zones,
    resolv_conf: PathBuf,
) {
    let mut open: HashMap<String, ([IpAddr; 2], JoinSet<()>)> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Open(network, gateways) => {
                // The bridge may have been made anew, and its addresses with it; the sockets of the old ones go on working.
                let works = |(at, tasks): &([IpAddr; 2], JoinSet<()>)| {
                    *at == gateways && tasks.len() == gateways.len()
                };
                if !open.get(&network).is_some_and(works) {
                    close(&mut open, &network).await;
                    let tasks = serve(&network, gateways, &zones, &resolv_conf).await;
                    open.insert(network, (gateways, tasks));
                }
            }
            Order::Close(network) => close(&mut open, &network).await,
        }
    }
}

/// Ends a network's tasks, and waits for it: their sockets are in the way of the next ones.
async fn close(open: &mut HashMap<String, ([IpAddr; 2], JoinSet<()>)>, network: &str) {
    if let Some((_, mut tasks)) = open.remove(network) {
        tasks.shutdown().await;
    }
}

async fn serve(
    network: &str,
    gateways: [IpAddr; 2],
    zones: &Zones,
    resolv_conf: &Path,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let forwarded = Arc::new(Semaphore::new(MAX_FORWARDED));
    for gateway in gateways {
        match UdpSocket::bind((gateway, PORT)).await {
            Ok(socket) => {
                let desk = Desk {
                    network: network.to_owned(),
                    socket: Arc::new(socket),
                    zones: Arc::clone(zones),
                    forwarded: Arc::clone(&forwarded),
                    resolv_conf: resolv_conf.to_owned(),
                };
                tasks.spawn(desk.serve());
            }
            Err(error) => tracing::warn!(%error, network, %gateway, "names are not answered here"),
        }
    }
    tasks
}

/// One socket at which queries of one network arrive.
struct Desk {
    network: String,
    socket: Arc<UdpSocket>,
    zones: Zones,
    forwarded: Arc<Semaphore>,
    resolv_conf: PathBuf,
}

impl Desk {
    async fn serve(self) {
        let mut buffer = vec![0; MAX_PACKET];
        let mut under_way = JoinSet::new();
        loop {
            while under_way.try_join_next().is_some() {}
            // What a socket reports here is of an earlier answer that found nobody.
            let Ok((len, from)) = self.socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let query = &buffer[..len];
            match self.answer(query) {
                Reply::Answer(bytes) => self.say(&bytes, from).await,
                Reply::Ignore => {}
                Reply::Forward => {
                    let Ok(permit) = Arc::clone(&self.forwarded).try_acquire_owned() else {
                        continue;
                    };
                    let resolvers = resolv::read(&self.resolv_conf);
                    // It is not this task that keeps the address, once the network is gone.
                    let (socket, query) = (Arc::downgrade(&self.socket), query.to_vec());
                    under_way.spawn(async move {
                        let bytes = match ask(&query, &resolvers).await {
                            Some(bytes) => Some(bytes),
                            None => answer::failure(&query),
                        };
                        if let (Some(bytes), Some(socket)) = (bytes, socket.upgrade()) {
                            let _ = socket.send_to(&bytes, from).await;
                        }
                        drop(permit);
                    });
                }
            }
        }
    }

    fn answer(&self, query: &[u8]) -> Reply {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        zones
            .get(&self.network)
            .map_or(Reply::Ignore, |zone| answer::answer(query, zone))
    }

    /// A guest that is gone does not hear it.
    async fn say(&self, bytes: &[u8], to: SocketAddr) {
        let _ = self.socket.send_to(bytes, to).await;
    }
}

/// The first resolver's answer.
async fn ask(query: &[u8], resolvers: &[IpAddr]) -> Option<Vec<u8>> {
    for &resolver in resolvers {
        if let Ok(Ok(bytes)) = timeout(PATIENCE, ask_one(query, resolver)).await {
            return Some(bytes);
        }
    }
    None
}

async fn ask_one(query: &[u8], resolver: IpAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((resolver, PORT)).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if answer::belongs(query, &buffer[..len]) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}
