//! Names, asked for by guests.

use std::io::ErrorKind::ConnectionRefused;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Instant;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, ResourceRecord, TYPE};

use super::place::test;
use super::world::{Guest, SOON, create, guest, open_with};

/// What the resolver at `at` says to a guest.
fn ask(
    guest: &Guest,
    at: impl Into<IpAddr>,
    name: &'static str,
    kind: TYPE,
) -> (RCODE, Vec<IpAddr>) {
    let at = at.into();
    guest.place.run(move || {
        let mut query = Packet::new_query(9);
        query.set_flags(PacketFlag::RECURSION_DESIRED);
        query.questions.push(Question::new(
            Name::new_unchecked(name),
            kind.into(),
            CLASS::IN.into(),
            false,
        ));
        let any: IpAddr = if at.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.connect((at, 53)).unwrap();
        let query = query.build_bytes_vec().unwrap();
        let mut buffer = [0; 512];
        let until = Instant::now() + SOON;
        let len = loop {
            match socket.send(&query).and_then(|_| socket.recv(&mut buffer)) {
                // The thread that answers takes the port when it comes to it.
                Err(error) if error.kind() == ConnectionRefused && Instant::now() < until => {}
                done => break done.unwrap(),
            }
        };
        let answer = Packet::parse(&buffer[..len]).unwrap();
        let address = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
            RData::AAAA(a) => Some(IpAddr::from(a.address.to_be_bytes())),
            _ => None,
        };
        (
            answer.rcode(),
            answer.answers.iter().filter_map(address).collect(),
        )
    })
}

/// A resolver of the host that knows every name as 198.51.100.1.
fn resolver() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let mut answer = Packet::parse(&buffer[..len]).unwrap().into_reply();
            let data = RData::A(A {
                address: 0xc633_6401,
            });
            let name = answer.questions[0].qname.clone();
            answer
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, 1, data));
            let _ = socket.send_to(&answer.build_bytes_vec().unwrap(), from);
        }
    });
}

#[test]
fn vms_find_each_other_by_name_in_their_network_only() {
    test(|| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "nameserver 127.0.0.1").unwrap();
        let networks = open_with("names", file.path());
        create(&networks, &["blue", "red"]);
        let a = guest(&networks, "web", "blue", &[]);
        let b = guest(&networks, "db", "blue", &[]);
        let c = guest(&networks, "other", "red", &[]);
        let gateways = |name: &str| {
            let network = networks
                .list()
                .into_iter()
                .find(|network| network.name == name)
                .unwrap();
            [IpAddr::from(network.gateway4()), network.gateway6().into()]
        };
        for gateway in gateways("blue") {
            assert_eq!(
                ask(&a, gateway, "db", TYPE::A),
                (RCODE::NoError, vec![b.ipv4.into()])
            );
            assert_eq!(
                ask(&b, gateway, "web.shoal", TYPE::AAAA),
                (RCODE::NoError, vec![a.ipv6.into()])
            );
            assert_eq!(
                ask(&a, gateway, "other", TYPE::A),
                (RCODE::NameError, vec![])
            );
        }
        assert_eq!(
            ask(&c, gateways("red")[0], "db", TYPE::A).0,
            RCODE::NameError
        );
        resolver();
        let outside = (RCODE::NoError, vec!["198.51.100.1".parse().unwrap()]);
        assert_eq!(
            ask(&a, gateways("blue")[0], "example.org", TYPE::A),
            outside
        );
        networks.release("db").unwrap();
        assert_eq!(
            ask(&a, gateways("blue")[0], "db", TYPE::A).0,
            RCODE::NameError
        );
    });
}

#[test]
fn a_network_that_comes_back_has_its_names_again() {
    test(|| {
        let networks = open_with("names-again", "/nonexistent".as_ref());
        create(&networks, &["blue"]);
        let gateway = networks.list()[0].gateway4();
        for _ in 0..3 {
            let a = guest(&networks, "a", "blue", &[]);
            let own = (RCODE::NoError, vec![a.ipv4.into()]);
            assert_eq!(ask(&a, gateway, "a", TYPE::A), own);
            networks.release("a").unwrap();
        }
    });
}

#[test]
fn a_host_without_resolvers_says_so() {
    test(|| {
        let networks = open_with("no-resolver", "/nonexistent".as_ref());
        create(&networks, &["blue"]);
        let a = guest(&networks, "a", "blue", &[]);
        let gateway = networks.list()[0].gateway4();
        assert_eq!(
            ask(&a, gateway, "example.org", TYPE::A),
            (RCODE::ServerFailure, vec![])
        );
    });
}
