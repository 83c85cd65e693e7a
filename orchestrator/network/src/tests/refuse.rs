//! What cannot be, and what is said of it.

use std::net::TcpListener;

use super::place::test;
use super::world::{create, guest, instance, lease, open, request, route, traces};
use crate::net::{Known, LeaseRequest, NetworkSpec};
use crate::{Mac, link, tap};

fn spec(ipv4: &str) -> NetworkSpec {
    NetworkSpec {
        ipv4: Some(ipv4.parse().unwrap()),
        ..NetworkSpec::default()
    }
}

#[test]
fn a_subnet_that_the_host_has_is_neither_chosen_nor_given() {
    test(|| {
        let lo = link::find("lo").unwrap().unwrap().index;
        route("10.0.0.0/9".parse().unwrap(), None, lo);
        route("10.128.0.0/11".parse().unwrap(), None, lo);
        let networks = open("subnet");
        let chosen = networks.create("blue", &NetworkSpec::default()).unwrap();
        assert!(chosen.ipv4.addr().octets()[1] >= 160, "{}", chosen.ipv4);
        let error = networks
            .create("red", &spec("10.1.0.0/16"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "subnet 10.1.0.0/16 overlaps 10.0.0.0/9, which a route of the host has"
        );
        let error = networks
            .create("red", &spec(&chosen.ipv4.to_string()))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("which another network has"), "{error}");
        // The host gets the route after the network was planned.
        lease(&networks, "a", "blue", &[]);
        route(chosen.ipv4.into(), None, lo);
        let before = traces();
        let error = networks.attach("a").unwrap_err().to_string();
        assert!(error.contains("to which the host has a route"), "{error}");
        assert_eq!(traces(), before);
    });
}

#[test]
fn addresses_run_out_with_a_clear_word_and_come_back() {
    test(|| {
        let networks = open("full");
        networks.create("small", &spec("10.200.0.0/29")).unwrap();
        for vm in ["a", "b", "c", "d", "e"] {
            lease(&networks, vm, "small", &[]);
        }
        let error = networks
            .lease(&request("f", "small", &[]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "all 5 addresses of network small (10.200.0.0/29) are taken"
        );
        networks.release("c").unwrap();
        assert_eq!(
            lease(&networks, "f", "small", &[]).ipv4.to_string(),
            "10.200.0.4"
        );
        let error = networks.remove("small").unwrap_err().to_string();
        assert_eq!(error, "network small has 5 VMs, a among them");
    });
}

#[test]
fn an_address_may_be_asked_for_where_it_is_free() {
    test(|| {
        let networks = open("wish");
        networks.create("blue", &spec("10.200.0.0/24")).unwrap();
        let wish = |vm: &str, ipv4: &str| {
            networks.lease(&LeaseRequest {
                ipv4: Some(ipv4.parse().unwrap()),
                ..request(vm, "blue", &[])
            })
        };
        assert_eq!(
            wish("a", "10.200.0.77").unwrap().ipv4.to_string(),
            "10.200.0.77"
        );
        let error = wish("b", "10.200.0.77").unwrap_err().to_string();
        assert_eq!(error, "10.200.0.77 in network blue belongs to VM a");
        for bad in [
            "10.200.0.0",
            "10.200.0.1",
            "10.200.0.255",
            "10.200.1.4",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            let error = wish("b", bad).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{bad} is no address for a VM in network blue")),
                "{error}"
            );
        }
        let twice = networks
            .lease(&request("a", "blue", &[]))
            .unwrap_err()
            .to_string();
        assert_eq!(twice, "VM a has a place in a network already");
        let nowhere = networks
            .lease(&request("b", "green", &[]))
            .unwrap_err()
            .to_string();
        assert_eq!(nowhere, "there is no network green");
    });
}

