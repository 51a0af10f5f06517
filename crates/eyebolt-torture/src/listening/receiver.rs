//! A receiver of webhooks: one HTTP server for all addresses of a run. Some messages are taken at once, some only after
//! answers that a sender must not take for one: a failure, too late, none at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use eyebolt_types::Clock;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    EndOf,
    message::{Message, Receipt, Said},
    signature::Verifier,
};
use crate::history::Lines;

/// Receivers of this name answer 410 after some messages.
pub(crate) const GONE: &str = "gone";
const GONE_AFTER: u32 = 40;

/// One message in so many is not taken at first; and how often it is not.
const TROUBLED: u32 = 3;
const MOST_TROUBLES: u32 = 3;

/// How much too late an answer is: by more than a sender is ever stopped, who would find it in time when it goes on.
const LATE: Duration = Duration::from_secs(4);

/// What is drawn how often, where a message is not taken. `Busy` holds up all of an endpoint's messages.
const TROUBLES: [(Said, u32); 5] =
    [(Said::Failed, 16), (Said::Cut, 8), (Said::Late, 5), (Said::Nothing, 2), (Said::Busy, 2)];

/// The server.
pub(crate) struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
    _accepting: AbortOnDropHandle<()>,
}

struct Desk {
    lines: Lines,
    /// How long the sender waits for an answer.
    time_out: Duration,
    /// By the beginning of a receiver's name.
    verifiers: Mutex<Vec<(String, Verifier)>>,
    post: Mutex<Post>,
}

/// What came so far.
struct Post {
    rng: StdRng,
    /// By receiver and id: how often it came, and what it is yet to be answered before it is taken.
    messages: BTreeMap<(String, String), (u32, Vec<Said>)>,
    by_receiver: BTreeMap<String, u32>,
    /// Ends that receivers took.
    taken: BTreeSet<(String, EndOf)>,
}

impl Receiver {
    /// Listens. `time_out` is the sender's; receipts are written to this file.
    pub(crate) async fn start(path: &Path, (time_out, seed): (Duration, u64)) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let post = Post {
            rng: StdRng::seed_from_u64(seed),
            messages: BTreeMap::new(),
            by_receiver: BTreeMap::new(),
            taken: BTreeSet::new(),
        };
        let desk = Arc::new(Desk {
            lines: Lines::create(path, Clock::system())?,
            time_out,
            verifiers: Mutex::default(),
            post: Mutex::new(post),
        });
        let (address, at) = (listener.local_addr()?, Arc::clone(&desk));
        let accepting = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(Arc::clone(&at), stream))),
                    // Too many are open: some will end.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        }));
        Ok(Self { address, desk, _accepting: accepting })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the secret of receivers whose names begin so, from the answer that told it.
    pub(crate) fn knows(&self, to: &str, made: &Value) -> anyhow::Result<()> {
        let verifier = Verifier::of(made["secret"].as_str().context("no secret was told")?)?;
        self.desk.verifiers.lock().expect("no holder panics").push((to.to_owned(), verifier));
        Ok(())
    }

    /// Whether this receiver took the message of an end.
    pub(crate) fn took(&self, to: &str, end: &EndOf) -> bool {
        let post = self.desk.post.lock().expect("no holder panics");
        post.taken.contains(&(to.to_owned(), end.clone()))
    }

    /// Whether every line was written.
    pub(crate) fn complete(&self) -> anyhow::Result<()> {
        self.desk.lines.complete()
    }
}

