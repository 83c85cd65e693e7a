//! State that one core owns.

use core::cell::{OnceCell, RefCell, RefMut};

/// A static value that only the code of its core touches.
///
/// A guest runs on one core, to completion: no interrupt handler runs Rust, so nothing can come between a borrow and its
/// end but a trap, and the trap handler takes what it needs with [`Self::try_borrow`].
pub(crate) struct CoreCell<T>(RefCell<T>);

// SAFETY: one core, no preemption: there is never a second thread to share with.
unsafe impl<T> Sync for CoreCell<T> {}

impl<T> CoreCell<T> {
    /// Holds `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// The value, for as long as the guard lives. Never held over an `.await`.
    ///
    /// # Panics
    /// Where a caller further up holds it: a mistake in the library OS.
    pub(crate) fn borrow(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }

    /// The value, unless somebody further up holds it.
    pub(crate) fn try_borrow(&self) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }
}

/// A value that is set once, at boot, and read ever after.
pub(crate) struct CoreOnce<T>(OnceCell<T>);

// SAFETY: as for `CoreCell`.
unsafe impl<T> Sync for CoreOnce<T> {}

impl<T> CoreOnce<T> {
    /// Not set yet.
    pub(crate) const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// The value, if it is set.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// The value, made by `first` where it is not set.
    pub(crate) fn get_or_init(&self, first: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(first)
    }
}
