//! Bars for work that takes long.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Work that is done sooner shows nothing: a bar that flashes up is noise.
const PATIENCE: Duration = Duration::from_millis(500);

/// A bar that counts bytes, of how many in all where this is known.
pub(crate) fn bytes(label: &str, total: Option<u64>) -> ProgressBar {
    let form = match total {
        Some(_) => "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}",
        None => "{msg} {spinner} {bytes}, {bytes_per_sec}",
    };
    styled(total, form, label)
}

/// A bar that only says that something is waited for.
pub(crate) fn waiting(label: &str) -> ProgressBar {
    styled(None, "{spinner} {msg} {elapsed}", label)
}

fn styled(total: Option<u64>, form: &str, label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(label.to_owned());
    bar
}

/// Does `work`, and shows `bar` (on a terminal) once it takes long; the bar is gone when the work is done.
pub(crate) async fn shown<F: Future>(output: &Output, bar: &ProgressBar, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    if !output.quiet {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    let done = work.await;
    bar.finish_and_clear();
    done
}
