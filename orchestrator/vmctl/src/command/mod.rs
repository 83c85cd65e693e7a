//! The commands: one file each, with its arguments and what it does.

pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod ps;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod stop;
pub(crate) mod version;
pub(crate) mod wait;

mod description;
mod several;
