//! Noticing that a file grew: one inotify instance for all who follow a console.
//!
//! Instances are few (128 a user, as a rule) and watches many, so followers share one instance, and followers of one file
//! share one watch.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inotify::{Inotify, WatchDescriptor, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Watches files.
#[derive(Debug)]
pub struct Follower {
    watches: Mutex<inotify::Watches>,
    followed: Mutex<HashMap<WatchDescriptor, watch::Sender<()>>>,
}

/// A file that is followed, until this is dropped.
#[derive(Debug)]
pub struct Followed {
    follower: Arc<Follower>,
    descriptor: WatchDescriptor,
    /// Absent only while it is dropped.
    grown: Option<watch::Receiver<()>>,
}

impl Follower {
    /// Opens the instance and starts the task that reads it.
    ///
    /// # Errors
    /// The operating system's: too many instances, for one.
    pub fn start() -> io::Result<Arc<Self>> {
        let inotify = Inotify::init()?;
        let follower = Arc::new(Self {
            watches: Mutex::new(inotify.watches()),
            followed: Mutex::default(),
        });
        // SAFETY: the instance's descriptor is its own, stays open and is the same until the drop.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?;
        let weak = Arc::downgrade(&follower);
        tokio::spawn(async move {
            let mut inotify = inotify;
            let mut buffer = vec![0; 16 << 10];
            while let Ok(mut ready) = inotify.readable_mut().await {
                let Some(follower) = weak.upgrade() else {
                    return;
                };
                let read = ready.try_io(|fd| {
                    let events = fd.get_mut().read_events(&mut buffer)?;
                    let followed = guard(&follower.followed);
                    for event in events {
                        if let Some(sender) = followed.get(&event.wd) {
                            sender.send_replace(());
                        } else if event.mask.contains(inotify::EventMask::Q_OVERFLOW) {
                            for sender in followed.values() {
                                sender.send_replace(());
                            }
                        }
                    }
                    Ok(())
                });
                if let Ok(Err(error)) = read {
                    tracing::warn!(%error, "cannot read what files grew");
                }
            }
        });
        Ok(follower)
    }

    /// Follows a file.
    ///
    /// # Errors
    /// The operating system's: too many watches, for one.
    pub fn follow(self: &Arc<Self>, path: &Path) -> io::Result<Followed> {
        let mut followed = guard(&self.followed);
        // One file has one descriptor, however often it is added.
        let descriptor = guard(&self.watches).add(path, WatchMask::MODIFY)?;
        let sender = followed
            .entry(descriptor.clone())
            .or_insert_with(|| watch::Sender::new(()));
        Ok(Followed {
            follower: Arc::clone(self),
            grown: Some(sender.subscribe()),
            descriptor,
        })
    }
}

impl Followed {
    /// Waits until the file has grown since this was last called, or since the file was first followed.
    pub async fn grown(&mut self) {
        if let Some(grown) = &mut self.grown
            && grown.changed().await.is_err()
        {
            // The sender stays until the last of its followers is dropped.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut followed = guard(&self.follower.followed);
        drop(self.grown.take());
        let last = followed
            .get(&self.descriptor)
            .is_some_and(|sender| sender.receiver_count() == 0);
        if last {
            followed.remove(&self.descriptor);
            // A file that was removed took its watch with it.
            let _ = guard(&self.follower.watches).remove(self.descriptor.clone());
        }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn every_follower_of_a_file_hears_of_its_growth() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let follower = Follower::start().unwrap();
        let mut first = follower.follow(file.path()).unwrap();
        let mut second = follower.follow(file.path()).unwrap();
        file.write_all(b"x").unwrap();
        first.grown().await;
        second.grown().await;
        drop(first);
        file.write_all(b"x").unwrap();
        second.grown().await;
        drop(second);
        assert!(guard(&follower.followed).is_empty());
    }
}
