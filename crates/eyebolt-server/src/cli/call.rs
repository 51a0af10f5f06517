//! One request to a running server.

use anyhow::Context;
use bytes::Bytes;
use eyebolt_types::id::RequestId;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Status and body of an answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A connection that is used again and again.
pub(super) struct Connection {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
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

    /// Sends an image with settings as query fields.
    pub(super) async fn analyze(
        &mut self,
        image: &[u8],
        query: &str,
        key: Option<&str>,
    ) -> anyhow::Result<Reply> {
        const EDGE: &str = "eyebolt-7c1f0a52d4";
        let mut body = Vec::with_capacity(image.len() + 256);
        let head = "Content-Disposition: form-data; name=\"image\"; filename=\"image\"";
        body.extend_from_slice(format!("--{EDGE}\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(image);
        body.extend_from_slice(format!("\r\n--{EDGE}--\r\n").as_bytes());
        let mut request = Request::post(format!("/v1/analyze?{query}"))
            .header("host", &self.authority)
            // Each call is an intent of its own.
            .header("idempotency-key", RequestId::new().to_string())
            .header("prefer", "wait=600")
            .header("content-type", format!("multipart/form-data; boundary={EDGE}"));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body.into()))?).await?;
        let status = answer.status().as_u16();
        Ok(Reply { status, body: answer.into_body().collect().await?.to_bytes() })
    }
}
