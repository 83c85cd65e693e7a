//! `/network-interfaces`: network devices by the names of their taps.

use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::draft::ConfigureError;
use super::drive::same_id;
use super::limit;
use crate::backend::tap;
use crate::rate::LimitChange;
use crate::spec::{self, DeviceId, Mac, wire};

/// `PUT /network-interfaces/{id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Interface {
    iface_id: String,
    host_dev_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_rate_limiter: Option<wire::RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_rate_limiter: Option<wire::RateLimit>,
}

/// `PATCH /network-interfaces/{id}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InterfaceUpdate {
    iface_id: String,
    rx_rate_limiter: Option<wire::RateLimit>,
    tx_rate_limiter: Option<wire::RateLimit>,
}

impl InterfaceUpdate {
    /// The changes of what the guest receives and of what it sends, for the device that the path names.
    pub(super) fn check(self, id: &str) -> Result<(LimitChange, LimitChange), ConfigureError> {
        same_id(id, &self.iface_id)?;
        Ok((
            limit::change(self.rx_rate_limiter.unwrap_or_default())?,
            limit::change(self.tx_rate_limiter.unwrap_or_default())?,
        ))
    }
}

/// The network devices of a configuration.
#[derive(Debug, Default)]
pub(super) struct Interfaces(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    body: Interface,
    id: DeviceId,
    tap: OwnedFd,
    mac: Option<Mac>,
    receive: spec::RateLimit,
    transmit: spec::RateLimit,
}

impl Interfaces {
    /// Adds a device, or replaces the one of its name. `id` is the path's, where the body came by one.
    pub(super) fn put(&mut self, id: Option<&str>, body: Interface) -> Result<(), ConfigureError> {
        same_id(id.unwrap_or(&body.iface_id), &body.iface_id)?;
        let id: DeviceId = body.iface_id.parse()?;
        let mac = body.guest_mac.as_deref().map(str::parse).transpose()?;
        let receive = limit::limit(body.rx_rate_limiter)?;
        let transmit = limit::limit(body.tx_rate_limiter)?;
        let place = self.0.iter().position(|other| other.id == id);
        for (at, other) in self.0.iter().enumerate() {
            if Some(at) == place {
                continue;
            }
            if mac.is_some() && other.mac == mac {
                return Err(ConfigureError::MacTwice(body.guest_mac.unwrap_or_default()));
            }
            if other.body.host_dev_name == body.host_dev_name {
                return Err(ConfigureError::TapTwice(body.host_dev_name));
            }
        }
        // A tap that it has already can be opened by nobody, not by itself either.
        let same = place.filter(|at| self.0[*at].body.host_dev_name == body.host_dev_name);
        let tap = match same {
            Some(at) => self.0[at].tap.try_clone().map_err(ConfigureError::Copy)?,
            None => tap::open(&body.host_dev_name)?,
        };
        let entry = Entry {
            body,
            id,
            tap,
            mac,
            receive,
            transmit,
        };
        match place {
            Some(place) => self.0[place] = entry,
            None => self.0.push(entry),
        }
        Ok(())
    }

    /// For the machine, by copies of the descriptors.
    pub(super) fn nets(&self) -> io::Result<Vec<spec::Net>> {
        let net = |entry: &Entry| {
            Ok(spec::Net {
                id: entry.id.clone(),
                tap: entry.tap.try_clone()?,
                mac: entry.mac,
                mtu: None,
                receive: entry.receive,
                transmit: entry.transmit,
            })
        };
        self.0.iter().map(net).collect()
    }

    /// As they were put.
    pub(super) fn bodies(&self) -> Vec<&Interface> {
        self.0.iter().map(|entry| &entry.body).collect()
    }
}
