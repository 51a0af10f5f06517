use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;

use super::scenario::RUDE;
use crate::wire::{Call, Reply};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries of a polite client; and for how long anybody tries at all.
const TRIES: u32 = 6;
const LIFE: Duration = Duration::from_mins(1);

/// How soon a rude client comes back.
const RUDE_GAP: Duration = Duration::from_millis(50);

/// Size of a file, bytes.
const FILE: usize = 20_000;

/// Of one tenant.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) server: SocketAddr,
    pub(super) key: String,
    pub(super) tenant: usize,
    pub(super) began: Instant,
}

/// What became of one request.
#[derive(Debug, Clone)]
pub(super) struct Lived {
    pub(super) tenant: usize,
    pub(super) megapixels: f64,
    /// Seconds since the run began.
    pub(super) born: f64,
    pub(super) tries: u32,
    /// When it was answered, seconds since the run began; and how long that try took.
    pub(super) answered: Option<(f64, f64)>,
    /// How long each refusal took, seconds.
    pub(super) refusals: Vec<f64>,
    /// Anything else that came: time-outs, errors.
    pub(super) others: u32,
}

impl Lived {
    /// One of which nothing came yet.
    pub(super) fn unanswered((tenant, born): (usize, f64), megapixels: f64) -> Self {
        Self { tenant, megapixels, born, tries: 0, answered: None, refusals: Vec::new(), others: 0 }
    }
}

impl Client {
    /// Sends one request until it is answered, or there is no point in it any more.
    pub(super) async fn live(self, megapixels: f64, mut random: StdRng) -> Lived {
        let born = self.began.elapsed();
        let mut lived = Lived::unanswered((self.tenant, born.as_secs_f64()), megapixels);
        let name = format!("{:032x}", random.random::<u128>());
        let call = Call::image(&name, &format!("FAKE mp={megapixels:.3} {name} {}", "x".repeat(FILE)));
        let call = call.by(&self.key);
        while (self.tenant == RUDE || lived.tries < TRIES) && self.began.elapsed() < born + LIFE {
            lived.tries += 1;
            let sent = Instant::now();
            let wait = match call.send(self.server, PATIENCE).await {
                Ok(reply) if reply.status == 200 => {
                    lived.answered = Some((self.began.elapsed().as_secs_f64(), sent.elapsed().as_secs_f64()));
                    return lived;
                }
                Ok(reply) if [429, 503].contains(&reply.status) => {
                    lived.refusals.push(sent.elapsed().as_secs_f64());
                    self.after_refusal(&reply, lived.tries, &mut random)
                }
                Ok(_) | Err(_) => {
                    lived.others += 1;
                    self.back_off(lived.tries).mul_f64(random.random_range(0.5..1.5))
                }
            };
            sleep(wait).await;
        }
        lived
    }

    fn after_refusal(&self, reply: &Reply, tries: u32, random: &mut StdRng) -> Duration {
        if self.tenant == RUDE {
            return RUDE_GAP;
        }
        let told = reply.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let told = Duration::from_secs(told.unwrap_or(1));
        told.max(self.back_off(tries)).mul_f64(random.random_range(1.0..1.5))
    }

    fn back_off(&self, tries: u32) -> Duration {
        if self.tenant == RUDE { RUDE_GAP } else { Duration::from_millis(250) * 2u32.pow(tries) }
    }
}
