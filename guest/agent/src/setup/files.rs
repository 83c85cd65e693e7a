//! The files in `/etc` that say where the guest is.

use std::fmt::Write as _;
use std::fs;
use std::io;

use abi::agent::network::Network;
use abi::agent::reply::Failure;
use nix::mount::{MsFlags, mount};
use nix::unistd::sethostname;

use super::{failed, failed_io};

/// Names the guest, and writes what it should know of the names around it.
pub(super) fn write(name: &str, network: &Network) -> Result<(), Failure> {
    sethostname(name).map_err(failed("the guest cannot be named"))?;
    // A root without this directory has no program that looks there.
    if !fs::exists("/etc").is_ok_and(|is_there| is_there) {
        return Ok(());
    }
    put("hostname", &format!("{name}\n"))?;
    put("hosts", &hosts(name, network))?;
    if network.dns.servers.is_empty() {
        return Ok(());
    }
    put("resolv.conf", &resolv_conf(network))
}

/// Writes `/etc/NAME`; where the root cannot be written to, lays a file in memory over it.
fn put(name: &str, text: &str) -> Result<(), Failure> {
    let path = format!("/etc/{name}");
    // Often a link to what some other program would write.
    let _ = fs::remove_file(&path);
    match fs::write(&path, text) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let instead = format!("/run/{name}");
            fs::write(&instead, text).map_err(failed_io(&instead))?;
            mount(
                Some(&*instead),
                &*path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(failed(&path))
        }
        other => other.map_err(failed_io(&path)),
    }
}

fn hosts(name: &str, network: &Network) -> String {
    let mut text =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let own = network
        .interfaces
        .iter()
        .flat_map(|interface| &interface.addresses);
    let mut is_named = false;
    for address in own {
        is_named = true;
        let _ = writeln!(text, "{}\t{name}", address.address);
    }
    if !is_named && name != "localhost" {
        let _ = writeln!(text, "127.0.1.1\t{name}");
    }
    for host in network.hosts.iter().filter(|host| !host.names.is_empty()) {
        let _ = writeln!(text, "{}\t{}", host.address, host.names.join(" "));
    }
    text
}

fn resolv_conf(network: &Network) -> String {
    let mut text = String::new();
    if !network.dns.search.is_empty() {
        let _ = writeln!(text, "search {}", network.dns.search.join(" "));
    }
    for server in &network.dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::agent::network::{Dns, Host, Interface, Mac};

    #[test]
    fn files_say_where_the_guest_is() {
        let network = Network {
            interfaces: vec![Interface {
                mac: Mac([2, 0, 0, 0, 0, 1]),
                addresses: ["10.0.0.2/24", "fd00::2/64"]
                    .map(|a| a.parse().expect("an address"))
                    .to_vec(),
                gateway_v4: None,
                gateway_v6: None,
                mtu: None,
            }],
            dns: Dns {
                servers: vec!["10.0.0.1".parse().expect("an address")],
                search: vec!["a.test".into(), "b.test".into()],
            },
            hosts: vec![Host {
                address: "10.0.0.3".parse().expect("an address"),
                names: vec!["db".into(), "db.a.test".into()],
            }],
        };
        assert_eq!(
            hosts("web", &network),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             10.0.0.2\tweb\nfd00::2\tweb\n10.0.0.3\tdb db.a.test\n"
        );
        assert_eq!(
            resolv_conf(&network),
            "search a.test b.test\nnameserver 10.0.0.1\n"
        );
        assert!(hosts("web", &Network::default()).ends_with("127.0.1.1\tweb\n"));
    }
}
