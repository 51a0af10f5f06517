//! One request on one connection to an address that was checked.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{OutboundError, Post, Reply};

/// Addresses of one name that are tried.
const TRIED: usize = 4;

/// Headers of an answer, bytes.
const MAX_HEAD: usize = 64 << 10;

/// Certificates that the system trusts. Read once, when the first message is sent.
pub(super) static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "certificates of the system could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the protocol's versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
});

pub(super) fn tls_failed(error: &dyn fmt::Display) -> OutboundError {
    OutboundError::Tls { reason: error.to_string() }
}

pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, OutboundError> {
    let mut last = None;
    for address in addresses.iter().take(TRIED) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A request is written whole: waiting to fill a segment only delays it.
                _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(OutboundError::Connect { reason: last.map(|error| error.to_string()).unwrap_or_default() })
}

/// A connection, in plain or over TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(super) async fn exchange(stream: Box<dyn Stream>, post: Post) -> Result<Reply, OutboundError> {
    let failed = |error: hyper::Error| OutboundError::Protocol { reason: error.to_string() };
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let talk = async {
        let most = post.most;
        let response = sender.send_request(written(post)?).await.map_err(failed)?;
        let (head, mut body) = response.into_parts();
        let mut first = Vec::new();
        // A body that breaks off says no less about the status.
        while first.len() < most
            && let Some(Ok(frame)) = body.frame().await
        {
            let piece = frame.into_data().unwrap_or_default();
            first.extend_from_slice(&piece[..piece.len().min(most - first.len())]);
        }
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: first })
    };
    tokio::pin!(talk);
    // In this task: the request is written when it is its turn and not when another task has time, and nothing goes on behind
    // a time-out.
    tokio::select! {
        biased;
        reply = &mut talk => reply,
        // What it brought is still there to be read.
        _ = connection => talk.await,
    }
}

fn written(post: Post) -> Result<Request<Full<Bytes>>, OutboundError> {
    let invalid = |reason: String| OutboundError::Protocol { reason };
    let url = &post.url;
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let host = HeaderValue::try_from(authority).map_err(|error| invalid(error.to_string()))?;
    let mut request = Request::new(Full::new(post.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse().map_err(|_| invalid("the path can't be sent".to_owned()))?;
    *request.headers_mut() = post.headers;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}
