//! The accept loop. It is our own since `axum::serve` bounds neither connections nor the time that headers take.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use futures_util::{FutureExt, future::FusedFuture};
use http::Request;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    App,
    caller::Peer,
    router,
    stream::{ClientStream, Patience},
};

/// One connection's read buffer at most, bytes; also the largest piece of a body.
const MAX_BUFFER: usize = 128 << 10;

/// How long the accept loop rests when the machine has no more descriptors or memory for connections.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long answers of `shutting_down` may take to leave, once the server waits no longer.
const FAREWELL: Duration = Duration::from_secs(1);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    app: App,
    routes: Router,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every request that ran was finished.
    Drained,
    /// Some requests ran longer than the drain time-out and were answered `shutting_down`.
    CutOff,
}

impl Server {
    /// Listens at the address of the settings. Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// Where the address can't be had.
    pub async fn bind(app: App) -> io::Result<Self> {
        let listener = TcpListener::bind(app.0.settings.listen).await?;
        let routes = router::routes(&app);
        Ok(Self { listener, app, routes })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` resolves; then takes no more connections, finishes the requests that run, and ends those
    /// that take longer than the drain time-out.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Stopped {
        let settings = self.app.0.settings.clone();
        let connections = Connections::new(self.routes, &self.app);
        let graceful = GracefulShutdown::new();
        let accepting = accept(&self.listener, settings.max_connections, |client, slot| {
            tokio::spawn(connections.clone().serve(client, slot, graceful.watcher()));
        });
        tokio::select! {
            () = stop => {}
            () = accepting => {}
        }
        drop(self.listener);
        connections.patience.stopping.cancel();
        let (jobs, webhooks) = (&self.app.0.jobs, &self.app.0.webhooks);
        jobs.stop();
        // A stream would hold its connection for as long as it may.
        self.app.0.events.stop();
        // Fused, since it may end before the jobs do.
        let drained = graceful.shutdown().fuse();
        tokio::pin!(drained);
        let finished = async {
            (&mut drained).await;
            jobs.idle().await;
        };
        if timeout(settings.drain_timeout, finished).await.is_ok() {
            jobs.halt().await;
            webhooks.halt().await;
            return Stopped::Drained;
        }
        // Jobs are durable: whoever waits for one learns where to find it later.
        jobs.halt().await;
        webhooks.halt().await;
        if !drained.is_terminated() {
            _ = timeout(FAREWELL, &mut drained).await;
        }
        self.app.0.halt.cancel();
        // What has not left by then is cut.
        if !drained.is_terminated() {
            _ = timeout(FAREWELL, drained).await;
        }
        connections.cut.cancel();
        Stopped::CutOff
    }
}

/// A connection and where it comes from.
type Client = (TcpStream, SocketAddr);

/// Hands each connection to `serve`; never ends.
async fn accept(listener: &TcpListener, most: usize, serve: impl Fn(Client, OwnedSemaphorePermit)) {
    let slots = Arc::new(Semaphore::new(most));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok(client) => serve(client, slot),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Connections {
    routes: Router,
    http: http1::Builder,
    patience: Patience,
    cut: CancellationToken,
}

impl Connections {
    fn new(routes: Router, app: &App) -> Self {
        let settings = &app.0.settings;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(settings.header_timeout).max_buf_size(MAX_BUFFER);
        Self {
            routes,
            http,
            patience: Patience {
                write: settings.write_timeout,
                linger: settings.linger_timeout,
                stopping: CancellationToken::new(),
            },
            cut: CancellationToken::new(),
        }
    }

    async fn serve(self, (stream, peer): Client, slot: OwnedSemaphorePermit, watcher: Watcher) {
        // Answers are written whole: waiting to fill a segment only delays them.
        _ = stream.set_nodelay(true);
        let stream = ClientStream::new(stream, self.patience);
        let routes = self.routes.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        tokio::select! {
            ended = watcher.watch(connection) => if let Err(error) = ended {
                // Clients that hang up or speak no HTTP are everyday.
                tracing::debug!(%error, "a connection ended early");
            },
            () = self.cut.cancelled() => {}
        }
        drop(slot);
    }
}
