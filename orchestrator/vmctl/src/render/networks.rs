//! Networks as a table and as a page.

use std::fmt::Write;

use api::Network;
use comfy_table::{Cell, Row};

use crate::output::Style;

/// A line a network.
pub(crate) fn table(networks: &[Network], style: Style) -> String {
    let header = ["NAME", "IPV4", "IPV6", "BRIDGE", "VMS"];
    let rows = networks.iter().map(|network| {
        Row::from(vec![
            Cell::new(&network.name),
            Cell::new(&network.ipv4),
            Cell::new(&network.ipv6),
            Cell::new(network.bridge.as_deref().unwrap_or("-")),
            Cell::new(network.vms.len()),
        ])
    });
    style.table(&header, rows)
}

/// All there is to know of a network.
pub(crate) fn page(network: &Network, style: Style) -> String {
    let mut page = format!("{}\n", style.bold(&network.name));
    let bridge = network.bridge.as_deref().unwrap_or("none now");
    let vms = match &network.vms[..] {
        [] => "none".to_owned(),
        vms => vms.join(", "),
    };
    for (what, value) in [
        ("ipv4", network.ipv4.as_str()),
        ("ipv6", &network.ipv6),
        ("mtu", &network.mtu.to_string()),
        ("bridge", bridge),
        ("vms", &vms),
    ] {
        let _ = writeln!(page, "  {} {value}", style.dim(&format!("{what:<11}")));
    }
    page
}
