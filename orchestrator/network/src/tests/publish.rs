//! Published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use super::place::test;
use super::world::{
    Guest, HOST4, HOST6, NEVER, SOON, WORLD4, WORLD6, call, create, guest, lease, open, traces,
    words, world,
};
use crate::conntrack;

const LOOPBACK4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn a_published_port_is_reached_from_everywhere() {
    test(|| {
        let world = world();
        let networks = open("publish");
        create(&networks, &["blue", "red"]);
        let a = guest(&networks, "a", "blue", &["8080:80"]);
        let b = guest(&networks, "b", "blue", &[]);
        let c = guest(&networks, "c", "red", &[]);
        let from_world = world
            .place
            .run(|| [HOST4.into(), HOST6.into()].map(|to: IpAddr| call((to, 8080).into(), SOON)));
        let [v4, v6] = from_world.map(words);
        assert_eq!(
            v4,
            ("a".to_owned(), WORLD4.into()),
            "the guest sees who asks"
        );
        assert_eq!(v6.0, "a");
        for to in [LOOPBACK4, HOST4.into(), HOST6.into()] {
            assert_eq!(
                words(call((to, 8080).into(), SOON)).0,
                "a",
                "from the host by {to}"
            );
        }
        // `::1` cannot leave the host: it is refused at once, so that a client tries 127.0.0.1.
        let refused = TcpStream::connect((LOOPBACK6, 8080)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        for (who, guest) in [("b", &b), ("c", &c)] {
            let answers = [HOST4.into(), HOST6.into()].map(|to: IpAddr| guest.call(to, 8080));
            assert!(
                answers.iter().all(Option::is_some),
                "{who} hears {answers:?}"
            );
        }
        // Where the packet filter sees frames on bridges, a guest's way back to itself is shorter than its packets need.
        crate::sysctl::write("bridge/bridge-nf-call-iptables", "0").unwrap();
        assert_eq!(words(a.call(HOST4, 8080)).0, "a");
        networks.release("a").unwrap();
        assert!(
            world
                .place
                .run(|| call((HOST4, 8080).into(), NEVER))
                .is_none()
        );
    });
}

#[test]
fn a_port_published_at_an_address_is_reached_at_no_other() {
    test(|| {
        let world = world();
        let networks = open("publish-at");
        create(&networks, &["blue"]);
        let a = guest(
            &networks,
            "a",
            "blue",
            &[
                "127.0.0.1:8080:80",
                "192.0.2.1:8081:80",
                "[2001:db8::1]:8082:80",
            ],
        );
        assert_eq!(words(call((LOOPBACK4, 8080).into(), SOON)).0, "a");
        assert_eq!(words(call((HOST6, 8082).into(), SOON)).0, "a");
        let answers = world.place.run(|| {
            let to: [SocketAddr; 4] = [
                (HOST4, 8081).into(),
                (HOST6, 8082).into(),
                (HOST4, 8080).into(),
                (HOST6, 8081).into(),
            ];
            to.map(|to| call(to, SOON).is_some())
        });
        assert_eq!(answers, [true, true, false, false]);
        drop(a);
    });
}

#[test]
fn datagrams_are_published_as_well() {
    test(|| {
        let world = world();
        let networks = open("udp");
        create(&networks, &["blue"]);
        let _a = guest(&networks, "a", "blue", &["5353:53/udp"]);
        let ask = |to: IpAddr| {
            let any: IpAddr = if to.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket.connect((to, 5353)).unwrap();
            socket.send(b"who").unwrap();
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        assert_eq!(ask(LOOPBACK4), "a");
        assert_eq!(
            world
                .place
                .run(move || [ask(HOST4.into()), ask(HOST6.into())]),
            ["a", "a"]
        );
    });
}

#[test]
fn who_goes_on_sending_reaches_whichever_vm_has_the_port() {
    test(|| {
        let world = world();
        let networks = open("udp-again");
        create(&networks, &["blue"]);
        // One socket all the time: to the kernel it is one connection.
        let socket = world.place.run(|| {
            let socket = UdpSocket::bind((WORLD4, 5000)).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket.connect((HOST4, 5353)).unwrap();
            socket
        });
        let ask = || {
            socket.send(b"who").unwrap();
            let mut buffer = [0; 64];
            let heard = socket.recv(&mut buffer).map(|len| buffer[..len].to_vec());
            heard.map_err(|error| error.kind())
        };
        assert_eq!(ask(), Err(std::io::ErrorKind::ConnectionRefused));
        let a = guest(&networks, "a", "blue", &["5353:53/udp"]);
        assert_eq!(ask(), Ok(b"a".to_vec()));
        networks.release("a").unwrap();
        let _b = guest(&networks, "b", "blue", &["5353:53/udp"]);
        assert_eq!(ask(), Ok(b"b".to_vec()));
        drop(a);
    });
}

#[test]
fn a_free_port_is_chosen_and_kept() {
    test(|| {
        let networks = open("free");
        create(&networks, &["blue"]);
        let a = lease(&networks, "a", "blue", &["80", "0:81", "127.0.0.1::53/udp"]);
        let mut ports: Vec<u16> = a.ports.iter().map(|port| port.host.get()).collect();
        assert_eq!(
            a.ports
                .iter()
                .map(|port| port.guest.get())
                .collect::<Vec<_>>(),
            [80, 81, 53]
        );
        for port in &ports[..2] {
            assert!(
                std::net::TcpListener::bind(("0.0.0.0", *port)).is_err(),
                "{port} is kept"
            );
        }
        ports.dedup();
        assert_eq!(ports.len(), 3);
        networks.release("a").unwrap();
        assert!(std::net::TcpListener::bind(("0.0.0.0", ports[0])).is_ok());
    });
}

#[test]
fn thousands_of_connections_pass_and_are_forgotten_with_their_vm() {
    test(|| {
        let _world = world();
        let networks = open("many");
        create(&networks, &["blue"]);
        let before = traces();
        let a = guest(&networks, "a", "blue", &["8080:80"]);
        let b = guest(&networks, "b", "blue", &["8081:80"]);
        for to in [LOOPBACK4, HOST4.into()] {
            for i in 0..1500 {
                assert_eq!(
                    words(call((to, 8080).into(), SOON)).0,
                    "a",
                    "connection {i} to {to}"
                );
            }
        }
        for (vm, guest, port) in [("a", &a, 8080), ("b", &b, 8081)] {
            for to in [LOOPBACK4, HOST6.into()] {
                assert_eq!(words(call((to, port).into(), SOON)).0, vm);
            }
            assert_eq!(words(guest.call(WORLD4, 80)).0, "world");
            assert_eq!(words(guest.call(WORLD6, 80)).0, "world");
        }
        assert_eq!(remembered(&a), [(1, 3001), (1, 1)]);
        let of_b = remembered(&b);
        assert_eq!(of_b, [(1, 1), (1, 1)]);
        networks.release("a").unwrap();
        assert_eq!(remembered(&a), [(0, 0), (0, 0)]);
        assert_eq!(remembered(&b), of_b, "another VM's stay");
        // As where the host remembers more.
        conntrack::forget_addresses(&networks.leased("b").unwrap(), true).unwrap();
        assert_eq!(remembered(&b), [(0, 0), (0, 0)]);
        networks.release("b").unwrap();
        assert_eq!(traces(), before);
        drop((a, b));
    });
}

/// How many connections a guest began, and how many it answers, in either family, as the kernel remembers.
fn remembered(guest: &Guest) -> [(usize, usize); 2] {
    [guest.ipv4.into(), guest.ipv6.into()].map(conntrack::remembered)
}
