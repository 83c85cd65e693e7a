//! What is done inside a Linux guest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Bytestream, Client, ClientError, JSON, RAW, broken, drain, empty, escape, json, path, refused,
    stream,
};
use crate::{Attach, Exec, FileStat, SendSignal, Stats, UPGRADE};

impl Client {
    /// Runs a program in the guest. Once it runs, both ends speak frames of `abi::agent`.
    pub async fn exec(&self, vm: &str, exec: &Exec) -> Result<Session, ClientError> {
        self.upgrade(&path(vm, "/exec"), exec).await
    }

    /// Hears the main program from now on, and speaks to it: frames, as with [`Client::exec`].
    pub async fn attach(&self, vm: &str, attach: &Attach) -> Result<Session, ClientError> {
        self.upgrade(&path(vm, "/attach"), attach).await
    }

    /// Unpacks a tar archive into a directory of the guest.
    pub async fn copy_in<S>(&self, vm: &str, dir: &str, archive: S) -> Result<(), ClientError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    {
        let path = path(vm, &format!("/files?path={}", escape(dir)));
        let answer = self.send(Method::PUT, &path, RAW, stream(archive)).await?;
        drain(answer).await.map(drop)
    }

    /// A tar archive of what is at a path of the guest, by its last name.
    pub async fn copy_out(&self, vm: &str, from: &str) -> Result<Bytestream, ClientError> {
        let path = path(vm, &format!("/files?path={}", escape(from)));
        let answer = self.send(Method::GET, &path, None, empty()).await?;
        Ok(Bytestream(answer.into_body()))
    }

    /// What is at a path of the guest; with `follow`, behind a symbolic link there.
    pub async fn stat(&self, vm: &str, at: &str, follow: bool) -> Result<FileStat, ClientError> {
        let query = format!("/files/stat?path={}&follow={follow}", escape(at));
        self.get(&path(vm, &query)).await
    }

    /// Sends a signal to the main program: `HUP`, `SIGHUP` or `1`.
    pub async fn signal(&self, vm: &str, signal: &str) -> Result<(), ClientError> {
        let signal = SendSignal {
            signal: signal.to_owned(),
        };
        let path = path(vm, "/signal");
        let answer = self.send(Method::POST, &path, JSON, json(&signal)?).await?;
        drain(answer).await.map(drop)
    }

    /// What the VM uses now.
    pub async fn stats(&self, vm: &str) -> Result<Stats, ClientError> {
        self.get(&path(vm, "/stats")).await
    }

    async fn upgrade(&self, path: &str, body: &impl Serialize) -> Result<Session, ClientError> {
        let request = Request::post(path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE)
            .header(header::CONTENT_TYPE, "application/json")
            .body(json(body)?)?;
        let answer = self.exchange(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(answer).await);
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(broken)?;
        Ok(Session(TokioIo::new(upgraded)))
    }
}

/// A connection that carries frames of `abi::agent`, both ways. Who writes to it also reads from it: a write waits for ever once the
/// other end is gone, and a read then says so.
#[derive(Debug)]
pub struct Session(TokioIo<Upgraded>);

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
