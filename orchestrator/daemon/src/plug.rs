//! VMs and networks: places are leased and written down with the VM, taps are made when it starts and go when its monitor is gone.
//!
//! ```text
//! create: lease -> record durable -> attach -> monitor
//! end:    monitor gone -> detach            start again: attach
//! remove: release
//! ```
//! The bridges and rules themselves are the crate [`network`]'s. After a crash [`Plugs::reconcile`] makes the kernel's state that of the
//! records; traffic of VMs that live goes on meanwhile.

use std::num::NonZeroU16;
use std::path::Path;

use abi::agent::network as guest;
use network::networks::{AttachError, CreateError, LeaseError, OpenError, ReconcileError};
use network::{
    Attachment, Config, Instance, Known, Lease, LeaseRequest, Network, NetworkSpec, Networks,
    PortSpec, Protocol,
};

use crate::linux::spec::{DEFAULT_NETWORK, NO_NETWORK};

/// A VM gets no network.
#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    /// This host, or this user, can have none.
    #[error("{0}; a VM without a network is created with the network \"none\"")]
    None(String),
    /// That name means that there is none.
    #[error("no network can be called {NO_NETWORK:?}: that is what having none is called")]
    Reserved,
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// No place or no port.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// No tap.
    #[error("cannot attach the VM to its network")]
    Attach(#[from] AttachError),
}

/// The networks of this host, or why there are none.
#[derive(Debug)]
pub struct Plugs(Result<Networks, OpenError>);

impl Plugs {
    /// Looks whether there can be networks for the daemon of a directory.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let opened = Networks::open(Instance::of(dir), Config::default());
        if let Err(error) = &opened {
            tracing::warn!(%error, "VMs get no networks");
        }
        Self(opened)
    }

    /// The networks.
    ///
    /// # Errors
    /// [`PlugError::None`].
    pub fn networks(&self) -> Result<&Networks, PlugError> {
        self.0.as_ref().map_err(|e| PlugError::None(e.to_string()))
    }

    /// Makes a network; what is chosen is to be written down.
    ///
    /// # Errors
    /// [`PlugError`].
    pub fn create(&self, name: &str, spec: &NetworkSpec) -> Result<Network, PlugError> {
        match name {
            NO_NETWORK => Err(PlugError::Reserved),
            _ => Ok(self.networks()?.create(name, spec)?),
        }
    }

    /// Gives a VM a place in a network, and says which network was made for that: the default one comes with its first VM.
    ///
    /// # Errors
    /// [`PlugError`].
    pub fn lease(
        &self,
        vm: &str,
        name: &str,
        network: &str,
        ports: &[api::Publish],
    ) -> Result<(Lease, Option<Network>), PlugError> {
        let networks = self.networks()?;
        let missing = || !networks.list().iter().any(|n| n.name == network);
        let made = match network == DEFAULT_NETWORK && missing() {
            true => Some(networks.create(network, &NetworkSpec::default())?),
            false => None,
        };
        let lease = networks.lease(&LeaseRequest {
            vm: vm.to_owned(),
            name: name.to_owned(),
            network: network.to_owned(),
            ipv4: None,
            ports: ports.iter().filter_map(port).collect(),
        });
        if lease.is_err() && made.is_some() {
            // Nobody wrote it down.
            let _ = networks.remove(network);
        }
        Ok((lease?, made))
    }

    /// Makes a VM's tap.
    ///
    /// # Errors
    /// [`PlugError`].
    pub fn attach(&self, vm: &str) -> Result<Attachment, PlugError> {
        Ok(self.networks()?.attach(vm)?)
    }

    /// Takes a VM's tap away; its place stays its own.
    pub fn detach(&self, vm: &str) {
        if let Ok(networks) = &self.0
            && let Err(error) = networks.detach(vm)
        {
            tracing::warn!(vm, %error, "cannot take its network away");
        }
    }

    /// Gives back a VM's place.
    pub fn release(&self, vm: &str) {
        if let Ok(networks) = &self.0
            && let Err(error) = networks.release(vm)
        {
            tracing::warn!(vm, %error, "cannot give back its place in a network");
        }
    }

    /// Makes what is there what it should be, from what is written down.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub fn reconcile(&self, networks: &[Network], vms: &[Known]) -> Result<(), ReconcileError> {
        let Ok(ours) = &self.0 else { return Ok(()) };
        let found = ours.reconcile(networks, vms)?;
        for link in found.removed {
            tracing::info!(link, "removed a link that was nobody's");
        }
        for vm in found.lost {
            tracing::warn!(
                vm,
                "its link is gone: it has no network until it is started again"
            );
        }
        for problem in found.problems {
            tracing::warn!(problem, "a network is not as it should be");
        }
        Ok(())
    }

    /// What a guest is told of its place: of one that was attached by an earlier daemon, too.
    #[must_use]
    pub fn tell(&self, lease: &Lease) -> guest::Network {
        let list = self.0.as_ref().map(Networks::list).unwrap_or_default();
        let Some(network) = list.into_iter().find(|n| n.name == lease.network) else {
            return guest::Network::default();
        };
        let prefix = |address, bits| guest::Prefix { address, bits };
        guest::Network {
            interfaces: vec![guest::Interface {
                mac: guest::Mac(lease.mac().bytes()),
                addresses: vec![
                    prefix(lease.ipv4.into(), network.ipv4.prefix_len()),
                    prefix(lease.ipv6.into(), network.ipv6.prefix_len()),
                ],
                gateway_v4: Some(network.gateway4()),
                gateway_v6: Some(network.gateway6()),
                mtu: Some(network.mtu),
            }],
            dns: guest::Dns {
                // It asks the host's own resolvers in turn.
                servers: vec![network.gateway4().into()],
                search: vec![],
            },
            hosts: vec![],
        }
    }
}

fn port(port: &api::Publish) -> Option<PortSpec> {
    Some(PortSpec {
        address: port.host_ip.filter(|ip| !ip.is_unspecified()),
        host: NonZeroU16::new(port.host_port),
        // Checked where the request was.
        guest: NonZeroU16::new(port.guest_port)?,
        protocol: match port.protocol {
            api::Protocol::Tcp => Protocol::Tcp,
            api::Protocol::Udp => Protocol::Udp,
        },
    })
}

/// A VM's published ports, for the API.
#[must_use]
pub fn published(lease: &Lease) -> Vec<api::Publish> {
    let ports = lease.ports.iter().map(|port| api::Publish {
        host_ip: port.address,
        host_port: port.host.get(),
        guest_port: port.guest.get(),
        protocol: match port.protocol {
            Protocol::Tcp => api::Protocol::Tcp,
            Protocol::Udp => api::Protocol::Udp,
        },
    });
    ports.collect()
}

/// A VM's addresses, for the API.
#[must_use]
pub fn address(lease: &Lease) -> api::Address {
    api::Address {
        network: lease.network.clone(),
        ipv4: lease.ipv4,
        ipv6: lease.ipv6,
        mac: lease.mac().to_string(),
    }
}
