//! Whether this host forwards packets at all: two settings that belong to no one, which Shoal turns on while it has networks.
//!
//! ```text
//! 1. own tables are there      2. note that these were off, as a table's comment      3. turn them on
//! 4. own tables are gone       5. no other instance's is there: turn off what the note says, remove the note
//!                              6. another's came meanwhile: turn on and note again
//! ```
//! Every instance makes its tables before it looks at the settings, and looks for others' after it has turned them off: in whatever
//! order two of them get there, neither is left without. A setting that was on stays on, for nothing notes it.

use crate::error::SystemError;
use crate::link;
use crate::name;
use crate::nft::batch::Batch;
use crate::nft::{self, Family};
use crate::sysctl;

/// The table that holds the note.
const NOTE: &str = "shoal-host";
const IPV4: &str = "ipv4/ip_forward";
const IPV6: &str = "ipv6/conf/all/forwarding";
/// What the note says is its table's comment: type, length, text with its end.
const COMMENT: u8 = 0;

/// Turns on what is off.
pub(crate) fn turn_on() -> Result<(), SystemError> {
    let mut off = Vec::new();
    for setting in [IPV4, IPV6] {
        if sysctl::read(setting).is_ok_and(|value| value == "0")
            && !(setting == IPV6 && loses_routes()?)
        {
            off.push(setting);
        }
    }
    if off.is_empty() {
        return Ok(());
    }
    let mut noted = noted()?.unwrap_or_default();
    noted.extend(off.iter().map(|&setting| setting.to_owned()));
    noted.sort();
    noted.dedup();
    note(&noted)?;
    off.iter()
        .try_for_each(|setting| sysctl::write(setting, "1"))
}

/// Turns off what the note says, if no instance has networks.
pub(crate) fn turn_off() -> Result<(), SystemError> {
    if in_use()? {
        return Ok(());
    }
    let Some(settings) = noted()? else {
        return Ok(());
    };
    for setting in [IPV4, IPV6] {
        if settings.iter().any(|noted| noted == setting) {
            sysctl::write(setting, "0")?;
        }
    }
    let mut batch = Batch::new();
    batch.remove_table(Family::Inet, NOTE);
    batch.send("remove the note of the host's settings")?;
    if in_use()? { turn_on() } else { Ok(()) }
}

/// Whether IPv6 goes out.
pub(crate) fn ipv6_is_on() -> bool {
    sysctl::read(IPV6).is_ok_and(|value| value != "0")
}

/// Whether a host that forwards IPv6 would no longer hear the router that it has its own route from.
pub(crate) fn loses_routes() -> Result<bool, SystemError> {
    let links = link::links()?;
    let mut advertised = link::ways_out()?
        .into_iter()
        .filter(|(_, advertised)| *advertised);
    Ok(advertised.any(|(index, _)| {
        let link = links.iter().find(|link| link.index == index);
        let accepts = |name: &str| sysctl::read(&format!("ipv6/conf/{name}/accept_ra"));
        link.is_some_and(|link| accepts(&link.name).is_ok_and(|value| value == "1"))
    }))
}

fn in_use() -> Result<bool, SystemError> {
    Ok(nft::tables()?
        .iter()
        .any(|table| name::is_table(&table.name)))
}

/// The settings in the note, if there is one.
fn noted() -> Result<Option<Vec<String>>, SystemError> {
    let tables = nft::tables()?;
    let table = tables.iter().find(|table| table.name == NOTE);
    Ok(table.map(|table| {
        let text = String::from_utf8_lossy(table.note.get(2..).unwrap_or_default());
        let text = text.trim_end_matches('\0');
        text.split(' ')
            .filter(|word| word.contains('/'))
            .map(str::to_owned)
            .collect()
    }))
}

fn note(settings: &[String]) -> Result<(), SystemError> {
    let text = format!("were off: {}\0", settings.join(" "));
    let mut comment = vec![COMMENT, u8::try_from(text.len()).unwrap_or_default()];
    comment.extend(text.as_bytes());
    let mut batch = Batch::new();
    // A comment cannot be changed: the table is made anew, at once.
    batch
        .table(Family::Inet, NOTE, &[])
        .remove_table(Family::Inet, NOTE);
    batch.table(Family::Inet, NOTE, &comment);
    batch.send("note the host's settings")
}
