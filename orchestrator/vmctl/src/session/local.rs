//! What happens on the user's side of a session beside its input.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// The terminal has another size.
    Resized,
    /// vmctl got a signal, by its number.
    Signal(u8),
}

/// Signals that a user or a script sends to a program to be heard by it.
pub(crate) const FOR_PROGRAMS: [libc::c_int; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Whether a signal asks for the end of who gets it.
pub(crate) fn is_ending(signal: u8) -> bool {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&i32::from(signal))
}

/// The first signal that asks for the end, where there is nobody yet to pass signals on to.
pub(crate) async fn ending(local: &mut UnboundedReceiver<Local>) -> u8 {
    while let Some(heard) = local.recv().await {
        match heard {
            Local::Signal(signal) if is_ending(signal) => return signal,
            _ => {}
        }
    }
    std::future::pending().await
}

/// Hears `signals` from now on, and changes of the terminal's size.
///
/// # Errors
/// Where the system refuses a handler.
pub(crate) fn listen(signals: &[libc::c_int]) -> io::Result<UnboundedReceiver<Local>> {
    let (sender, receiver) = unbounded_channel();
    let resized = std::iter::once((libc::SIGWINCH, Local::Resized));
    let signals = signals.iter().filter_map(|number| {
        let local = Local::Signal(u8::try_from(*number).ok()?);
        Some((*number, local))
    });
    for (number, local) in resized.chain(signals) {
        let mut heard = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        tokio::spawn(
            async move { while heard.recv().await.is_some() && sender.send(local).is_ok() {} },
        );
    }
    Ok(receiver)
}