async fn serve(desk: Arc<Desk>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { desk.answer(request).await }
    });
    // Who hangs up, or is hung up on, is no news.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Desk {
    /// An error cuts the connection.
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        // Half a message is none.
        let body = body.collect().await?.to_bytes();
        let said = self.receive(head.uri.path().trim_start_matches('/'), &head.headers, &body);
        let status = match said {
            Said::Taken => StatusCode::NO_CONTENT,
            Said::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Said::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Said::Gone => StatusCode::GONE,
            Said::Cut => bail!("cut on purpose"),
            Said::Late => {
                sleep(self.time_out + LATE).await;
                StatusCode::NO_CONTENT
            }
            Said::Nothing => {
                sleep(self.time_out + LATE * 4).await;
                bail!("the sender should have gone long ago")
            }
        };
        let mut answer = Response::builder().status(status);
        if said == Said::Busy {
            answer = answer.header("retry-after", "1");
        }
        Ok(answer.body(Full::default())?)
    }

    /// Writes down what came, and says what it is answered.
    fn receive(&self, to: &str, headers: &HeaderMap, body: &[u8]) -> Said {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let signed = {
            let verifiers = self.verifiers.lock().expect("no holder panics");
            let own = verifiers.iter().find(|(begins, _)| to.starts_with(begins));
            own.is_some_and(|(_, verifier)| {
                verifier.accepts((id, timestamp), body, header("webhook-signature"))
            })
        };
        let (mut post, message) = (self.post.lock().expect("no holder panics"), Message::read(body));
        let (attempt, said) = post.next(to, id);
        if said == Said::Taken {
            post.taken.insert((to.to_owned(), message.end()));
        }
        // Under the lock: the lines of a receiver are in the order of its attempts.
        self.lines.write(|at_us| Receipt {
            at_us,
            to: to.to_owned(),
            id: id.to_owned(),
            sent_at: timestamp.parse().unwrap_or_default(),
            signed,
            attempt,
            said,
            message,
        });
        said
    }
}

impl Post {
    /// Which attempt this is, and its answer.
    fn next(&mut self, to: &str, id: &str) -> (u32, Said) {
        let all = self.by_receiver.entry(to.to_owned()).or_default();
        *all += 1;
        let gone = to.ends_with(GONE) && *all > GONE_AFTER;
        let rng = &mut self.rng;
        let (attempts, troubles) = self.messages.entry((to.to_owned(), id.to_owned())).or_insert_with(|| {
            let troubled = rng.random_range(0..TROUBLED) == 0;
            let count = if troubled { rng.random_range(1..=MOST_TROUBLES) } else { 0 };
            let trouble =
                |_| TROUBLES.choose_weighted(rng, |(_, weight)| *weight).expect("there are weights").0;
            (0, (0..count).map(trouble).collect())
        });
        *attempts += 1;
        (*attempts, if gone { Said::Gone } else { troubles.pop().unwrap_or(Said::Taken) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post() -> Post {
        Post {
            rng: StdRng::seed_from_u64(3),
            messages: BTreeMap::new(),
            by_receiver: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    #[test]
    fn every_message_is_taken_in_the_end_and_some_only_after_every_kind_of_trouble() {
        let (mut post, mut said) = (post(), BTreeSet::new());
        for message in 0..500 {
            let to = format!("hook/torture/{message}");
            let last = MOST_TROUBLES + 1;
            let answers: Vec<_> = (1..=last).map(|_| post.next(&to, "evt_1")).collect();
            assert!(answers.iter().map(|(attempt, _)| *attempt).eq(1..=last));
            let answers: Vec<_> = answers.into_iter().map(|(_, said)| said).collect();
            assert_eq!(answers[MOST_TROUBLES as usize], Said::Taken);
            said.extend(answers);
        }
        let wanted = TROUBLES.map(|(said, _)| said);
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said:?}");
        assert!(said.contains(&Said::Taken) && !said.contains(&Said::Gone));
    }

    #[test]
    fn who_is_gone_takes_nothing_any_more() {
        let mut post = post();
        let said: Vec<_> = (0..GONE_AFTER + 5)
            .map(|message| post.next("endpoint/torture/gone", &message.to_string()).1)
            .collect();
        assert!(said[..GONE_AFTER as usize].iter().all(|said| *said != Said::Gone));
        assert!(said[GONE_AFTER as usize..].iter().all(|said| *said == Said::Gone));
    }
}
