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

/// How long a client may keep its connection without taking part.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// For the next bytes of an answer to be taken.
    pub(super) write: Duration,
    /// For the end of what the client still sends, after the last answer.
    pub(super) linger: Duration,
    /// Once cancelled nobody lingers: the process wants to end.
    pub(super) stopping: CancellationToken,
}

/// A client's connection that neither waits for ever nor loses its last answer.
///
/// Closing a socket that has unread bytes resets the connection, and the reset may overtake the answer. So the end of
/// writing comes first, and what the client still sends is read and thrown away until it closes or time is over
/// (RFC 9112, section 9.6).
#[derive(Debug)]
pub(super) struct ClientStream {
    stream: TcpStream,
    patience: Patience,
    write_until: Option<Pin<Box<Sleep>>>,
    linger_until: Option<Pin<Box<Sleep>>>,
    discarded: usize,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, patience: Patience) -> Self {
        Self { stream, patience, write_until: None, linger_until: None, discarded: 0 }
    }

    /// Gives up where writing has been pending for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_until = None;
            return written;
        }
        let patience = self.patience.write;
        let until = self.write_until.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.linger_until = Some(Box::pin(sleep(self.patience.linger)));
        }
        if self.patience.stopping.is_cancelled() || self.poll_discard(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.linger_until.as_mut().map_or(Poll::Ready(()), |until| until.as_mut().poll(cx)).map(Ok)
    }
}
