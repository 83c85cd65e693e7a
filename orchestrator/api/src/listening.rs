//! A client's end of a connection that goes on listening when nobody listens to it any more.
//!
//! A server may answer before it has read all of a request, because what it has read is enough to refuse it, and close. Writing
//! then fails (`EPIPE`, `ECONNRESET`) while the answer lies in the socket, unread; HTTP's client gives up at the first of the two that it
//! sees. Here such a write never ends, so that what comes next is what the server said, or the end where it said nothing.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes wait for ever once the other end has closed; who uses it reads too.
#[derive(Debug)]
pub(crate) struct Listening<T>(pub(crate) T);

/// A write's result, where the other end may be closed.
fn unless_closed<N>(context: &Context<'_>, result: Poll<io::Result<N>>) -> Poll<io::Result<N>> {
    match result {
        Poll::Ready(Err(e))
            if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            // Once more around: what is there to be read came before the end.
            context.waker().wake_by_ref();
            Poll::Pending
        }
        other => other,
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Listening<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Listening<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.0).poll_write(context, bytes);
        unless_closed(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.0).poll_write_vectored(context, slices);
        unless_closed(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.0).poll_flush(context);
        unless_closed(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_a_server_said_before_it_closed_is_read_after_a_write() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Listening(ours);
        ours.write_all(b"never read").await.unwrap();
        theirs.write_all(b"no").await.unwrap();
        drop(theirs);
        for _ in 0..3 {
            let write = std::pin::pin!(ours.write_all(b"more"));
            assert!(futures::poll!(write).is_pending());
        }
        let mut said = [0; 2];
        ours.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"no");
    }
}
