use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

/// Discarded at most, bytes: a client that sends more than the limits allow learns it from a reset.
const MAX_DISCARDED: usize = 64 << 20;

/// A connection that closes without losing its last answer.
///
/// Closing a socket that has unread bytes resets the connection, and the reset may overtake the answer. So the end of
/// writing comes first, and what the client still sends is read and thrown away until it closes or time is over
/// (RFC 9112, section 9.6).
#[derive(Debug)]
pub(super) struct Lingering {
    stream: TcpStream,
    patience: Duration,
    /// Once cancelled nobody lingers: the process wants to end.
    stopping: CancellationToken,
    until: Option<Pin<Box<Sleep>>>,
    discarded: usize,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream, patience: Duration, stopping: CancellationToken) -> Self {
        Self { stream, patience, stopping, until: None, discarded: 0 }
    }

    /// Ready when there is nothing more to wait for.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            self.discarded += buffer.filled().len();
            if read.is_err() || buffer.filled().is_empty() || self.discarded > MAX_DISCARDED {
                return Poll::Ready(());
            }
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.until = Some(Box::pin(sleep(self.patience)));
        }
        if self.stopping.is_cancelled() || self.poll_discard(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.until.as_mut().map_or(Poll::Ready(()), |until| until.as_mut().poll(cx)).map(Ok)
    }
}
