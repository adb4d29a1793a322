//! Connections that end when their server does, whatever is under way on them: who is
//! not let in any more must not go on reading.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Ready when the server has ended.
pub(super) type End = Shared<BoxFuture<'static, ()>>;

/// A connection and what ends it.
#[derive(Debug)]
pub(super) struct Severable {
    stream: TcpStream,
    /// `None`: it has ended.
    end: Option<End>,
}

impl Severable {
    pub(super) fn new(stream: TcpStream, end: End) -> Self {
        Self { stream, end: Some(end) }
    }

    /// Wakes the reader at the end; a server always reads.
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let ended = self.end.as_mut().is_none_or(|end| end.poll_unpin(context).is_ready());
        if ended {
            self.end = None;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Connected for Severable {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Severable {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_end(context)?;
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_end(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
