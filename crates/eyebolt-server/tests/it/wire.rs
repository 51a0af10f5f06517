//! Raw HTTP/1.1 over TCP, so that tests can be as rude as real clients.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::app::KEY;

/// One connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, unread: Vec::new() }
    }

    /// Sends bytes; a server that has closed already is no mistake of the test.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        _ = self.stream.write_all(bytes).await;
    }

    /// The next answer with its body.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to(false).await
    }

    /// The next answer, which has no body where it answers HEAD.
    pub(crate) async fn answer_to(&mut self, head: bool) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(
                self.more().await,
                "closed within the headers: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let text = String::from_utf8(self.unread.drain(..end + 4).collect()).expect("headers are text");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        let length = if head { 0 } else { length };
        while self.unread.len() < length {
            assert!(self.more().await, "closed within the body");
        }
        let body = self.unread.drain(..length).collect();
        Answer { status: status.parse().expect("a number"), headers, body }
    }

    /// The next piece of a body whose length is told piece by piece; empty at its end.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let end = loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            assert!(self.more().await, "closed within a chunk's length");
        };
        let length = std::str::from_utf8(&self.unread[..end]).ok();
        let length = length.and_then(|length| usize::from_str_radix(length, 16).ok()).expect("a length");
        while self.unread.len() < end + 2 + length + 2 {
            assert!(self.more().await, "closed within a chunk");
        }
        let chunk = self.unread[end + 2..end + 2 + length].to_vec();
        self.unread.drain(..end + 2 + length + 2);
        chunk
    }

    /// Whether the server has ended the connection, in order and with nothing more to say.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        let count = self.stream.read_buf(&mut self.unread).await.expect("no reset");
        count > 0
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The id of the job that it tells of.
    pub(crate) fn job(&self) -> String {
        let location = self.header("location").expect("an answer that belongs to a job");
        location.strip_prefix("/v1/jobs/").expect("a job").to_owned()
    }

    pub(crate) fn code(&self) -> &str {
        self.headers.get("x-error-code").map_or("", String::as_str)
    }

    /// Everything, with what differs from run to run made equal.
    pub(crate) fn whole(&self) -> Value {
        let mut headers = self.headers.clone();
        for name in ["date", "x-request-id"] {
            headers.entry(name.to_owned()).and_modify(|value| *value = format!("[{name}]"));
        }
        headers.remove("content-length");
        let text = String::from_utf8_lossy(&self.body);
        let mut body = serde_json::from_slice(&self.body).unwrap_or_else(|_| Value::from(text));
        if let Some(id) = body.get_mut("request_id") {
            assert_eq!(*id, json!(self.headers["x-request-id"]), "one id in header and body");
            *id = json!("[request_id]");
        }
        redact_ids(&json!({"status": self.status, "headers": headers, "body": body}))
    }
}

/// A header for requests without a key: it is left out.
pub(crate) const NO_KEY: (&str, &str) = ("Authorization", "");

/// A header that shows a key.
pub(crate) fn bearer(key: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {key}"))
}

/// The same with what is left of ids made equal.
pub(crate) fn redact_ids(value: &Value) -> Value {
    let mut text = value.to_string();
    for kind in ["job_", "img_", "batch_", "step_", "key_", "proj_", "run_"] {
        let mut rest = std::mem::take(&mut text);
        while let Some(at) = rest.find(kind) {
            let end = at + kind.len() + 32;
            let is_id = rest
                .get(at + kind.len()..end)
                .is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let taken = if is_id { end } else { at + kind.len() };
            text.push_str(&rest[..at + kind.len()]);
            if is_id {
                text.push('…');
            }
            rest = rest.split_off(taken);
        }
        text.push_str(&rest);
    }
    serde_json::from_str(&text).expect("still JSON")
}

/// A whole request. It shows the key that every app knows, unless `headers` has an `Authorization`.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: eyebolt.test\r\n");
    if !headers.iter().any(|(name, _)| *name == NO_KEY.0) {
        _ = write!(text, "Authorization: Bearer {}\r\n", KEY.reveal());
    }
    for (name, value) in headers.iter().filter(|header| **header != NO_KEY) {
        _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

pub(crate) const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=edge");
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A header with an idempotency key.
pub(crate) fn key(key: &str) -> (&'static str, &str) {
    ("Idempotency-Key", key)
}

/// A form with an image alone.
pub(crate) fn image(bytes: &[u8]) -> Vec<u8> {
    form(&[("name=\"image\"", bytes)])
}

/// A multipart body with the boundary `edge`. Each part: what follows `form-data; ` and further headers, content.
pub(crate) fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend_from_slice(b"--edge\r\nContent-Disposition: form-data; ");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    body
}
