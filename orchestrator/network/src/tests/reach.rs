//! Who reaches whom.

use std::net::IpAddr;

use super::place::test;
use super::world::{
    HOST4, HOST6, NEVER, SOON, WORLD4, WORLD6, call, create, guest, open, traces, words, world,
};
use crate::link;
use crate::net::{Known, LeaseRequest};

#[test]
fn vms_of_one_network_reach_each_other_and_no_others() {
    test(|| {
        let networks = open("reach");
        create(&networks, &["blue", "red"]);
        let a = guest(&networks, "a", "blue", &[]);
        let b = guest(&networks, "b", "blue", &[]);
        let c = guest(&networks, "c", "red", &[]);
        assert_eq!(words(a.call(b.ipv4, 80)), ("b".to_owned(), a.ipv4.into()));
        assert_eq!(words(a.call(b.ipv6, 80)), ("b".to_owned(), a.ipv6.into()));
        assert!(a.call_in_vain(c.ipv4, 80) && a.call_in_vain(c.ipv6, 80));
        assert!(c.call_in_vain(a.ipv4, 80) && c.call_in_vain(a.ipv6, 80));
    });
}

#[test]
fn a_host_that_has_ipv6_off_for_new_links_has_it_on_in_networks() {
    test(|| {
        crate::sysctl::write("ipv6/conf/default/disable_ipv6", "1").unwrap();
        let networks = open("off");
        create(&networks, &["blue"]);
        let a = guest(&networks, "a", "blue", &[]);
        assert_eq!(words(call((a.ipv6, 80).into(), SOON)).0, "a");
    });
}

#[test]
fn vms_go_out_by_the_hosts_address_and_nobody_comes_in() {
    test(|| {
        let world = world();
        let networks = open("out");
        create(&networks, &["blue"]);
        let a = guest(&networks, "a", "blue", &[]);
        assert_eq!(
            words(a.call(WORLD4, 80)),
            ("world".to_owned(), HOST4.into())
        );
        assert_eq!(
            words(a.call(WORLD6, 80)),
            ("world".to_owned(), HOST6.into())
        );
        // A neighbour that takes the host for a router gets nowhere.
        let (to4, to6) = (IpAddr::V4(a.ipv4), IpAddr::V6(a.ipv6));
        let reached = world.place.run(move || {
            let link = link::find("eth0").unwrap().unwrap().index;
            super::world::route(to4.into(), Some(HOST4.into()), link);
            super::world::route(to6.into(), Some(HOST6.into()), link);
            [to4, to6].map(|to| call((to, 80).into(), NEVER))
        });
        assert_eq!(reached, [None, None]);
        // The host itself is let in.
        assert_eq!(words(call((to4, 80).into(), SOON)).0, "a");
    });
}

#[test]
fn of_the_host_vms_reach_no_service_that_is_not_theirs() {
    test(|| {
        let networks = open("host");
        create(&networks, &["blue"]);
        let a = guest(&networks, "a", "blue", &[]);
        let gateway = networks.list()[0].gateway4();
        let listener =
            std::net::TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, 4000)).unwrap();
        assert!(a.call_in_vain(gateway, 4000));
        // Nobody listens for names on TCP: that is said at once.
        let refused = a.place.run(move || {
            std::net::TcpStream::connect((gateway, 53))
                .unwrap_err()
                .kind()
        });
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
        drop(listener);
    });
}

#[test]
fn after_the_last_vm_nothing_is_left() {
    test(|| {
        let _world = world();
        let before = traces();
        let networks = open("last");
        create(&networks, &["blue", "red"]);
        assert_eq!(traces(), before, "a network without VMs is nothing");
        let a = guest(&networks, "a", "blue", &["8080:80"]);
        let b = guest(&networks, "b", "blue", &[]);
        let c = guest(&networks, "c", "red", &[]);
        networks.release("a").unwrap();
        drop(a);
        assert!(b.call_in_vain(c.ipv4, 80));
        assert_eq!(words(c.call(WORLD4, 80)).0, "world");
        networks.release("b").unwrap();
        assert_eq!(words(c.call(WORLD4, 80)).0, "world");
        networks.release("c").unwrap();
        assert_eq!(traces(), before);
        assert!(networks.remove("blue").is_ok() && networks.remove("red").is_ok());
    });
}

