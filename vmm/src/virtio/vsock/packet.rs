//! A packet's header (section 5.10.6), 44 bytes, little endian.

/// Bytes of a header.
pub(super) const SIZE: usize = 44;
/// The host's context id.
pub(super) const HOST: u64 = 2;
/// The type of packets of streams.
pub(super) const STREAM: u16 = 1;
/// In a shutdown's flags: the sender takes no more.
pub(super) const TAKES_NO_MORE: u32 = 1;
/// In a shutdown's flags: the sender sends no more.
pub(super) const SENDS_NO_MORE: u32 = 2;
/// Both.
pub(super) const BOTH: u32 = TAKES_NO_MORE | SENDS_NO_MORE;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Operation {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Operation {
    pub(super) fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A header; nothing in it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) operation: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; SIZE]) -> Self {
        let mut rest = Fields(bytes);
        Self {
            src_cid: u64::from_le_bytes(rest.take()),
            dst_cid: u64::from_le_bytes(rest.take()),
            src_port: u32::from_le_bytes(rest.take()),
            dst_port: u32::from_le_bytes(rest.take()),
            length: u32::from_le_bytes(rest.take()),
            kind: u16::from_le_bytes(rest.take()),
            operation: u16::from_le_bytes(rest.take()),
            flags: u32::from_le_bytes(rest.take()),
            buf_alloc: u32::from_le_bytes(rest.take()),
            fwd_cnt: u32::from_le_bytes(rest.take()),
        }
    }

    pub(super) fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let parts: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.operation.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        bytes
    }

    /// The reset that answers this packet.
    pub(super) fn refusal(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            operation: Operation::Reset as u16,
            ..Self::default()
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (head, tail) = self.0.split_at(N);
        field.copy_from_slice(head);
        self.0 = tail;
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_written_as_it_was_read(bytes: [u8; SIZE / 2], more: [u8; SIZE / 2]) {
            let bytes: [u8; SIZE] = [bytes, more].concat().try_into().unwrap();
            prop_assert_eq!(Header::parse(&bytes).bytes(), bytes);
        }
    }

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let header = Header {
            src_cid: 3,
            dst_cid: HOST,
            src_port: 0x0102,
            length: 9,
            kind: STREAM,
            operation: Operation::Data as u16,
            fwd_cnt: 0x0A0B_0C0D,
            ..Header::default()
        };
        let bytes = header.bytes();
        assert_eq!((bytes[0], bytes[8]), (3, 2));
        assert_eq!(bytes[16..18], [2, 1]);
        assert_eq!((bytes[24], bytes[28], bytes[30]), (9, 1, 5));
        assert_eq!(bytes[40..], [0x0D, 0x0C, 0x0B, 0x0A]);
        let refusal = header.refusal();
        assert_eq!((refusal.dst_cid, refusal.dst_port), (3, 0x0102));
        assert_eq!(Operation::of(refusal.operation), Some(Operation::Reset));
    }
}
