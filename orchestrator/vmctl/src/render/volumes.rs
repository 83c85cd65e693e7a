//! Volumes as a table and as a page.

use std::fmt::Write;

use api::Volume;
use comfy_table::{Cell, Row};
use jiff::Timestamp;

use crate::output::Style;
use crate::units::{age, bytes, mebibytes};

/// A line a volume.
pub(crate) fn table(volumes: &[Volume], now: Timestamp, style: Style) -> String {
    let header = ["NAME", "SIZE", "USED", "VMS", "CREATED"];
    let rows = volumes.iter().map(|volume| {
        Row::from(vec![
            Cell::new(&volume.name),
            Cell::new(mebibytes(volume.size_mib)),
            Cell::new(bytes(volume.used_bytes)),
            Cell::new(users(volume, "-")),
            Cell::new(format!("{} ago", age(volume.created_at, now))),
        ])
    });
    style.table(&header, rows)
}

/// All there is to know of a volume.
pub(crate) fn page(volume: &Volume, now: Timestamp, style: Style) -> String {
    let mut page = format!("{}\n", style.bold(&volume.name));
    let used = bytes(volume.used_bytes);
    let created = format!(
        "{:.6}  ({} ago)",
        volume.created_at,
        age(volume.created_at, now)
    );
    for (what, value) in [
        ("size", mebibytes(volume.size_mib)),
        ("used", format!("{used} of this host's disk")),
        ("vms", users(volume, "none")),
        ("created", created),
    ] {
        let _ = writeln!(page, "  {} {value}", style.dim(&format!("{what:<11}")));
    }
    page
}

fn users(volume: &Volume, nobody: &str) -> String {
    match &volume.used_by[..] {
        [] => nobody.to_owned(),
        vms => vms.join(", "),
    }
}
