//! A receiver of webhooks: notes when each message came, and takes it while it is up.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use bytes::Bytes;
use eyebolt_types::Clock;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpListener;

/// A message that was taken.
pub(crate) struct Taken {
    /// When its job ended.
    pub(crate) ended: Timestamp,
    pub(crate) came: Timestamp,
}

/// Listens at one address, for receivers that differ by their path.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    clock: Clock,
    up: AtomicBool,
    /// By path; a message that comes again counts again.
    taken: Mutex<BTreeMap<String, Vec<Taken>>>,
}

impl Receiver {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let desk = Desk { clock: Clock::system(), up: AtomicBool::new(true), taken: Mutex::default() };
        let desk = Arc::new(desk);
        let receiver = Self { address, desk: Arc::clone(&desk) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = Arc::clone(&desk);
                let service = service_fn(move |request| {
                    let desk = Arc::clone(&desk);
                    async move { desk.answer(request).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(receiver)
    }

    /// While it is down it hangs up.
    pub(crate) fn set_up(&self, up: bool) {
        self.desk.up.store(up, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.desk.clock.now()
    }

    /// Messages taken so far.
    pub(crate) fn count(&self) -> usize {
        self.desk.taken.lock().expect("no holder panics").values().map(Vec::len).sum()
    }

    /// All of them, by receiver; forgets them.
    pub(crate) fn take(&self) -> Vec<Vec<Taken>> {
        std::mem::take(&mut *self.desk.taken.lock().expect("no holder panics")).into_values().collect()
    }
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let came = self.clock.now();
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        if !self.up.load(Ordering::Relaxed) {
            bail!("down");
        }
        let event: serde_json::Value = serde_json::from_slice(&body)?;
        let ended = event["data"]["finished_at"].as_str().context("no end")?.parse()?;
        self.taken.lock().expect("no holder panics").entry(path).or_default().push(Taken { ended, came });
        Ok(Response::builder().status(204).body(Full::default())?)
    }
}
