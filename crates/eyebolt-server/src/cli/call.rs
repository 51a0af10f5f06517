//! Requests to a running server.

use std::{borrow::Cow, io, time::Duration};

use bytes::Bytes;
use eyebolt_types::{Problem, id::RequestId};
use futures_util::stream;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::outbound::{self, OutboundError};

/// Why a request was not answered.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error(
        "{server} is no address of a server: it begins with http:// or https://, names a host, and has no query"
    )]
    Address { server: String },
    #[error("no server answers at {server}: {reason}")]
    Unreachable { server: String, reason: io::Error },
    #[error("{server}: {reason}")]
    NotTrusted { server: String, reason: OutboundError },
    #[error("the connection to {server} broke: {reason}")]
    Broken { server: String, reason: hyper::Error },
    #[error("the request can't be sent: {reason}")]
    Unsendable { reason: String },
}

impl CallError {
    /// Whether the same request may be answered later.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. })
    }
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    /// What its header says.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Reply {
    fn new(answer: &Response<Incoming>, body: Bytes) -> Self {
        let header =
            answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { status: answer.status().as_u16(), retry_after: header.map(Duration::from_secs), body }
    }

    /// Why it is no success, where the server says so in its own words.
    pub(super) fn problem(&self) -> Option<Problem> {
        serde_json::from_slice(&self.body).ok().filter(|_| self.status >= 300)
    }
}

/// A body, piece by piece: each is asked for when the last one was sent.
pub(super) type Pieces = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;

/// What a request carries.
pub(super) enum Body {
    Nothing,
    Whole(Bytes),
    Pieces(Pieces),
}

/// What is asked of an image.
pub(super) enum Settings {
    /// As fields of a query.
    Query(Cow<'static, str>),
    /// As JSON.
    Document(Cow<'static, str>),
}

/// One request.
pub(super) struct Call {
    pub(super) method: &'static str,
    /// With its query.
    pub(super) path: String,
    /// The API key.
    pub(super) key: Option<String>,
    /// The idempotency key.
    pub(super) intent: Option<String>,
    pub(super) content_type: &'static str,
    pub(super) body: Body,
}

impl Default for Call {
    fn default() -> Self {
        let (path, body) = (String::new(), Body::Nothing);
        Self { method: "GET", path, key: None, intent: None, content_type: "", body }
    }
}

/// A connection that is used again and again.
pub(super) struct Connection {
    sender: hyper::client::conn::http1::SendRequest<UnsyncBoxBody<Bytes, io::Error>>,
    authority: String,
    /// What stands before every path, where the server is a part of a site.
    prefix: String,
    server: String,
}

impl Connection {
    /// Connects to `http://HOST:PORT` or `https://HOST:PORT`; a path may follow.
    pub(super) async fn open(server: &str) -> Result<Self, CallError> {
        let address = || CallError::Address { server: server.to_owned() };
        let uri: Uri = server.parse().map_err(|_| address())?;
        let standard = match uri.scheme_str() {
            _ if uri.query().is_some() => return Err(address()),
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(address()),
        };
        let authority = uri.authority().ok_or_else(address)?.to_string();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let unreachable = |reason| CallError::Unreachable { server: server.to_owned(), reason };
        let stream =
            TcpStream::connect((host, uri.port_u16().unwrap_or(standard))).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let stream: Box<dyn outbound::Stream> = if standard == 80 {
            Box::new(stream)
        } else {
            let encrypted = outbound::encrypted(stream, host).await;
            encrypted.map_err(|reason| CallError::NotTrusted { server: server.to_owned(), reason })?
        };
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|reason| CallError::Broken { server: server.to_owned(), reason })?;
        tokio::spawn(connection);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { sender, authority, prefix, server: server.to_owned() })
    }

    /// Sends an image with settings as query fields or as a JSON document. `intent`: the idempotency key; none: the call is an
    /// intent of its own.
    pub(super) async fn analyze(
        &mut self,
        image: &[u8],
        settings: &Settings,
        (key, intent): (Option<&str>, Option<String>),
    ) -> Result<Reply, CallError> {
        self.call(Call::analyze(image, settings, (key, intent))).await
    }

