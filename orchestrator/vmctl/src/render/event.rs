//! An event as a line.

use api::{Event, EventKind};

/// `2026-01-02T03:04:05.678901Z  running   3f2a9c11d0e4  web-1`
pub(crate) fn line(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Created => "created",
        EventKind::Running => "running",
        EventKind::Ready => "ready",
        EventKind::Healthy => "healthy",
        EventKind::Unhealthy => "unhealthy",
        EventKind::Paused => "paused",
        EventKind::Resumed => "resumed",
        EventKind::Stopping => "stopping",
        EventKind::Ended => "ended",
        EventKind::Removed => "removed",
        EventKind::Lagged => "lagged",
    };
    let mut line = format!("{:.6}  {kind:<8}", event.time);
    if let Some(vm) = &event.vm {
        line += &format!("  {}  {}", vm.id, vm.name);
    }
    if let Some(outcome) = &event.outcome {
        line += &format!("  {}", outcome.message);
    }
    if event.kind == EventKind::Lagged {
        line += "  events were missed: see `vmctl ps --all`";
    }
    line
}
