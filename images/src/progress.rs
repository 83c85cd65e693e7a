//! How far something is that takes long, and how to end it early.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is being done for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Bytes come from a registry.
    Download,
    /// Packages are fetched and installed; how much there is, nobody knows.
    Install,
    /// Layers are laid over one another; in bytes of the layers as they came.
    Unpack,
    /// The root is written; in bytes of its files.
    Write,
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// Bytes that are through.
    pub done: u64,
    /// Bytes that there are; 0 where that is not known.
    pub total: u64,
}

/// Ends what it was given to, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whom to tell, and who may end it.
#[derive(Clone, Copy)]
pub struct Progress<'p> {
    tell: &'p (dyn Fn(Step) + Sync),
    cancel: &'p Cancel,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Progress").field(self.cancel).finish()
    }
}

impl<'p> Progress<'p> {
    /// `tell` is called often, on the thread that works: it does little.
    #[must_use]
    pub fn new(tell: &'p (dyn Fn(Step) + Sync), cancel: &'p Cancel) -> Self {
        Self { tell, cancel }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Tells how far a phase is; an error where the end was asked for.
    pub(crate) fn step(&self, phase: Phase, done: u64, total: u64) -> io::Result<()> {
        if self.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        (self.tell)(Step { phase, done, total });
        Ok(())
    }
}

/// A reader that tells how much went through it.
pub(crate) struct Told<'p, R> {
    from: R,
    phase: Phase,
    done: u64,
    total: u64,
    progress: Progress<'p>,
}

impl<'p, R: Read> Told<'p, R> {
    /// `done` bytes of `total` are through before the first one.
    pub(crate) fn new(
        from: R,
        phase: Phase,
        done: u64,
        total: u64,
        progress: Progress<'p>,
    ) -> Self {
        Self {
            from,
            phase,
            done,
            total,
            progress,
        }
    }
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.done += read as u64;
        self.progress.step(self.phase, self.done, self.total)?;
        Ok(read)
    }
}
