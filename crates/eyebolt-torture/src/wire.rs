//! One request on a connection of its own, so that dropping it hangs up.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::{batch::BatchIntent, journal::Intent};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What carries a request and its answer.
pub(crate) type Connection = AbortOnDropHandle<Result<(), hyper::Error>>;

const EDGE: &str = "eyebolt-5f0c1d9e77";

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn cancel(job: &str) -> Self {
        Self { method: Method::POST, ..Self::get(format!("/v1/jobs/{job}:cancel")) }
    }

    /// With a JSON body.
    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method: Method::POST, headers, body: body.to_string().into(), ..Self::get(path) }
    }

    /// A batch; `address` is told of its end.
    pub(crate) fn batch(batch: &BatchIntent, address: Option<&str>) -> Self {
        let mut path = format!("/v1/batches?features={}", batch.features);
        if let Some(address) = address {
            path.push_str("&webhook_url=");
            path.extend(utf8_percent_encode(address, NON_ALPHANUMERIC));
        }
        let headers = vec![
            ("content-type", "application/x-ndjson".to_owned()),
            ("idempotency-key", format!("\"{}\"", batch.key)),
        ];
        Self { method: Method::POST, headers, body: batch.body().into(), ..Self::get(path) }
    }

    /// Runs again what failed: of a job, or of one of its steps or parts.
    pub(crate) fn retry(job: &str, (step, part): (Option<&str>, Option<u32>)) -> Self {
        let mut path = format!("/v1/jobs/{job}");
        for (name, value) in
            [("steps", step.map(str::to_owned)), ("tasks", part.map(|part| part.to_string()))]
        {
            if let Some(value) = value {
                path.extend(["/", name, "/", &value]);
            }
        }
        Self { method: Method::POST, ..Self::get(path + ":retry") }
    }

    pub(crate) fn retry_batch(batch: &str) -> Self {
        Self { method: Method::POST, ..Self::get(format!("/v1/batches/{batch}:retry")) }
    }

    pub(crate) fn cancel_batch(batch: &str) -> Self {
        Self { method: Method::POST, ..Self::get(format!("/v1/batches/{batch}:cancel")) }
    }

    /// A stream of events, behind this place.
    pub(crate) fn events(after: Option<u64>) -> Self {
        let headers = after.map(|after| ("last-event-id", after.to_string())).into_iter().collect();
        Self { headers, ..Self::get("/v1/events") }
    }

    /// A page of jobs: all, or those of one state.
    pub(crate) fn list(status: Option<&str>, cursor: Option<&str>) -> Self {
        let mut path = "/v1/jobs?limit=100".to_owned();
        for (name, value) in [("status", status), ("cursor", cursor)] {
            if let Some(value) = value {
                path.extend(["&", name, "="]);
                path.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        Self::get(path)
    }

    /// What is asked of an image; `address` is told of the job's end.
    pub(crate) fn analyze(intent: &Intent, prefer: &str, address: Option<&str>) -> Self {
        if let Some(plan) = &intent.payload.plan {
            let mut request = json!({"pipeline": plan.pipeline()});
            if let Some(address) = address {
                request["webhook_url"] = address.into();
            }
            let parts = [("image", intent.payload.text.as_str()), ("request", &request.to_string())];
            let mut call = Self::form("/v1/analyze", &intent.key, &parts);
            call.headers.push(("prefer", prefer.to_owned()));
            return call;
        }
        let features = utf8_percent_encode(&intent.payload.features, NON_ALPHANUMERIC);
        let mut call = Self::image(&intent.key, &intent.payload.text);
        call.path = format!("/v1/analyze?features={features}");
        if let Some(address) = address {
            call.path.push_str("&webhook_url=");
            call.path.extend(utf8_percent_encode(address, NON_ALPHANUMERIC));
        }
        call.headers.push(("prefer", prefer.to_owned()));
        call
    }

    /// One feature of an image.
    pub(crate) fn image(key: &str, text: &str) -> Self {
        Self::form("/v1/analyze?features=objects", key, &[("image", text)])
    }

    /// A form of named parts.
    fn form(path: &str, key: &str, parts: &[(&str, &str)]) -> Self {
        let mut body = String::new();
        for (name, text) in parts {
            let file = if *name == "image" { "; filename=\"image\"" } else { "" };
            let head = format!("Content-Disposition: form-data; name=\"{name}\"{file}");
            body.extend(["--", EDGE, "\r\n", &head, "\r\n\r\n", text, "\r\n"]);
        }
        body.extend(["--", EDGE, "--\r\n"]);
        Self {
            method: Method::POST,
            path: path.to_owned(),
            headers: vec![
                ("content-type", format!("multipart/form-data; boundary={EDGE}")),
                ("idempotency-key", format!("\"{key}\"")),
            ],
            body: body.into(),
        }
    }

    /// As the holder of this secret.
    pub(crate) fn by(mut self, secret: &str) -> Self {
        self.headers.push(("authorization", format!("Bearer {secret}")));
        self
    }

    /// Sends it and reads the whole answer; hangs up after `limit`.
    ///
    /// # Errors
    /// What came instead of an answer. The request may have been served all the same.
    pub(crate) async fn send(&self, server: SocketAddr, limit: Duration) -> Result<Reply, String> {
        match tokio::time::timeout(limit, self.exchange(server)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("hung up after {} ms", limit.as_millis())),
        }
    }

    async fn exchange(&self, server: SocketAddr) -> anyhow::Result<Reply> {
        let (answer, _connection) = self.open(server).await?;
        let (head, body) = answer.into_parts();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Sends it, and gives the answer before its body has come; dropping the second hangs up.
    pub(crate) async fn open(&self, server: SocketAddr) -> anyhow::Result<(Response<Incoming>, Connection)> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request =
            Request::builder().method(&self.method).uri(&self.path).header("host", server.to_string());
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let answer = sender.send_request(request.body(Full::new(self.body.clone()))?).await?;
        Ok((answer, connection))
    }

    /// Sends the head and the first half of the body, then hangs up. An HTTP client would not do so.
    pub(crate) async fn send_half(&self, server: SocketAddr) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(server).await?;
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {server}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.extend(["content-length: ", &self.body.len().to_string(), "\r\n\r\n"]);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&self.body[..self.body.len() / 2]).await?;
        stream.shutdown().await
    }
}