#[test]
fn traffic_goes_on_without_the_daemon_and_the_next_one_finds_all_of_it() {
    test(|| {
        let world = world();
        let before = traces();
        let first = open("again");
        create(&first, &["blue"]);
        let a = guest(&first, "a", "blue", &["8080:80"]);
        let b = guest(&first, "b", "blue", &[]);
        let known: Vec<Known> = ["a", "b"].map(|vm| known(&first, vm)).to_vec();
        let networks = first.list();
        drop(first);
        let during = traces();
        let outside = || (IpAddr::V4(HOST4), 8080).into();
        assert_eq!(words(world.place.run(move || call(outside(), SOON))).0, "a");
        assert_eq!(words(b.call(a.ipv4, 80)).0, "a");

        let second = open("again");
        let found = second.reconcile(&networks, &known).unwrap();
        assert_eq!(found, crate::Reconciled::default());
        assert_eq!(traces(), during);
        assert_eq!(words(world.place.run(move || call(outside(), SOON))).0, "a");
        let c = guest(&second, "c", "blue", &[]);
        assert_eq!(words(c.call(a.ipv6, 80)).0, "a");
        assert!(second.stats("a").unwrap().unwrap().received_bytes > 0);

        // The next one is told that none of them lives.
        drop(second);
        let third = open("again");
        let found = third.reconcile(&networks, &[]).unwrap();
        assert_eq!(found.removed.len(), 4, "{found:?}");
        assert_eq!(traces(), before);
    });
}

#[test]
fn what_somebody_took_away_comes_back() {
    test(|| {
        let networks = open("back");
        create(&networks, &["blue"]);
        let a = guest(&networks, "a", "blue", &[]);
        let b = guest(&networks, "b", "blue", &[]);
        let known: Vec<Known> = ["a", "b"].map(|vm| known(&networks, vm)).to_vec();
        let bridge = link::links()
            .unwrap()
            .into_iter()
            .find(|link| link.bridge)
            .unwrap();
        link::remove(&bridge).unwrap();
        crate::rules::clear(&super::world::instance("back")).unwrap();
        let found = networks.reconcile(&networks.list(), &known).unwrap();
        assert_eq!(found, crate::Reconciled::default());
        assert_eq!(words(b.call(a.ipv4, 80)).0, "a");
        drop(a);
        let found = networks.reconcile(&networks.list(), &known).unwrap();
        assert_eq!(found.lost, ["a"], "its tap went with who held it");
    });
}

#[test]
fn two_daemons_on_one_host_do_not_disturb_each_other() {
    test(|| {
        let _world = world();
        let before = traces();
        let (one, two) = (open("one"), open("two"));
        create(&one, &["blue"]);
        create(&two, &["blue"]);
        let a = guest(&one, "a", "blue", &["127.0.0.1:8080:80"]);
        let b = guest(&two, "a", "blue", &["127.0.0.1:8081:80"]);
        assert!(a.call_in_vain(b.ipv4, 80) && b.call_in_vain(a.ipv6, 80));
        let taken = two.lease(&LeaseRequest {
            ports: vec!["127.0.0.1:8080:80".parse().unwrap()],
            ..super::world::request("x", "blue", &[])
        });
        assert!(taken.unwrap_err().to_string().contains("8080/tcp"));
        one.release("a").unwrap();
        one.reconcile(&one.list(), &[]).unwrap();
        assert_eq!(words(b.call(WORLD4, 80)).0, "world");
        two.release("a").unwrap();
        assert_eq!(traces(), before);
    });
}

/// What a daemon would have written down.
pub(super) fn known(networks: &crate::Networks, vm: &str) -> Known {
    Known {
        lease: networks.leased(vm).expect("a lease"),
        live: true,
    }
}
