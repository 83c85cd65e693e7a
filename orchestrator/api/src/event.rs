//! What happens to VMs, as a stream of JSON lines.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::vm::Outcome;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Event {
    /// Grows by one from event to event; a daemon that was started again goes on at a higher number.
    pub seq: u64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// To which VM; absent for [`EventKind::Lagged`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmRef>,
    /// How it ended, for [`EventKind::Ended`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Which VM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct VmRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A VM is wanted, and this is written down.
    Created,
    /// Its virtual CPUs run.
    Running,
    /// Its program runs, as its agent says; only a Linux guest has one.
    Ready,
    /// Its health probe succeeds.
    Healthy,
    /// Its health probe fails, and has so often enough.
    Unhealthy,
    /// It stands still.
    Paused,
    /// It runs again.
    Resumed,
    /// It was asked to end.
    Stopping,
    /// It is over.
    Ended,
    /// Nothing of it is left.
    Removed,
    /// Events before this one were missed: the reader was too slow, asked for ones too long ago, or the
    /// daemon was started again since. Read the list of VMs anew.
    Lagged,
}

/// `GET /v1/events?since=`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events with a higher number, old ones first; without it, only what happens from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}
