//! Accepting connections, within bounds.
//!
//! | bound | of what |
//! |---|---|
//! | [`CONNECTIONS`] | connections at once; the next ones wait to be accepted |
//! | [`HEADERS`] | a request's head, from the connection's opening or the end of the request before |
//! | [`HEAD_BYTES`] | a request's head |
//! | [`PARTING`] | how long requests under way may go on when the daemon ends |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

/// Most connections at once.
pub const CONNECTIONS: usize = 4096;
/// How long a request's head may take to arrive.
pub const HEADERS: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
pub const HEAD_BYTES: usize = 64 << 10;
/// How long requests under way may go on when the daemon ends: waiting ones and streams would go on for ever.
pub const PARTING: Duration = Duration::from_secs(1);

/// Serves until `end`, then lets what is under way come to its end, for a moment.
pub async fn serve(listener: UnixListener, router: Router, end: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEAD_BYTES);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let ending = watch::Sender::new(());
    tokio::pin!(end);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut end => break,
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: there will be some when others close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = builder
            .serve_connection(TokioIo::new(stream), service.clone())
            .with_upgrades();
        let mut ended = ending.subscribe();
        tokio::spawn(async move {
            let _slot = slot;
            let mut connection = std::pin::pin!(connection);
            let served = tokio::select! {
                served = &mut connection => served,
                // Of the two ends of this channel the other one only ever says that it is over.
                _ = ended.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    ending.send_replace(());
    // Every connection has the other end of this.
    let _ = tokio::time::timeout(PARTING, ending.closed()).await;
}
