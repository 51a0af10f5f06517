//! Kills, stops and restarts of servers under load.

mod deck;

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;

pub(crate) use deck::PLACES;
use deck::{Card, Deck, Failpoint};

use crate::{
    client::Fleet,
    history::{Fault, History, What},
    profile::{Defect, Setup},
    server::{Condition, Launch, Server, was_killed},
};

/// What it has done so far.
#[derive(Debug, Default)]
struct Done {
    kills: u64,
    long_stops: u64,
    hit: Vec<&'static str>,
}

/// Whoever does it.
pub(crate) struct Nemesis {
    servers: Vec<Server>,
    history: History,
    setup: Setup,
    rng: StdRng,
    deck: Deck,
    done: Done,
}

/// A start takes a moment, and longer on a machine that others load.
const START: Duration = Duration::from_secs(30);
/// How long an armed failpoint may wait for its moment.
const ARMED: Duration = Duration::from_secs(6);
/// Finished keys that are asked again after each start.
const ASKED_AGAIN: usize = 12;
/// Stops longer than a lease that a run needs.
const LONG_STOPS: u64 = 3;

impl Nemesis {
    pub(crate) fn new(servers: Vec<Server>, history: History, setup: Setup) -> Self {
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let deck = Deck::new(StdRng::seed_from_u64(rng.random()));
        Self { servers, history, setup, rng, deck, done: Done::default() }
    }

