//! A receiver of webhooks that answers what the test says, when it says so.

use std::{collections::BTreeMap, net::SocketAddr};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

/// Listens, and hands over what comes.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    messages: mpsc::UnboundedReceiver<Message>,
}

/// One message, whose sender waits for an answer. Dropped, it hangs up.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    answer: oneshot::Sender<String>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (come, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, come.clone()));
            }
        });
        Self { address, messages }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        self.messages.recv().await.expect("the receiver listens")
    }

    /// One that has come already.
    pub(crate) fn come(&mut self) -> Option<Message> {
        self.messages.try_recv().ok()
    }
}

async fn serve(mut stream: TcpStream, come: mpsc::UnboundedSender<Message>) {
    let mut read = Vec::new();
    let head = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return;
        }
    };
    let text = String::from_utf8(read[..head].to_vec()).expect("headers are text");
    let mut lines = text.split("\r\n");
    let target = lines.next().expect("a request line").to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().expect("a number");
    while read.len() < head + 4 + length {
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return;
        }
    }
    let body = String::from_utf8(read[head + 4..].to_vec()).expect("JSON is text");
    let (answer, answered) = oneshot::channel();
    _ = come.send(Message { target, headers, body, answer });
    if let Ok(answer) = answered.await {
        _ = stream.write_all(answer.as_bytes()).await;
    }
}

impl Message {
    /// Answers it; a sender that waits no longer is no mistake of the test.
    pub(crate) fn answer(self, status: u16) {
        self.answer_with(status, "");
    }

    /// The same with headers, a line each.
    pub(crate) fn answer_with(self, status: u16, headers: &str) {
        let answer = format!(
            "HTTP/1.1 {status} Said\r\n{headers}content-length: 9\r\nconnection: close\r\n\r\nso it was"
        );
        _ = self.answer.send(answer);
    }

    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// How many of its signatures are by this secret, `whsec_…`.
    pub(crate) fn signed_by(&self, secret: &str) -> usize {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let signed = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        let wanted = format!("v1,{}", STANDARD.encode(tag));
        self.headers["webhook-signature"].split(' ').filter(|signature| *signature == wanted).count()
    }
}
