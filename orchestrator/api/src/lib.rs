//! Shoal's REST interface: what goes over the wire, and a client.
//!
//! JSON over HTTP/1.1 on a unix socket, every path under `/v1`. A VM in a path is its id, a prefix that only one
//! id has, or its name. Requests refuse fields that they do not know; answers may grow fields, so that
//! an older client reads a newer daemon. An error is `{"error": {"code": ..., "message": ...}}`.
//!
//! The OpenAPI document is made from these types (`vmd --openapi`, `GET /v1/openapi.json`).

pub mod client;
mod create;
mod error;
mod event;
mod guest;
mod host;
mod image;
mod listening;
mod network;
mod vm;
mod volume;

pub use client::{Bytestream, Client, ClientError, Events, Lines, Session};
pub use create::{
    CreateVm, HealthProbe, Init, ParseError, Probe, Protocol, Publish, RateLimit, Restart,
    RestartPolicy, VolumeMount,
};
pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use event::{Event, EventKind, EventsQuery, VmRef};
pub use guest::{
    Attach, DiskUse, Exec, FileKind, FileStat, FilesQuery, GuestReport, SendSignal, StatQuery,
    Stats, UPGRADE, WindowSize,
};
pub use host::{Host, Version, VmCounts};
pub use image::{
    AddImageQuery, BuildImage, CollectQuery, Collected, Image, ImageBoot, ImageConfig, ImageEvent,
    ImportImageQuery, PullImage, Recipe, RegistryLogin,
};
pub use network::{Address, CreateNetwork, Network};
pub use vm::{
    AgentState, BootPhase, Cause, GuestKind, HealthState, LinuxVm, ListQuery, LogsQuery, Metrics,
    Outcome, RemoveQuery, StopVm, Until, VcpuTime, Vm, VmState, WaitQuery,
};
pub use volume::{CreateVolume, PrunedVolumes, Volume};
