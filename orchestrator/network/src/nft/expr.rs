//! What a rule is made of, in the kernel's own terms, and its form on the wire.
//!
//! A rule is a list of steps. A step that finds nothing, or compares false, ends the rule; the chain goes on with the next one.
//! Values pass from step to step in registers of four bytes each, and a key of several fields lies in neighbouring ones.

use netlink_bindings::nftables::{
    CmpOps, CtKeys, FibFlags, LookupFlags, MetaKeys, PayloadBase, PushExprAttrs, PushExprListAttrs,
    Registers, VerdictCode,
};
use netlink_bindings::traits::Pusher;

/// The register of the `word`th four bytes.
const fn register(word: u32) -> u32 {
    Registers::Reg3200 as u32 + word
}

/// `NF_NAT_RANGE`'s kind of translation: of destinations.
const NAT_DNAT: u32 = 1;
/// Connections whose destination was translated (`IPS_DST_NAT`).
const STATUS_DNAT: u32 = 1 << 5;
/// Bits of a connection's state: established, and related to one that is.
const STATE_KNOWN: u32 = 1 << 1 | 1 << 2;
/// `NFT_FIB_RESULT_ADDRTYPE`, for which the crate has another number than the kernel.
const FIB_ADDRESS_TYPE: u32 = 3;
/// `RTN_LOCAL`.
const ADDRESS_LOCAL: u32 = 2;

/// What happens to a packet that reaches the end of a rule.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Accept,
    Drop,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Loads what is known of the packet beside its bytes.
    Meta(MetaKeys, u32),
    /// Loads bytes of the packet.
    Payload(PayloadBase, u32, u32, u32),
    /// Loads what is known of its connection.
    Ct(CtKeys, u32),
    /// Loads what kind of address its destination is.
    DestinationKind(u32),
    /// Keeps the bits of a mask.
    Mask(u32, [u8; 4]),
    /// Compares.
    Is(u32, bool, Vec<u8>),
    /// Looks a key up; goes on where it is there, or where it is not.
    In(&'static str, u32, bool),
    /// Looks a key up and loads its value.
    Find(&'static str, u32, u32),
    /// Translates the destination: address and port in registers.
    Dnat(u32, u32, u32),
    /// Translates the source into the address of the interface that the packet leaves by.
    Masquerade,
    /// Ends.
    End(Verdict),
}

/// A rule in the making; each method adds a condition or an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule(pub(crate) Vec<Step>);

/// A field of a packet that is part of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    InName,
    OutName,
    Layer4,
    Bytes(PayloadBase, u32, u32),
}

impl Field {
    const fn words(self) -> u32 {
        match self {
            Self::InName | Self::OutName => 4,
            Self::Layer4 => 1,
            Self::Bytes(_, _, len) => len.div_ceil(4),
        }
    }

    fn load(self, word: u32) -> Step {
        match self {
            Self::InName => Step::Meta(MetaKeys::Iifname, register(word)),
            Self::OutName => Step::Meta(MetaKeys::Oifname, register(word)),
            Self::Layer4 => Step::Meta(MetaKeys::L4Proto, register(word)),
            Self::Bytes(base, offset, len) => Step::Payload(base, offset, len, register(word)),
        }
    }
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn with(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.0.extend(steps);
        self
    }

    fn key(self, fields: &[Field]) -> Self {
        let mut word = 0;
        fields.iter().fold(self, |rule, field| {
            let load = field.load(word);
            word += field.words();
            rule.with([load])
        })
    }

    /// The fields together are in a set.
    pub(crate) fn within(self, set: &'static str, fields: &[Field]) -> Self {
        self.key(fields).with([Step::In(set, register(0), true)])
    }

    /// They are not.
    pub(crate) fn outside(self, set: &'static str, fields: &[Field]) -> Self {
        self.key(fields).with([Step::In(set, register(0), false)])
    }

    /// A field has a value.
    pub(crate) fn is(self, field: Field, value: impl Into<Vec<u8>>) -> Self {
        self.with([field.load(0), Step::Is(register(0), true, value.into())])
    }

    /// A field has another value.
    pub(crate) fn differs(self, field: Field, value: impl Into<Vec<u8>>) -> Self {
        self.with([field.load(0), Step::Is(register(0), false, value.into())])
    }

    /// The packet is of this family, in tables of both.
    pub(crate) fn family(self, family: i32) -> Self {
        let family = vec![u8::try_from(family).unwrap_or_default()];
        let load = Step::Meta(MetaKeys::Nfproto, register(0));
        self.with([load, Step::Is(register(0), true, family)])
    }

    /// Its connection is known.
    pub(crate) fn known(self) -> Self {
        self.connection(CtKeys::State, STATE_KNOWN)
    }

    /// Its connection's destination was translated.
    pub(crate) fn translated(self) -> Self {
        self.connection(CtKeys::Status, STATUS_DNAT)
    }

    fn connection(self, key: CtKeys, bits: u32) -> Self {
        let none = 0_u32.to_ne_bytes().to_vec();
        self.with([
            Step::Ct(key, register(0)),
            Step::Mask(register(0), bits.to_ne_bytes()),
            Step::Is(register(0), false, none),
        ])
    }

