//! Requests to a running server.

use std::{borrow::Cow, io};

use anyhow::Context;
use bytes::Bytes;
use eyebolt_types::id::RequestId;
use futures_util::stream;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Status and body of an answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
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
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub(super) async fn open(server: &str) -> anyhow::Result<Self> {
        let uri: Uri = server.parse().with_context(|| format!("{server} is not an address"))?;
        anyhow::ensure!(uri.scheme_str() == Some("http"), "{server} does not begin with http://");
        let authority = uri.authority().context("the address names no host")?.to_string();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)))
            .await
            .with_context(|| format!("no server answers at {server}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority })
    }

    /// Sends an image with settings as query fields or as a JSON document. `intent`: the idempotency key; none: the call is an
    /// intent of its own.
    pub(super) async fn analyze(
        &mut self,
        image: &[u8],
        settings: &Settings,
        (key, intent): (Option<&str>, Option<String>),
    ) -> anyhow::Result<Reply> {
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
        self.call(Call {
            method: "POST",
            path: format!("/v1/analyze{query}"),
            key: key.map(str::to_owned),
            intent: Some(intent.unwrap_or_else(|| RequestId::new().to_string())),
            content_type: "multipart/form-data; boundary=eyebolt-7c1f0a52d4",
            body: Body::Whole(body.into()),
        })
        .await
    }

    /// Sends a request, and reads its answer.
    pub(super) async fn call(&mut self, call: Call) -> anyhow::Result<Reply> {
        let answer = self.send(call).await?;
        let status = answer.status().as_u16();
        Ok(Reply { status, body: answer.into_body().collect().await?.to_bytes() })
    }

    /// Sends a request, and hands its answer on as it comes. The status.
    pub(super) async fn stream(
        &mut self,
        call: Call,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<u16> {
        let answer = self.send(call).await?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame?.into_data() {
                take(&piece)?;
            }
        }
        Ok(status)
    }

    async fn send(&mut self, call: Call) -> anyhow::Result<http::Response<Incoming>> {
        let Call { method, path, key, intent, content_type, body } = call;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
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
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(body)?).await?)
    }
}
