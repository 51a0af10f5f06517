//! Calls: as fast as answers come, or at a steady rate.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use eyebolt_types::Clock;
use futures_util::future::try_join_all;
use http::{Request, Response, request};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::figures::{Figure, millis, percentile};

/// Where calls go, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) secret: String,
}

/// One call that starts work.
pub(crate) struct Ask {
    key: String,
    image: String,
    /// The query.
    what: &'static str,
    /// Whether the answer is the result.
    now: bool,
}

impl Ask {
    pub(crate) fn now(key: &str, image: &str) -> Self {
        Self { key: key.to_owned(), image: image.to_owned(), what: "features=labels", now: true }
    }

    pub(crate) fn later(key: &str, image: &str) -> Self {
        Self { now: false, ..Self::now(key, image) }
    }

    /// Something else than one feature.
    pub(crate) fn of(self, what: &'static str) -> Self {
        Self { what, ..self }
    }
}

/// A connection that is used again and again.
pub(crate) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    target: Target,
}

impl Client {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, target: target.clone() })
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Asks, reads the answer to its end, and checks that it is what it should be. The job, where there is one to come.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> anyhow::Result<Option<String>> {
        let answer = self.send(self.asking(ask)?).await?;
        let status = answer.status().as_u16();
        let job = answer.headers().get("location").and_then(|at| at.to_str().ok()).map(str::to_owned);
        let body = answer.into_body().collect().await?.to_bytes();
        // A job may have ended before it could be told that it waits.
        let expected = status == 200 || (status == 202 && !ask.now);
        ensure!(expected, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(job)
    }

    /// Asks, and reads the answer to its end. Whether it was turned away.
    pub(crate) async fn is_refused(&mut self, ask: &Ask) -> anyhow::Result<bool> {
        let answer = self.send(self.asking(ask)?).await?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        Ok(status == 503)
    }

    fn asking(&self, ask: &Ask) -> anyhow::Result<Request<Full<Bytes>>> {
        const EDGE: &str = "b7c1f0a52d4";
        let body = format!(
            "--{EDGE}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\nFAKE {:400}\r\n--{EDGE}--\r\n",
            ask.image
        );
        let request = self
            .post(&format!("/v1/analyze?{}", ask.what))
            .header("idempotency-key", &ask.key)
            .header("prefer", if ask.now { "wait=60" } else { "respond-async" })
            .header("content-type", format!("multipart/form-data; boundary={EDGE}"));
        Ok(request.body(Full::new(body.into()))?)
    }

    fn post(&self, path: &str) -> request::Builder {
        Request::post(path)
            .header("host", "bench")
            .header("authorization", format!("Bearer {}", self.target.secret))
    }

    /// Makes something that was not there: a webhook endpoint, a pipeline.
    pub(crate) async fn create(&mut self, path: &str, document: &Value) -> anyhow::Result<()> {
        let request = self.post(path).header("content-type", "application/json");
        self.makes(request.body(Full::new(document.to_string().into()))?, 201).await.map(drop)
    }

    /// Sends a batch as lines of JSON. Its name, once it is accepted.
    pub(crate) async fn batch(&mut self, key: &str, lines: Bytes) -> anyhow::Result<String> {
        let request = self
            .post("/v1/batches?features=labels")
            .header("idempotency-key", key)
            .header("content-type", "application/x-ndjson");
        let made = self.makes(request.body(Full::new(lines))?, 202).await?;
        Ok(made["id"].as_str().context("a batch without a name")?.to_owned())
    }

    async fn makes(&mut self, request: Request<Full<Bytes>>, expected: u16) -> anyhow::Result<Value> {
        let answer = self.send(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status == expected, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = Request::get(path)
            .header("host", "bench")
            .header("authorization", format!("Bearer {}", self.target.secret));
        let answer = self.send(request.body(Full::default())?).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// A document that is there.
    pub(crate) async fn read(&mut self, path: &str) -> anyhow::Result<Value> {
        let (code, body) = self.get(path).await?;
        ensure!(code == 200, "{code}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    /// Units charged so far.
    pub(crate) async fn units(&mut self) -> anyhow::Result<u64> {
        self.read("/v1/usage").await?["units"].as_u64().context("no units")
    }

    /// Whether any job is in this state.
    pub(crate) async fn any(&mut self, status: &str) -> anyhow::Result<bool> {
        let page = self.read(&format!("/v1/jobs?limit=1&status={status}")).await?;
        Ok(page["data"].as_array().is_some_and(|jobs| !jobs.is_empty()))
    }

    /// When the first step of a job began.
    pub(crate) async fn started(&mut self, job: &str) -> anyhow::Result<Timestamp> {
        let steps = self.read(&format!("{job}/steps")).await?;
        let started = steps["data"][0]["started_at"].as_str().context("a step that has not begun")?;
        Ok(started.parse()?)
    }
}

/// `count` calls by `clients`, each of which waits for its answer before it asks again.
pub(crate) async fn closed_loop(
    target: &Target,
    clients: usize,
    count: usize,
    ask: impl Fn(usize) -> Ask,
) -> anyhow::Result<Figure> {
    let (next, ask) = (&Cell::new(0), &ask);
    timed(target, (clients, count), |mut client| async move {
        let mut times = Vec::new();
        while next.get() < count {
            let call = ask(next.replace(next.get() + 1));
            let sent = Instant::now();
            client.ask(&call).await?;
            times.push(millis(sent.elapsed()));
        }
        Ok(times)
    })
    .await
}

/// The same where each is turned away; a connection that ends with that is made anew.
pub(crate) async fn refused_loop(target: &Target, clients: usize, count: usize) -> anyhow::Result<Figure> {
    let next = &Cell::new(0);
    timed(target, (clients, count), |mut client| async move {
        let mut times = Vec::new();
        while next.get() < count {
            let key = format!("refused-{}", next.replace(next.get() + 1));
            let sent = Instant::now();
            ensure!(client.is_refused(&Ask::now(&key, &key)).await?, "a call was let in");
            times.push(millis(sent.elapsed()));
            if client.sender.is_closed() {
                client = Client::open(target).await?;
            }
        }
        Ok(times)
    })
    .await
}

async fn timed<F: Future<Output = anyhow::Result<Vec<f64>>>>(
    target: &Target,
    (clients, count): (usize, usize),
    one: impl FnMut(Client) -> F,
) -> anyhow::Result<Figure> {
    let connections = try_join_all((0..clients).map(|_| Client::open(target))).await?;
    let begun = Instant::now();
    let times = try_join_all(connections.into_iter().map(one)).await?;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let mut times = times.concat();
    Ok(Figure { rate, p50: percentile(&mut times, 0.5), p99: percentile(&mut times, 0.99) })
}

/// One call of a steady rate.
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    /// Milliseconds to its answer.
    pub(crate) took: f64,
    /// Where the answer names one.
    pub(crate) job: Option<String>,
}

/// `rate` calls a second, whether answers come or not, as long as `goes_on` says so when a call's turn
/// comes, by its number.
pub(crate) async fn open_loop(
    target: &Target,
    rate: u32,
    goes_on: impl Fn(usize) -> bool,
    ask: impl Fn(usize) -> Ask,
) -> anyhow::Result<Vec<Sent>> {
    let begun = tokio::time::Instant::now();
    let clients = try_join_all((0..32).map(|_| Client::open(target))).await?;
    let (next, clock) = (Cell::new(0), Clock::system());
    let one = |mut client: Client| {
        let (next, ask, goes_on, clock) = (&next, &ask, &goes_on, &clock);
        async move {
            let mut sent = Vec::new();
            loop {
                let n = next.replace(next.get() + 1);
                tokio::time::sleep_until(begun + Duration::from_secs(n as u64) / rate).await;
                if !goes_on(n) {
                    return anyhow::Ok(sent);
                }
                let (at, asked) = (clock.now(), Instant::now());
                let job = client.ask(&ask(n)).await?;
                sent.push(Sent { at, took: millis(asked.elapsed()), job });
            }
        }
    };
    Ok(try_join_all(clients.into_iter().map(one)).await?.into_iter().flatten().collect())
}