#[test]
fn a_port_that_is_taken_is_refused_with_who_has_it() {
    test(|| {
        let networks = open("taken");
        create(&networks, &["blue"]);
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let error = |vm: &str, ports: &[&str]| {
            networks
                .lease(&request(vm, "blue", ports))
                .unwrap_err()
                .to_string()
        };
        let said = error("a", &["8080:80"]);
        assert!(
            said.starts_with("port 8080/tcp of the host is taken by "),
            "{said}"
        );
        assert!(
            said.ends_with(&format!("(process {})", std::process::id())),
            "{said}"
        );
        assert_eq!(
            error("a", &["9090:80", "127.0.0.1:9090:81"]),
            "port 9090/tcp of the host is to be published twice"
        );
        assert_eq!(
            error("a", &["203.0.113.9:9090:80"]),
            "203.0.113.9 is no address of this host"
        );
        lease(&networks, "a", "blue", &["9090:80", "8080:80/udp"]);
        assert_eq!(
            error("b", &["9091:80", "127.0.0.1:9090:80"]),
            "port 9090/tcp of the host is taken by VM a"
        );
        lease(&networks, "b", "blue", &["9091:80"]);
        drop(listener);
        lease(&networks, "c", "blue", &["8080:80"]);
    });
}

#[test]
fn links_that_somebody_else_made_are_left_alone() {
    test(|| {
        let networks = open("links");
        create(&networks, &["blue"]);
        lease(&networks, "a", "blue", &[]);
        let instance = instance("links");
        // A bridge of our name which is not in our group.
        let stranger = tap::make(&instance.bridge(0)).unwrap();
        let before = traces();
        let error = networks.attach("a").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "link {} exists already and is not Shoal's",
                instance.bridge(0)
            )
        );
        assert_eq!(traces(), before);
        networks.reconcile(&networks.list(), &[]).unwrap();
        assert_eq!(traces(), before);
        drop(stranger);

        lease(&networks, "a", "blue", &[]);
        let stranger = tap::make(&instance.tap(0, 2)).unwrap();
        let before = traces();
        let error = networks.attach("a").unwrap_err().to_string();
        assert_eq!(
            error,
            format!("link {} exists already and is in use", instance.tap(0, 2))
        );
        assert_eq!(traces(), before);
        drop(stranger);
        networks.attach("a").unwrap();
        assert!(
            networks
                .attach("a")
                .unwrap_err()
                .to_string()
                .contains("already")
        );
        networks.release("a").unwrap();
        assert!(
            networks
                .attach("a")
                .unwrap_err()
                .to_string()
                .contains("no place")
        );
    });
}

#[test]
fn a_forwarding_host_stays_one() {
    test(|| {
        crate::sysctl::write("ipv4/ip_forward", "1").unwrap();
        let before = traces();
        let networks = open("forwarding");
        create(&networks, &["blue"]);
        let a = guest(&networks, "a", "blue", &[]);
        assert!(crate::forwarding::ipv6_is_on());
        networks.release("a").unwrap();
        drop(a);
        assert_eq!(traces(), before, "IPv4 goes on, IPv6 was off");
    });
}

#[test]
fn records_that_contradict_each_other_are_refused() {
    test(|| {
        let networks = open("records");
        create(&networks, &["blue"]);
        let a = lease(&networks, "a", "blue", &[]);
        let again = Known {
            lease: crate::Lease {
                vm: "b".into(),
                name: "b".into(),
                ..a.clone()
            },
            live: false,
        };
        let first = Known {
            lease: a,
            live: false,
        };
        let error = networks
            .reconcile(&networks.list(), &[first, again])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("what is written down of VM b cannot be"),
            "{error}"
        );
        let twice = [networks.list(), networks.list()].concat();
        assert!(networks.reconcile(&twice, &[]).is_err());
    });
}

#[test]
fn a_thousand_vms_fit_into_one_reconciliation() {
    test(|| {
        let networks = open("thousand");
        networks.create("blue", &spec("10.200.0.0/21")).unwrap();
        let known: Vec<Known> = (0..1000)
            .map(|i| Known {
                lease: lease(&networks, &format!("vm{i}"), "blue", &[]),
                live: true,
            })
            .collect();
        let found = networks.reconcile(&networks.list(), &known).unwrap();
        assert_eq!((found.lost.len(), found.problems.len()), (1000, 0));
        let bridge = link::links()
            .unwrap()
            .into_iter()
            .find(|link| link.bridge)
            .unwrap();
        assert_eq!(bridge.mtu, 1500);
        assert_ne!(Mac::of([10, 200, 0, 1].into()), known[0].lease.mac());
        networks.reconcile(&networks.list(), &[]).unwrap();
    });
}
