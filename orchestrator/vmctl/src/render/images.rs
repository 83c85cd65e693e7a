//! Images as a table and as a page.

use std::fmt::Write;

use api::{Image, ImageConfig, Recipe};
use comfy_table::{Cell, Row};
use jiff::Timestamp;

use crate::output::{Style, printable};
use crate::units::{age, bytes};

/// A table as `docker image ls` prints it: a line a name.
pub(crate) fn table(images: &[Image], now: Timestamp, style: Style) -> String {
    let header = ["NAME", "DIGEST", "KIND", "SIZE", "VMS", "ADDED"];
    let rows = images.iter().flat_map(|image| {
        let nameless = image.names.is_empty().then_some("<none>");
        let names = image.names.iter().map(String::as_str).chain(nameless);
        names.map(move |name| {
            Row::from(vec![
                Cell::new(name),
                Cell::new(short(&image.digest)),
                Cell::new(&image.kind),
                Cell::new(bytes(image.bytes)),
                Cell::new(image.used_by),
                Cell::new(format!("{} ago", age(image.added_at, now))),
            ])
        })
    });
    style.table(&header, rows)
}

/// All there is to know of an image.
pub(crate) fn page(image: &Image, now: Timestamp, style: Style) -> String {
    let names = match &image.names[..] {
        [] => "<none>".to_owned(),
        names => names.join(", "),
    };
    let mut page = format!("{}\n", style.bold(&names));
    let used = match image.used_by {
        0 => "by no VM".to_owned(),
        1 => "by 1 VM".to_owned(),
        n => format!("by {n} VMs"),
    };
    let added = format!("{:.6}  ({} ago)", image.added_at, age(image.added_at, now));
    let mut rows = vec![
        ("digest", image.digest.clone()),
        ("kind", image.kind.clone()),
        (
            "size",
            format!("{}  ({} bytes)", bytes(image.bytes), image.bytes),
        ),
        ("added", added),
        ("used", used),
    ];
    if let Some(boot) = image.boot {
        rows.push(("entry", format!("{:#x}", boot.entry)));
        let least = boot.memory_bytes;
        rows.push((
            "memory",
            format!("more than {}  ({least} bytes)", bytes(least)),
        ));
    }
    if let Some(config) = &image.config {
        rows.extend(configured(config));
    }
    for (what, value) in rows {
        let _ = writeln!(page, "  {} {value}", style.dim(&format!("{what:<11}")));
    }
    page
}

/// What a Linux image runs, and how; what it leaves open is left out.
fn configured(config: &ImageConfig) -> Vec<(&'static str, String)> {
    let words = |words: &[String]| match words {
        [] => String::new(),
        words => format!("{words:?}"),
    };
    let mut rows = vec![
        ("entrypoint", words(&config.entrypoint)),
        ("command", words(&config.cmd)),
        ("user", config.user.clone()),
        ("directory", config.workdir.clone()),
        ("ports", config.ports.join(", ")),
        ("volumes", config.volumes.join(", ")),
        ("stops by", config.stop_signal.clone()),
    ];
    let variables = config.env.iter();
    rows.extend(variables.map(|(k, v)| ("variable", format!("{k}={v}"))));
    rows.retain(|(_, value)| !value.is_empty());
    // An image is somebody else's work.
    rows.into_iter()
        .map(|(what, value)| (what, printable(&value)))
        .collect()
}

/// A line a recipe.
pub(crate) fn recipes(recipes: &[Recipe], style: Style) -> String {
    let rows = recipes.iter().map(|recipe| {
        Row::from(vec![
            Cell::new(&recipe.name),
            Cell::new(&recipe.description),
        ])
    });
    style.table(&["NAME", "DESCRIPTION"], rows)
}

/// As much of a digest as people need.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
