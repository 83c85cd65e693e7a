//! The documents say what the code says.

use std::fs;
use std::path::Path;

use abi::agent::frame::{Frame, Kind, PAYLOAD_MAX};
use abi::agent::message::Message;
use abi::{layout, port, pvh, status};
use tests::place;

fn read(name: &str) -> String {
    let path = place::repository().join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_guest_abi_has_the_codes_numbers() {
    let text = read("docs/guest-abi.md");
    let rows = [
        format!("| start information | `{:#x}` |", layout::START_INFO),
        format!("| memory map | `{:#x}` |", layout::MEMORY_MAP),
        format!(
            "at most {} bytes with its NUL | `{:#x}` |",
            layout::CMDLINE_MAX,
            layout::CMDLINE
        ),
        format!(
            "| end of conventional memory | `{:#x}` |",
            layout::LOW_MEMORY_END
        ),
        format!(
            "| lowest address of an image | `{:#x}` |",
            layout::IMAGE_START
        ),
        format!("| end of RAM below 4 GiB | `{:#x}` |", layout::LOW_RAM_END),
        format!(
            "devices, {} bytes each | `{:#x}` |",
            layout::VIRTIO_MMIO_SIZE,
            layout::VIRTIO_MMIO_START
        ),
        format!("read-only | `{:#x}` |", layout::MODULE_START),
        format!("| I/O APIC | `{:#x}` |", layout::IOAPIC),
        format!("| local APIC | `{:#x}` |", layout::LAPIC),
        format!("| RAM beyond 3 GiB | `{:#x}` |", layout::HIGH_RAM_START),
        format!("| port `{:#x}` | {} |", port::SERIAL, layout::SERIAL_GSI),
        format!(
            "(`{:#x}` to `{:#x}`)",
            port::I8042_RESET,
            port::I8042_COMMAND
        ),
        format!(
            "| ports `{:#x}`, `{:#x}` | {} |",
            port::I8042_DATA,
            port::I8042_COMMAND,
            layout::I8042_GSI
        ),
        format!("| exit port | port `{:#x}` |", port::EXIT),
        format!(
            "| {} to {} |",
            layout::VIRTIO_GSI_FIRST,
            layout::VIRTIO_GSI_LAST
        ),
        format!("type {} (", pvh::NOTE_TYPE),
        format!("(magic `{:#x}`,", pvh::START_MAGIC),
        format!("| {} | the program returned", status::SUCCESS),
        format!("| {} | it panicked |", status::PANIC),
        format!(
            "| {} | an invalid instruction |",
            status::INVALID_INSTRUCTION
        ),
        format!("| {} | any other trap |", status::TRAP),
        format!("| {} | an arithmetic fault |", status::ARITHMETIC),
        format!("| {} | no memory was left |", status::OUT_OF_MEMORY),
        format!("| {} | a bad memory access", status::BAD_ACCESS),
        format!("| {} | the VM was asked to shut down", status::SHUTDOWN),
    ];
    for row in rows {
        assert!(text.contains(&row), "docs/guest-abi.md does not say: {row}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for entry in place::repository().join("docs").read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            documents.push(format!("docs/{name}"));
        }
    }
    for document in documents {
        let text = read(&document);
        let dir = place::repository().join(&document);
        let dir = dir.parent().unwrap_or(Path::new(""));
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let there = link.contains("://") || dir.join(link).exists();
            assert!(there, "{document} links to {link}, which is not there");
        }
    }
}

/// What the installed daemon prints.
fn vmd(flag: &str) -> String {
    let output = std::process::Command::new(place::program("vmd"))
        .arg(flag)
        .output()
        .unwrap();
    assert!(output.status.success(), "vmd {flag} failed: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_rest_interface_is_the_daemons_own() {
    assert!(
        read("docs/openapi.json") == vmd("--openapi"),
        "docs/openapi.json is stale: run `cargo ci docs`"
    );
}

#[test]
fn the_table_of_states_is_the_daemons_own() {
    assert!(
        read("docs/vm-life.md").contains(&vmd("--states")),
        "docs/vm-life.md is stale: run `cargo ci docs`"
    );
}

#[test]
fn the_agents_protocol_has_the_codes_numbers() {
    let text = read("docs/agent.md");
    let mut rows = vec![
        format!("vsock port {}", abi::agent::PORT),
        format!("at most {} |", PAYLOAD_MAX),
        format!("`{{\"version\":{}}}`", abi::agent::VERSION),
    ];
    rows.extend(Kind::ALL.map(|kind| format!("| {} | {kind:?} |", kind as u8)));
    for row in rows {
        assert!(text.contains(&row), "docs/agent.md lacks {row:?}");
    }
}

#[test]
fn the_agents_example_is_a_request() {
    let text = read("docs/agent.md");
    let example = text
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix('{')
                .filter(|_| line.starts_with("    "))
        })
        .expect("there is an example");
    let payload = format!("{{{example}");
    let frame = Frame {
        kind: Kind::Request,
        payload: payload.as_bytes(),
    };
    assert!(Message::decode(frame).is_ok(), "{payload}");
}
