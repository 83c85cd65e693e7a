//! What to say to a packet: a pure function, for packets come from guests.

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use super::Zone;

/// The domain of all VMs.
const DOMAIN: &[u8] = b"shoal";
/// Seconds for which an answer may be remembered: VMs come and go.
const TTL: u32 = 5;
/// Bytes of a header.
const HEADER: usize = 12;

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Say this.
    Answer(Vec<u8>),
    /// Ask somebody else.
    Forward,
    /// Say nothing: it is no query.
    Ignore,
}

/// What to say to `query` in a network with these names.
pub(super) fn answer(query: &[u8], zone: &Zone) -> Reply {
    if query.len() < HEADER || query[2] & 0x80 != 0 {
        return Reply::Ignore;
    }
    let id = u16::from_be_bytes([query[0], query[1]]);
    let Ok(packet) = Packet::parse(query) else {
        return reply(Packet::new_reply(id), RCODE::FormatError);
    };
    let mut made = Packet::new_reply(id);
    made.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if packet.has_flags(PacketFlag::RECURSION_DESIRED) {
        made.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    if packet.opcode() != OPCODE::StandardQuery {
        return reply(made, RCODE::NotImplemented);
    }
    let [question] = &packet.questions[..] else {
        return reply(made, RCODE::FormatError);
    };
    let labels: Vec<Vec<u8>> = question
        .qname
        .as_bytes()
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    let name = match &labels[..] {
        [name] => name,
        [name, domain] if domain == DOMAIN => name,
        [.., domain] if domain == DOMAIN => return not_here(made, question),
        _ => return Reply::Forward,
    };
    let Some((ipv4, ipv6)) = std::str::from_utf8(name)
        .ok()
        .and_then(|name| zone.get(name))
    else {
        return not_here(made, question);
    };
    made.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let wanted = |kind| {
        let any = matches!(question.qtype, QTYPE::ANY);
        let class = matches!(question.qclass, QCLASS::ANY | QCLASS::CLASS(CLASS::IN));
        class && (any || question.qtype == QTYPE::TYPE(kind))
    };
    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
    if wanted(TYPE::A) {
        let address = ipv4.to_bits();
        made.answers.push(record(RData::A(A { address })));
    }
    if wanted(TYPE::AAAA) {
        let address = ipv6.to_bits();
        made.answers.push(record(RData::AAAA(AAAA { address })));
    }
    made.questions.push(question.clone());
    reply(made, RCODE::NoError)
}

/// A name without a dot is never the world's: who mistypes a VM's does not tell strangers.
fn not_here<'a>(mut made: Packet<'a>, question: &simple_dns::Question<'a>) -> Reply {
    made.questions.push(question.clone());
    reply(made, RCODE::NameError)
}

fn reply(mut packet: Packet<'_>, code: RCODE) -> Reply {
    *packet.rcode_mut() = code;
    packet
        .build_bytes_vec_compressed()
        .map_or(Reply::Ignore, Reply::Answer)
}

/// "I could not find out", to a query that was to be forwarded.
pub(super) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let (id, _) = query.split_first_chunk::<2>()?;
    let mut packet = Packet::new_reply(u16::from_be_bytes(*id));
    if let Ok(asked) = Packet::parse(query) {
        packet.questions = asked.questions;
    }
    match reply(packet, RCODE::ServerFailure) {
        Reply::Answer(bytes) => Some(bytes),
        _ => None,
    }
}

/// Whether `answer` is one to `query`: same number, and of the same question.
pub(super) fn belongs(query: &[u8], answer: &[u8]) -> bool {
    let (Ok(query), Ok(answer)) = (Packet::parse(query), Packet::parse(answer)) else {
        return false;
    };
    let same = |(a, b): (&simple_dns::Question<'_>, &simple_dns::Question<'_>)| {
        let names = a
            .qname
            .as_bytes()
            .map(<[u8]>::to_ascii_lowercase)
            .eq(b.qname.as_bytes().map(<[u8]>::to_ascii_lowercase));
        names && a.qtype == b.qtype && a.qclass == b.qclass
    };
    query.id() == answer.id()
        && answer.has_flags(PacketFlag::RESPONSE)
        && query.questions.len() == answer.questions.len()
        && query.questions.iter().zip(&answer.questions).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::{Name, Question};

    fn zone() -> Zone {
        Zone::from([(
            "db".to_owned(),
            ([10, 0, 0, 2].into(), "fd00::2".parse().unwrap()),
        )])
    }

    fn query(name: &str, kind: QTYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let name = Name::new_unchecked(name);
        packet
            .questions
            .push(Question::new(name, kind, CLASS::IN.into(), false));
        packet.build_bytes_vec().unwrap()
    }

    fn answered(name: &str, kind: TYPE) -> (RCODE, Vec<RData<'static>>) {
        let Reply::Answer(bytes) = answer(&query(name, kind.into()), &zone()) else {
            panic!("no answer to {name}");
        };
        assert!(belongs(&query(name, kind.into()), &bytes));
        let packet = Packet::parse(&bytes).unwrap();
        (
            packet.rcode(),
            packet
                .answers
                .iter()
                .map(|record| record.rdata.clone().into_owned())
                .collect(),
        )
    }

    #[test]
    fn vms_are_found_by_name_and_in_their_domain() {
        let ipv4 = RData::A(A {
            address: 0x0a00_0002,
        });
        for name in ["db", "DB", "db.shoal"] {
            assert_eq!(
                answered(name, TYPE::A),
                (RCODE::NoError, vec![ipv4.clone()])
            );
        }
        assert_eq!(answered("db", TYPE::MX), (RCODE::NoError, vec![]));
        assert!(matches!(answered("db", TYPE::AAAA).1[..], [RData::AAAA(_)]));
    }

    #[test]
    fn strangers_do_not_hear_of_names_that_are_not_there() {
        for name in ["web", "web.shoal", "a.db.shoal"] {
            assert_eq!(answered(name, TYPE::A), (RCODE::NameError, vec![]));
        }
        assert_eq!(
            answer(&query("example.org", TYPE::A.into()), &zone()),
            Reply::Forward
        );
        assert_eq!(
            answer(&query("db.example", TYPE::A.into()), &zone()),
            Reply::Forward
        );
    }

    #[test]
    fn an_answer_to_another_question_does_not_belong() {
        let asked = query("example.org", TYPE::A.into());
        let mut other = query("example.net", TYPE::A.into());
        other[2] |= 0x80;
        assert!(!belongs(&asked, &other));
        assert!(!belongs(&asked, &asked), "a query is no answer");
        assert!(belongs(&asked, &failure(&asked).unwrap()));
    }

    proptest! {
        #[test]
        fn no_packet_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Reply::Answer(said) = answer(&bytes, &zone()) {
                prop_assert!(bytes.len() >= HEADER && said[..2] == bytes[..2] && said[2] & 0x80 != 0);
            }
            belongs(&bytes, &bytes);
            prop_assert_eq!(failure(&bytes).is_some(), bytes.len() >= 2);
        }

        #[test]
        fn a_damaged_query_is_answered_ignored_or_forwarded(at in 0_usize..24, to in any::<u8>()) {
            let mut bytes = query("db.shoal", TYPE::A.into());
            let at = at % bytes.len();
            bytes[at] = to;
            if let Reply::Answer(said) = answer(&bytes, &zone()) {
                prop_assert!(said.len() <= 512);
            }
        }
    }
}