    /// It is meant for this host.
    pub(crate) fn for_host(self) -> Self {
        let local = ADDRESS_LOCAL.to_ne_bytes().to_vec();
        self.with([
            Step::DestinationKind(register(0)),
            Step::Is(register(0), true, local),
        ])
    }

    /// Goes to the address and port which a map has for the fields.
    pub(crate) fn redirect(self, family: i32, map: &'static str, fields: &[Field]) -> Self {
        let address_words = if family == libc::AF_INET { 1 } else { 4 };
        let family = u32::try_from(family).unwrap_or_default();
        let found = [
            Step::Find(map, register(0), register(0)),
            Step::Dnat(family, register(0), register(address_words)),
        ];
        self.key(fields).with(found)
    }

    pub(crate) fn masquerade(self) -> Self {
        self.with([Step::Masquerade])
    }

    pub(crate) fn accept(self) -> Self {
        self.with([Step::End(Verdict::Accept)])
    }

    pub(crate) fn drop(self) -> Self {
        self.with([Step::End(Verdict::Drop)])
    }
}

/// Attributes of a lookup (`NFTA_LOOKUP_SREG`, `_DREG`, `_FLAGS`): the crate has other numbers for the first two than the kernel.
const LOOKUP_SOURCE: u16 = 2;
const LOOKUP_DESTINATION: u16 = 3;
const LOOKUP_FLAGS: u16 = 5;

fn lookup<P: Pusher>(
    elem: PushExprAttrs<PushExprListAttrs<P>>,
    set: &str,
    attributes: &[(u16, u32)],
) -> PushExprListAttrs<P> {
    let mut data = elem.nested_data_lookup().push_set_bytes(set.as_bytes());
    for &(kind, value) in attributes {
        let bytes = data.as_vec_mut();
        // The attribute before this one ends where it ends; the next begins at four.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_be_bytes());
    }
    data.end_nested().end_nested()
}

/// Writes the steps of a rule.
pub(crate) fn write<P: Pusher>(rule: &Rule, list: PushExprListAttrs<P>) -> PushExprListAttrs<P> {
    rule.0.iter().fold(list, |list, step| {
        let elem = list.nested_elem();
        match step {
            Step::Meta(key, to) => {
                let data = elem.nested_data_meta().push_key(*key as u32).push_dreg(*to);
                data.end_nested().end_nested()
            }
            Step::Payload(base, offset, len, to) => {
                let data = elem
                    .nested_data_payload()
                    .push_dreg(*to)
                    .push_base(*base as u32);
                data.push_offset(*offset)
                    .push_len(*len)
                    .end_nested()
                    .end_nested()
            }
            Step::Ct(key, to) => {
                let data = elem.nested_data_ct().push_key(*key as u32).push_dreg(*to);
                data.end_nested().end_nested()
            }
            Step::DestinationKind(to) => {
                let data = elem.nested_data_fib().push_dreg(*to);
                let data = data
                    .push_result(FIB_ADDRESS_TYPE)
                    .push_flags(FibFlags::Daddr as u32);
                data.end_nested().end_nested()
            }
            Step::Mask(at, mask) => {
                let data = elem
                    .nested_data_bitwise()
                    .push_sreg(*at)
                    .push_dreg(*at)
                    .push_len(4);
                let data = data.nested_mask().push_value(mask).end_nested();
                data.nested_xor()
                    .push_value(&[0; 4])
                    .end_nested()
                    .end_nested()
                    .end_nested()
            }
            Step::Is(at, equal, value) => {
                let op = if *equal { CmpOps::Eq } else { CmpOps::Neq };
                let data = elem.nested_data_cmp().push_sreg(*at).push_op(op as u32);
                data.nested_data()
                    .push_value(value)
                    .end_nested()
                    .end_nested()
                    .end_nested()
            }
            Step::In(set, at, inside) => {
                let flags = if *inside {
                    0
                } else {
                    LookupFlags::Invert as u32
                };
                lookup(elem, set, &[(LOOKUP_SOURCE, *at), (LOOKUP_FLAGS, flags)])
            }
            Step::Find(map, at, to) => lookup(
                elem,
                map,
                &[(LOOKUP_SOURCE, *at), (LOOKUP_DESTINATION, *to)],
            ),
            Step::Dnat(family, address, port) => {
                let data = elem
                    .nested_data_nat()
                    .push_type(NAT_DNAT)
                    .push_family(*family);
                let data = data.push_reg_addr_min(*address).push_reg_proto_min(*port);
                data.end_nested().end_nested()
            }
            Step::Masquerade => elem.push_name(c"masq").end_nested(),
            Step::End(verdict) => {
                let code = match verdict {
                    Verdict::Accept => VerdictCode::Accept,
                    Verdict::Drop => VerdictCode::Drop,
                };
                let data = elem
                    .nested_data_immediate()
                    .push_dreg(Registers::RegVerdict as u32);
                let data = data.nested_data().nested_verdict().push_code(code as u32);
                data.end_nested().end_nested().end_nested().end_nested()
            }
        }
    })
}
