//! A VM as a page.

use std::fmt::Write;
use std::time::Duration;

use api::{LinuxVm, Metrics, Vm};
use jiff::Timestamp;

use super::{ports, vms};
use crate::output::{Style, printable};
use crate::units::{age, bytes, mebibytes, short_time};

/// All there is to know of a VM.
pub(crate) fn page(vm: &Vm, now: Timestamp, style: Style) -> String {
    let mut page = format!("{}  {}\n", style.bold(&vm.name), vm.id);
    let status = vms::status(vm, now);
    let mut rows = vec![("status", style.color(vms::color(vm), &status))];
    if let Some(outcome) = &vm.outcome {
        rows.push(("ended", outcome.message.clone()));
    }
    rows.push(("image", format!("{}  {}", vm.image, vm.digest)));
    if !vm.args.is_empty() {
        rows.push(("arguments", format!("{:?}", vm.args)));
    }
    rows.extend(vm.env.iter().map(|(k, v)| ("variable", format!("{k}={v}"))));
    rows.push(("vcpus", vm.vcpus.to_string()));
    rows.push(("memory", format!("{} MiB", vm.memory_mib)));
    if let Some(linux) = &vm.linux {
        rows.extend(of_linux(linux));
    }
    if let Some(ms) = vm.timeout_ms {
        rows.push(("time limit", short_time(Duration::from_millis(ms))));
    }
    if vm.auto_remove {
        rows.push(("removed", "as soon as it has ended".to_owned()));
    }
    let times = [
        ("created", Some(vm.created_at)),
        ("started", vm.started_at),
        ("over", vm.ended_at),
    ];
    for (what, time) in times {
        rows.extend(time.map(|t| (what, format!("{t:.6}  ({} ago)", age(t, now)))));
    }
    rows.extend(vm.monitor_pid.map(|pid| ("monitor", format!("pid {pid}"))));
    for (what, value) in rows {
        let _ = writeln!(page, "  {} {value}", style.dim(&format!("{what:<11}")));
    }
    if let Some(metrics) = &vm.metrics {
        page += &measured(metrics, style);
    }
    page
}

/// What only a Linux guest has.
fn of_linux(linux: &LinuxVm) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("command", format!("{:?}", linux.command)),
        ("user", linux.user.clone()),
        ("directory", linux.workdir.clone()),
        ("host name", linux.hostname.clone()),
        ("disk", mebibytes(linux.disk_mib)),
    ];
    for address in &linux.addresses {
        let (ipv4, ipv6) = (address.ipv4, address.ipv6);
        rows.push((
            "network",
            format!("{}  {ipv4}  {ipv6}  {}", address.network, address.mac),
        ));
    }
    rows.extend(linux.ports.iter().map(|p| ("port", ports::line(p))));
    rows.extend(linux.volumes.iter().map(|v| ("volume", v.to_string())));
    if linux.restarts > 0 {
        rows.push(("restarts", linux.restarts.to_string()));
    }
    let message = linux.agent_message.iter().map(|m| format!(": {m}"));
    rows.push((
        "agent",
        format!("{}{}", linux.agent, message.collect::<String>()),
    ));
    rows.extend(linux.health.map(|health| ("health", health.to_string())));
    rows.retain(|(_, value)| !value.is_empty());
    // An agent is the guest's, and an image is somebody else's work.
    rows.into_iter()
        .map(|(what, value)| (what, printable(&value)))
        .collect()
}

fn measured(metrics: &Metrics, style: Style) -> String {
    let mut text = String::new();
    if !metrics.boot.is_empty() {
        let _ = writeln!(text, "\n{}", style.bold("Boot"));
        let mut before = 0;
        for phase in &metrics.boot {
            let step = phase.at_us.saturating_sub(before);
            before = phase.at_us;
            let step = style.dim(&format!("+{step}"));
            let _ = writeln!(text, "  {:<11} {:>9} µs  {step}", phase.phase, phase.at_us);
        }
    }
    if !metrics.vcpus.is_empty() {
        let _ = writeln!(text, "\n{}", style.bold("vCPUs"));
        for (index, times) in metrics.vcpus.iter().enumerate() {
            let guest = short_time(Duration::from_nanos(times.guest_ns));
            let monitor = short_time(Duration::from_nanos(times.monitor_ns));
            let _ = writeln!(
                text,
                "  {index:<11} {guest} in the guest, {monitor} in the monitor"
            );
        }
    }
    let _ = writeln!(text, "\n{}", style.bold("Counted"));
    for (name, value) in metrics.counters.iter().filter(|(_, v)| **v != 0) {
        let _ = writeln!(text, "  {name:<24} {value}");
    }
    let _ = writeln!(text, "  {:<24} {}", "console", bytes(metrics.console_bytes));
    text
}
