//! VMs as a table, and what a VM is doing in a few words.

use std::time::Duration;

use api::{AgentState, Cause, Vm, VmState};
use comfy_table::{Cell, Color, Row};
use jiff::Timestamp;

use super::ports;
use crate::output::Style;
use crate::units::{age, mebibytes, short_time};

/// Most characters of a reason in a table.
const REASON: usize = 60;

/// A table as `docker ps` prints it.
pub(crate) fn table(vms: &[Vm], now: Timestamp, style: Style) -> String {
    let header = [
        "ID", "NAME", "IMAGE", "STATUS", "PORTS", "VCPUS", "MEMORY", "BOOT", "CREATED",
    ];
    style.table(
        &header,
        vms.iter().map(|vm| {
            let status = Cell::new(status(vm, now));
            let boot = boot_time(vm).map_or("-".to_owned(), short_time);
            Row::from(vec![
                Cell::new(&vm.id),
                Cell::new(&vm.name),
                Cell::new(&vm.image),
                match color(vm) {
                    Some(color) => status.fg(color),
                    None => status,
                },
                Cell::new(match &vm.linux {
                    Some(linux) if !linux.ports.is_empty() => ports::short(&linux.ports),
                    _ => "-".to_owned(),
                }),
                Cell::new(vm.vcpus),
                Cell::new(mebibytes(vm.memory_mib)),
                Cell::new(boot),
                Cell::new(format!("{} ago", age(vm.created_at, now))),
            ])
        }),
    )
}

/// What a VM is doing: `running 3s`, `exited (0) 5s ago`, `failed: triple fault 5s ago`.
pub(crate) fn status(vm: &Vm, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| time.map(|t| age(t, now));
    match (&vm.outcome, vm.state) {
        (Some(outcome), state) if state.is_ended() => {
            let what = match (outcome.cause, state) {
                (Cause::Exit, _) => format!("exited ({})", outcome.status),
                (Cause::Stopped, _) => "stopped".to_owned(),
                (_, VmState::Failed) => format!("failed: {}", shortened(&outcome.message)),
                _ => format!("exited: {}", shortened(&outcome.message)),
            };
            match since(vm.ended_at) {
                Some(age) => format!("{what} {age} ago"),
                None => what,
            }
        }
        (_, VmState::Running) => {
            let age = since(vm.started_at).map(|age| format!(" {age}"));
            format!("running{}{}", age.unwrap_or_default(), inside(vm))
        }
        (_, state) => state.to_string(),
    }
}

/// What is known of a Linux guest that runs, where it is not simply well.
fn inside(vm: &Vm) -> String {
    let Some(linux) = &vm.linux else {
        return String::new();
    };
    match (linux.agent, linux.health) {
        (AgentState::Connecting | AgentState::Configured, _) => " (booting)".to_owned(),
        (AgentState::Unresponsive, _) => " (unresponsive)".to_owned(),
        (_, Some(health)) => format!(" ({health})"),
        _ => String::new(),
    }
}

/// Green for what runs, red for what failed.
pub(crate) fn color(vm: &Vm) -> Option<Color> {
    match vm.state {
        VmState::Running => Some(Color::Green),
        VmState::Failed => Some(Color::Red),
        VmState::Creating | VmState::Starting | VmState::Stopping | VmState::Paused => {
            Some(Color::Yellow)
        }
        VmState::Exited | VmState::Removing | VmState::Gone => None,
    }
}

/// From the wish for it to its first instruction.
pub(crate) fn boot_time(vm: &Vm) -> Option<Duration> {
    let time = vm.started_at?.duration_since(vm.created_at);
    Duration::try_from(time).ok()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= REASON {
        return text.to_owned();
    }
    let kept: String = text.chars().take(REASON - 1).collect();
    format!("{kept}…")
}