    /// Sends a request, and reads its answer.
    pub(super) async fn call(&mut self, call: Call) -> Result<Reply, CallError> {
        let mut answer = self.send(call).await?;
        let whole = answer.body_mut().collect().await;
        let body = whole.map_err(|reason| self.broken(reason))?.to_bytes();
        Ok(Reply::new(&answer, body))
    }

    /// Sends a request, and hands the lines of its answer on as they come, always whole ones. An answer that is no success is
    /// returned with its body.
    pub(super) async fn lines(
        &mut self,
        call: Call,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Reply> {
        let mut answer = self.send(call).await?;
        let (good, mut read) = (answer.status().is_success(), Vec::new());
        while let Some(frame) = answer.body_mut().frame().await {
            read.extend_from_slice(
                &frame.map_err(|reason| self.broken(reason))?.into_data().unwrap_or_default(),
            );
            let ends = read.iter().rposition(|byte| *byte == b'\n').filter(|_| good);
            if let Some(end) = ends {
                take(&read[..=end])?;
                read.drain(..=end);
            }
        }
        Ok(Reply::new(&answer, read.into()))
    }

    fn broken(&self, reason: hyper::Error) -> CallError {
        CallError::Broken { server: self.server.clone(), reason }
    }

    async fn send(&mut self, call: Call) -> Result<Response<Incoming>, CallError> {
        let call = Call { path: format!("{}{}", self.prefix, call.path), ..call };
        let request = call.request(&self.authority).map_err(|reason| CallError::Unsendable { reason })?;
        self.sender.ready().await.map_err(|reason| self.broken(reason))?;
        let answer = self.sender.send_request(request).await;
        // Such as a file that went away while it was sent.
        answer.map_err(|error| if error.is_user() { unsendable(&error) } else { self.broken(error) })
    }
}

fn unsendable(error: &hyper::Error) -> CallError {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    CallError::Unsendable { reason: cause }
}

impl Call {
    /// An image, with settings as query fields or as a JSON document.
    pub(super) fn analyze(
        image: &[u8],
        settings: &Settings,
        (key, intent): (Option<&str>, Option<String>),
    ) -> Self {
        const EDGE: &str = "eyebolt-7c1f0a52d4";
        let mut body = Vec::with_capacity(image.len() + 4096);
        let head = "Content-Disposition: form-data; name=\"image\"; filename=\"image\"";
        body.extend_from_slice(format!("--{EDGE}\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(image);
        if let Settings::Document(text) = settings {
            let head = "Content-Disposition: form-data; name=\"request\"\r\nContent-Type: application/json";
            body.extend_from_slice(format!("\r\n--{EDGE}\r\n{head}\r\n\r\n{text}").as_bytes());
        }
        body.extend_from_slice(format!("\r\n--{EDGE}--\r\n").as_bytes());
        let query = match settings {
            Settings::Query(query) => format!("?{query}"),
            Settings::Document(_) => String::new(),
        };
        Self {
            method: "POST",
            path: format!("/v1/analyze{query}"),
            key: key.map(str::to_owned),
            intent: Some(intent.unwrap_or_else(|| RequestId::new().to_string())),
            content_type: "multipart/form-data; boundary=eyebolt-7c1f0a52d4",
            body: Body::Whole(body.into()),
        }
    }

    fn request(self, authority: &str) -> Result<Request<UnsyncBoxBody<Bytes, io::Error>>, String> {
        let Self { method, path, key, intent, content_type, body } = self;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", authority)
            .header("prefer", "wait=600");
        let authorization = key.map(|key| format!("Bearer {key}"));
        let content_type = (!content_type.is_empty()).then(|| content_type.to_owned());
        let headers =
            [("authorization", authorization), ("idempotency-key", intent), ("content-type", content_type)];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let body = match body {
            Body::Nothing => UnsyncBoxBody::default(),
            Body::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            Body::Pieces(pieces) => {
                StreamBody::new(stream::iter(pieces.map(|piece| piece.map(Frame::data)))).boxed_unsync()
            }
        };
        request.body(body).map_err(|error| error.to_string())
    }
}