    /// Starts all servers.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        for index in 0..self.servers.len() {
            self.start_clean(index).await?;
        }
        Ok(())
    }

    /// Does one thing after the other for `time`; for up to three times as long where the run still lacks something and has no
    /// defect, which shows without all of that.
    pub(crate) async fn rage(&mut self, fleet: &mut Fleet, time: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let longest = if self.setup.defect == Defect::None { time * 3 } else { time };
        while begun.elapsed() < time || (begun.elapsed() < longest && !self.has_done_enough()) {
            let pause = self.rng.random_range(300..1500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.look_after_all().await?;
            let (card, index) = (self.deck.draw(), self.rng.random_range(0..self.servers.len()));
            self.play(card, index, fleet).await?;
        }
        Ok(())
    }

    /// No more faults: all servers run, and run on.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<()> {
        self.look_after_all().await?;
        self.note(Fault::Heal);
        Ok(())
    }

    /// Ends the servers after a last look at them; gives how they were started.
    pub(crate) fn end(&mut self) -> anyhow::Result<Vec<Launch>> {
        for index in 0..self.servers.len() {
            if let Condition::Ended(status) = self.servers[index].condition()? {
                self.note(Fault::Exit { server: index, status: status.to_string() });
            }
            self.servers[index].kill()?;
        }
        Ok(self.servers.iter().map(|server| server.launch().clone()).collect())
    }

    async fn play(&mut self, card: Card, index: usize, fleet: &mut Fleet) -> anyhow::Result<()> {
        let lease = Duration::from_millis(self.setup.lease_ms);
        match card {
            Card::Kill => {
                self.kill(index)?;
                self.start_clean(index).await?;
            }
            Card::EarlyKill => self.kill_early(index).await?,
            Card::Failpoint(failpoint) => self.arm(index, failpoint).await?,
            Card::ShortStop => return self.stop(index, lease / 2).await,
            Card::LongStop => return self.stop(index, lease * 2).await,
            Card::ClientCrash => {
                let client = self.rng.random_range(0..fleet.len());
                return fleet.crash(client).await;
            }
        }
        fleet.ask_again(ASKED_AGAIN);
        Ok(())
    }

    async fn kill_early(&mut self, index: usize) -> anyhow::Result<()> {
        self.kill(index)?;
        self.spawn(index, None)?;
        let moment = self.rng.random_range(0..400);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        self.kill(index)?;
        self.start_clean(index).await
    }

    async fn stop(&mut self, index: usize, time: Duration) -> anyhow::Result<()> {
        self.note(Fault::Stop { server: index, ms: time.as_millis() as u64 });
        self.servers[index].signal(Signal::STOP)?;
        self.wait_stopped(index, time).await
    }

    async fn wait_stopped(&mut self, index: usize, time: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(time).await;
        self.note(Fault::Continue { server: index });
        self.servers[index].signal(Signal::CONT)?;
        self.done.long_stops += u64::from(time.as_millis() as u64 > self.setup.lease_ms);
        Ok(())
    }

    /// Restarts a server with a failpoint, waits until it is reached, and starts the server without it.
    async fn arm(&mut self, index: usize, failpoint: Failpoint) -> anyhow::Result<()> {
        let armed = failpoint.armed(&mut self.rng);
        self.kill(index)?;
        self.spawn(index, Some(&armed))?;
        let healthy = self.servers[index].healthy(START).await? == Condition::Running;
        if healthy && !self.servers[index].leaves(ARMED).await? {
            self.note(Fault::Missed { server: index, failpoint: armed });
            self.deck.again(&failpoint);
            self.kill(index)?;
            return self.start_clean(index).await;
        }
        self.hit(index, armed, &failpoint).await
    }

    async fn hit(&mut self, index: usize, armed: String, failpoint: &Failpoint) -> anyhow::Result<()> {
        match self.servers[index].condition()? {
            Condition::Stopped => {
                self.note(Fault::Hit { server: index, failpoint: armed });
                let time = Duration::from_millis(self.setup.lease_ms * 2);
                self.note(Fault::Stop { server: index, ms: time.as_millis() as u64 });
                self.wait_stopped(index, time).await?;
                // It may have been stopped before it answered anybody.
                self.servers[index].healthy(START).await?;
                return Ok(());
            }
            Condition::Ended(status) if was_killed(status) => {
                self.note(Fault::Hit { server: index, failpoint: armed });
                self.done.kills += 1;
                self.done.hit.push(failpoint.place);
            }
            Condition::Ended(status) => self.note(Fault::Exit { server: index, status: status.to_string() }),
            Condition::Running => {}
        }
        self.servers[index].kill()?;
        self.start_clean(index).await
    }

    fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        if let Condition::Ended(status) = self.servers[index].condition()? {
            self.note(Fault::Exit { server: index, status: status.to_string() });
        }
        self.servers[index].kill()?;
        // After its end: what is done before this line may be undone, what comes after is another server's.
        self.note(Fault::Kill { server: index });
        self.done.kills += 1;
        Ok(())
    }

    async fn start_clean(&mut self, index: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.spawn(index, None)?;
        match self.servers[index].healthy(START).await? {
            Condition::Running => {
                self.note(Fault::Healthy { server: index, after_ms: begun.elapsed().as_millis() as u64 });
                Ok(())
            }
            other => anyhow::bail!(
                "the server does not start ({other:?}); see {}",
                self.servers[index].launch().log.display()
            ),
        }
    }

    fn spawn(&mut self, index: usize, failpoint: Option<&str>) -> anyhow::Result<()> {
        self.note(Fault::Start { server: index, failpoint: failpoint.map(str::to_owned) });
        self.servers[index].start(failpoint)
    }

    /// Starts servers again that ended by themselves.
    async fn look_after_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.servers.len() {
            if let Condition::Ended(status) = self.servers[index].condition()? {
                self.note(Fault::Exit { server: index, status: status.to_string() });
                self.servers[index].kill()?;
                self.start_clean(index).await?;
            }
        }
        Ok(())
    }

    fn has_done_enough(&self) -> bool {
        self.done.kills >= self.setup.minimums.kills
            && self.done.long_stops >= LONG_STOPS
            && PLACES.iter().all(|place| self.done.hit.contains(place))
    }

    fn note(&self, fault: Fault) {
        self.history.write("nemesis", What::Nemesis(fault));
    }
}
