//! One transaction: all of its changes are made at once, or none of them.

use netlink_bindings::nftables::{self, Nfgenmsg};

use super::expr::{self, Rule};
use super::{Family, send};
use crate::error::SystemError;

/// `NFNL_SUBSYS_NFTABLES`: whose transaction it is.
const SUBSYSTEM: u16 = 10;
/// `NFT_SET_MAP`.
const MAP: u32 = 8;
/// Data that is a value, not a verdict: any type's number does.
const VALUE: u32 = 7;
/// Elements in one message: their list is an attribute, whose length is 16 bits.
const ELEMENTS_A_MESSAGE: usize = 256;

/// Where a base chain sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// The hook's number.
    pub(crate) number: u32,
    /// Lower ones come first.
    pub(crate) priority: i32,
}

/// A set, or a map, of keys of one length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Type numbers of the fields for those who list it, six bits each.
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
    /// Length of a value, in a map.
    pub(crate) value_len: Option<u32>,
}

/// One element of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) family: Family,
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// A transaction in the making.
pub(crate) struct Batch {
    chained: nftables::Chained<'static>,
    sets: u32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut chained = nftables::Chained::new(1);
        chained.request().op_batch_begin_do(&bounds());
        Self { chained, sets: 0 }
    }

    /// Makes a table, if it is not there.
    pub(crate) fn table(&mut self, family: Family, name: &str, note: &[u8]) -> &mut Self {
        let request = self.chained.request().set_create();
        let mut request = request.op_newtable_do(&family.header());
        let attributes = request.encode().push_name_bytes(name.as_bytes());
        if !note.is_empty() {
            attributes.push_userdata(note);
        } else {
            drop(attributes);
        }
        drop(request);
        self
    }

    /// Removes a table with all that is in it.
    pub(crate) fn remove_table(&mut self, family: Family, name: &str) -> &mut Self {
        let mut request = self.chained.request().op_deltable_do(&family.header());
        request.encode().push_name_bytes(name.as_bytes());
        drop(request);
        self
    }

    /// Makes a base chain, which lets pass what no rule of it takes.
    pub(crate) fn chain(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
        hook: Hook,
    ) -> &mut Self {
        let request = self.chained.request().set_create();
        let mut request = request.op_newchain_do(&family.header());
        let attributes = request.encode().push_table_bytes(table.as_bytes());
        let attributes = attributes.push_name_bytes(name.as_bytes()).nested_hook();
        let attributes = attributes
            .push_num(hook.number)
            .push_priority(hook.priority)
            .end_nested();
        attributes.push_type_bytes(hook.kind.as_bytes());
        drop(request);
        self
    }

    /// Appends a rule to a chain.
    pub(crate) fn rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        rule: &Rule,
    ) -> &mut Self {
        let request = self.chained.request().set_create().set_append();
        let mut request = request.op_newrule_do(&family.header());
        let attributes = request.encode().push_table_bytes(table.as_bytes());
        let attributes = attributes.push_chain_bytes(chain.as_bytes());
        expr::write(rule, attributes.nested_expressions()).end_nested();
        drop(request);
        self
    }

    /// Makes a set.
    pub(crate) fn set(&mut self, family: Family, table: &str, set: &Set) -> &mut Self {
        self.sets += 1;
        let request = self.chained.request().set_create();
        let mut request = request.op_newset_do(&family.header());
        let attributes = request.encode().push_table_bytes(table.as_bytes());
        let attributes = attributes
            .push_name_bytes(set.name.as_bytes())
            .push_id(self.sets);
        let attributes = attributes
            .push_key_type(set.key_type)
            .push_key_len(set.key_len);
        match set.value_len {
            None => attributes.push_flags(0),
            Some(len) => attributes
                .push_flags(MAP)
                .push_data_type(VALUE)
                .push_data_len(len),
        };
        drop(request);
        self
    }

    /// Adds elements; those that are there already stay.
    pub(crate) fn add(&mut self, table: &str, elements: &[Element]) -> &mut Self {
        for part in parts(elements) {
            let request = self.chained.request().set_create();
            let mut request = request.op_newsetelem_do(&part[0].family.header());
            let list = request.encode().push_table_bytes(table.as_bytes());
            let list = list
                .push_set_bytes(part[0].set.as_bytes())
                .nested_elements();
            let list = part.iter().fold(list, |list, element| {
                let elem = list
                    .nested_elem()
                    .nested_key()
                    .push_value(&element.key)
                    .end_nested();
                match &element.value {
                    None => elem.end_nested(),
                    Some(value) => elem
                        .nested_data()
                        .push_value(value)
                        .end_nested()
                        .end_nested(),
                }
            });
            list.end_nested();
        }
        self
    }

    /// Removes elements, all of which are there.
    pub(crate) fn remove(&mut self, table: &str, elements: &[Element]) -> &mut Self {
        for part in parts(elements) {
            let mut request = self
                .chained
                .request()
                .op_delsetelem_do(&part[0].family.header());
            let list = request.encode().push_table_bytes(table.as_bytes());
            let list = list
                .push_set_bytes(part[0].set.as_bytes())
                .nested_elements();
            let list = part.iter().fold(list, |list, element| {
                let elem = list.nested_elem().nested_key().push_value(&element.key);
                elem.end_nested().end_nested()
            });
            list.end_nested();
        }
        self
    }

    /// Has it done.
    pub(crate) fn send(mut self, what: &str) -> Result<(), SystemError> {
        self.chained.request().op_batch_end_do(&bounds());
        send::messages(self.chained.finalize().buf()).map_err(SystemError::of(what))
    }
}

/// Runs of elements of the same set, short enough for a message.
fn parts(elements: &[Element]) -> impl Iterator<Item = &[Element]> {
    let runs = elements.chunk_by(|a, b| (a.family, a.set) == (b.family, b.set));
    runs.flat_map(|run| run.chunks(ELEMENTS_A_MESSAGE))
}

fn bounds() -> Nfgenmsg {
    let mut header = Nfgenmsg::default();
    header.set_res_id(SUBSYSTEM);
    header
}
