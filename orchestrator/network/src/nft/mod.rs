//! nf_tables: tables, chains, rules and sets, changed in transactions that the kernel does wholly or not at all.
//!
//! - [`expr`]: what a rule is made of.
//! - [`batch`]: one transaction.
//! - [`send`]: how it gets to the kernel.

pub(crate) mod batch;
pub(crate) mod expr;
pub(crate) mod send;

use netlink_bindings::nftables::{self, Nfgenmsg};
use netlink_socket2::NetlinkSocket;

use crate::error::SystemError;

/// Tables of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// Frames that pass a bridge.
    Bridge = 7,
}

impl Family {
    fn header(self) -> Nfgenmsg {
        Nfgenmsg {
            nfgen_family: self as u8,
            ..Nfgenmsg::default()
        }
    }
}

/// A table that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: u8,
    pub(crate) name: String,
    /// Whatever its maker noted with it.
    pub(crate) note: Vec<u8>,
}

/// All tables of all families.
pub(crate) fn tables() -> Result<Vec<Table>, SystemError> {
    let list = || -> Result<Vec<Table>, netlink_socket2::ReplyError> {
        let mut socket = NetlinkSocket::new();
        let request = nftables::Request::new().op_gettable_dump(&Nfgenmsg::default());
        let mut reply = socket.request(&request)?;
        let mut tables = Vec::new();
        while let Some((header, attributes)) = reply.recv().transpose()? {
            tables.push(Table {
                family: header.nfgen_family,
                name: attributes.get_name()?.to_string_lossy().into_owned(),
                note: attributes.get_userdata().unwrap_or_default().to_vec(),
            });
        }
        Ok(tables)
    };
    list().map_err(SystemError::of("list nf_tables tables"))
}

/// Base chains at the forward hook that drop what no rule takes, as `table chain`.
pub(crate) fn dropping_forwarders() -> Result<Vec<String>, SystemError> {
    /// `NF_INET_FORWARD`.
    const FORWARD: u32 = 2;
    /// `NF_DROP`.
    const DROP: u32 = 0;
    let list = || -> Result<Vec<String>, netlink_socket2::ReplyError> {
        let mut socket = NetlinkSocket::new();
        let request = nftables::Request::new().op_getchain_dump(&Nfgenmsg::default());
        let mut reply = socket.request(&request)?;
        let mut found = Vec::new();
        while let Some((_, attributes)) = reply.recv().transpose()? {
            let hook = attributes.get_hook().and_then(|hook| hook.get_num());
            if hook.is_ok_and(|hook| hook == FORWARD)
                && attributes.get_policy().is_ok_and(|policy| policy == DROP)
            {
                let table = attributes.get_table()?.to_string_lossy();
                let chain = attributes.get_name()?.to_string_lossy();
                found.push(format!("{table} {chain}"));
            }
        }
        Ok(found)
    };
    list().map_err(SystemError::of("list nf_tables chains"))
}
