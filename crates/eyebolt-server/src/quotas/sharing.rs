//! Counters that several servers share, and what this server does while they are away: it counts by itself, with its share of
//! each limit. Neither everything is refused then, nor is anything unlimited.
//!
//! What this server lets in it counts by itself at all times. So who is over a limit here alone needs no question to the
//! shared counters, and where those are lost, or have forgotten everything, the count goes on.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eyebolt_admission::Quota;
use eyebolt_types::Clock;
use tokio::time::{sleep, timeout};

use super::counters::{Away, Cost, Counted, Counters, Memory, Over, decisions};

/// Counters behind a connection.
pub(super) trait Remote: Counters + fmt::Debug {
    /// Makes a new connection, in place of one that there may be.
    fn connect(&self) -> impl Future<Output = Result<(), Away>> + Send;
}

/// How a server behaves toward shared counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Manners {
    /// How long it waits for an answer.
    pub(super) patience: Duration,
    /// Its part of each limit while there is none.
    pub(super) share: f64,
}

/// Until the shared counters are asked again for the first time; then twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a new connection may take.
const CONNECTING: Duration = Duration::from_secs(1);

/// Shared counters, with a count of this server's own beside them.
#[derive(Debug)]
pub(super) struct Sharing<S> {
    shared: S,
    /// What this server let in, of the whole limits.
    local: Memory,
    /// What it let in of its share, since they are away; what it had let in before counts.
    alone: Memory,
    away: AtomicBool,
    manners: Manners,
}

impl<S: Remote> Sharing<S> {
    /// Away until [`Sharing::seek`] has found them.
    pub(super) fn new(shared: S, manners: Manners, clock: Clock) -> Arc<Self> {
        let (local, alone) = (Memory::new(clock.clone()), Memory::new(clock));
        Arc::new(Self { shared, local, alone, away: AtomicBool::new(true), manners })
    }

    /// Takes all costs, or as `over` says. Always answered within the patience.
    pub(super) async fn take(self: &Arc<Self>, costs: &[Cost], over: Over) -> Vec<Counted> {
        if self.is_away() {
            return self.take_of_share(costs, over);
        }
        let local = self.local.take_now(costs, over);
        if over == Over::Refuse && !all_let_in(costs, &local) {
            return local;
        }
        match timeout(self.manners.patience, self.shared.take(costs, over)).await {
            Ok(Ok(shared)) => {
                if over == Over::Refuse && !all_let_in(costs, &shared) {
                    self.local.give_back_now(costs);
                }
                shared.into_iter().zip(local).map(|(shared, local)| longer(shared, local)).collect()
            }
            Ok(Err(Away(reason))) => self.go_on_alone(&reason, (costs, over)),
            Err(_) => {
                let reason = format!("there was no answer within {:?}", self.manners.patience);
                self.go_on_alone(&reason, (costs, over))
            }
        }
    }

    /// Gives back what was taken and not used.
    pub(super) async fn give_back(self: &Arc<Self>, costs: &[Cost]) {
        self.local.give_back_now(costs);
        if self.is_away() {
            self.alone.give_back_now(costs);
        } else {
            // What is lost of this leaks out by itself.
            _ = timeout(self.manners.patience, self.shared.give_back(costs)).await;
        }
    }

    /// Whether this server counts by itself.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// Looks for the shared counters until they are there; the first look ends before this does.
    pub(super) async fn seek(self: &Arc<Self>) {
        if let Err(Away(reason)) = self.look().await {
            tracing::warn!(
                event = "counters.away",
                reason,
                share = self.manners.share,
                "the shared counters can't be reached: this server counts by itself, with its share of each limit"
            );
            tokio::spawn(look_again(Arc::downgrade(self)));
        }
    }

    fn go_on_alone(self: &Arc<Self>, reason: &str, (costs, over): (&[Cost], Over)) -> Vec<Counted> {
        self.local.give_back_now(costs);
        if self.away.swap(true, Ordering::AcqRel) {
            // Whoever noticed it first counted these as let in.
            self.alone.give_back_now(costs);
        } else {
            self.alone.go_on_from(&self.local);
            tracing::warn!(
                event = "counters.away",
                reason,
                share = self.manners.share,
                "the shared counters are away: this server counts by itself, with its share of each limit"
            );
            tokio::spawn(look_again(Arc::downgrade(self)));
        }
        self.take_of_share(costs, over)
    }

    fn take_of_share(&self, costs: &[Cost], over: Over) -> Vec<Counted> {
        let share = |cost: &Cost| Cost { quota: share(cost, self.manners.share), ..*cost };
        let shares: Vec<_> = costs.iter().map(share).collect();
        let counted = self.alone.take_now(&shares, over);
        if over == Over::TakeLeft || all_let_in(&shares, &counted) {
            // Of the whole as well: they may come back empty.
            self.local.take_now(costs, Over::TakeLeft);
        }
        counted
    }

    /// Whether they answer in time now.
    async fn look(&self) -> Result<(), Away> {
        let late = |_| Away("there was no answer in time".to_owned());
        timeout(CONNECTING, self.shared.connect()).await.map_err(late)??;
        // The first call loads the script.
        timeout(CONNECTING, self.shared.take(&[], Over::Refuse)).await.map_err(late)??;
        timeout(self.manners.patience, self.shared.take(&[], Over::Refuse)).await.map_err(late)??;
        self.away.store(false, Ordering::Release);
        Ok(())
    }
}

/// In the background, so that no request waits for it.
async fn look_again<S: Remote>(sharing: Weak<Sharing<S>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        let Some(sharing) = sharing.upgrade() else { return };
        if sharing.look().await.is_ok() {
            tracing::info!(event = "counters.back", "the shared counters answer again");
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn all_let_in(costs: &[Cost], counted: &[Counted]) -> bool {
    decisions(costs, counted).all(|(_, decision)| decision.admitted)
}

fn longer(one: Counted, other: Counted) -> Counted {
    if other.backlog > one.backlog { other } else { one }
}

/// A server's part of a limit. What fits the whole limit fits, if need be alone: nobody is told that it never will.
fn share(cost: &Cost, share: f64) -> Quota {
    let Quota { units, window, burst } = cost.quota;
    if units == 0 {
        return cost.quota;
    }
    let part = |whole: u64| ((whole as f64 * share) as u64).clamp(1, whole);
    let needed = if cost.units <= burst { cost.units } else { 1 };
    Quota { units: part(units), window, burst: part(burst).max(needed) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicUsize};

    use eyebolt_types::{Mode, Policy, id::ProjectId};
    use jiff::Timestamp;

    use super::{super::counters::Name, *};

    /// What shared counters do.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Does {
        Answer,
        Fail,
        Nothing,
    }

    /// Counters in memory behind a line that a test cuts.
    #[derive(Debug)]
    struct Line {
        counters: Memory,
        does: Mutex<Does>,
        asked: AtomicUsize,
    }

    impl Line {
        async fn pass(&self) -> Result<(), Away> {
            let does = *self.does.lock().unwrap();
            match does {
                Does::Answer => Ok(()),
                Does::Fail => Err(Away("cut".to_owned())),
                Does::Nothing => std::future::pending().await,
            }
        }
    }

    impl Counters for Line {
        async fn take(&self, costs: &[Cost], over: Over) -> Result<Vec<Counted>, Away> {
            // Looks alone are not counted.
            self.asked.fetch_add(usize::from(!costs.is_empty()), Ordering::SeqCst);
            self.pass().await?;
            self.counters.take(costs, over).await
        }

        async fn give_back(&self, costs: &[Cost]) -> Result<(), Away> {
            self.pass().await?;
            self.counters.give_back(costs).await
        }
    }

    impl Remote for Line {
        async fn connect(&self) -> Result<(), Away> {
            self.pass().await
        }
    }

    const MANNERS: Manners = Manners { patience: Duration::from_millis(50), share: 0.25 };

    async fn sharing() -> Arc<Sharing<Line>> {
        let clock = Clock::fixed(Timestamp::UNIX_EPOCH);
        let (counters, does, asked) =
            (Memory::new(clock.clone()), Mutex::new(Does::Answer), AtomicUsize::new(0));
        let sharing = Sharing::new(Line { counters, does, asked }, MANNERS, clock);
        sharing.seek().await;
        sharing
    }

    fn of(units: u64) -> Cost {
        let policy = Policy::UnitsPerMinute;
        let name = Name { project: NOBODY.with(|id| *id), key: None, mode: Mode::Live, policy };
        Cost { name, quota: Quota::new(100, Duration::from_mins(1)), units }
    }

    thread_local! {
        static NOBODY: ProjectId = ProjectId::new();
    }

    /// How many of so many single units are let in.
    async fn let_in(sharing: &Arc<Sharing<Line>>, tries: usize) -> usize {
        let mut count = 0;
        for _ in 0..tries {
            let costs = [of(1)];
            count += usize::from(all_let_in(&costs, &sharing.take(&costs, Over::Refuse).await));
        }
        count
    }

    fn set(sharing: &Sharing<Line>, does: Does) {
        *sharing.shared.does.lock().unwrap() = does;
    }

    #[tokio::test]
    async fn while_they_are_away_a_share_is_given_out_and_what_was_used_before_counts() {
        for cut in [Does::Fail, Does::Nothing] {
            let sharing = sharing().await;
            assert_eq!(let_in(&sharing, 20).await, 20);
            set(&sharing, cut);
            // A quarter of 100, of which 20 are used up already.
            assert_eq!(let_in(&sharing, 200).await, 5, "{cut:?}");
            // One request waited for an answer; the others did not ask.
            assert_eq!(sharing.shared.asked.load(Ordering::SeqCst), 21, "{cut:?}");
            assert!(sharing.is_away());
        }
    }

    #[tokio::test]
    async fn they_are_taken_up_again_once_they_answer() {
        let sharing = sharing().await;
        set(&sharing, Does::Fail);
        assert_eq!(let_in(&sharing, 100).await, 25);
        assert!(sharing.look().await.is_err() && sharing.is_away());
        set(&sharing, Does::Answer);
        assert!(sharing.look().await.is_ok() && !sharing.is_away());
        // The shared counters have seen nothing of it; this server has.
        assert_eq!(let_in(&sharing, 200).await, 75);
    }

    #[tokio::test]
    async fn counters_that_forgot_everything_are_no_new_beginning() {
        let sharing = sharing().await;
        assert_eq!(let_in(&sharing, 60).await, 60);
        sharing.shared.counters.give_back_now(&[of(60)]);
        assert_eq!(let_in(&sharing, 200).await, 40);
    }

    #[tokio::test]
    async fn more_than_the_share_is_not_forgotten_meanwhile() {
        let sharing = sharing().await;
        assert_eq!(let_in(&sharing, 60).await, 60);
        set(&sharing, Does::Fail);
        assert_eq!(let_in(&sharing, 10).await, 0);
        // Of the share no more than all of it is used.
        let refused = sharing.take(&[of(1)], Over::Refuse).await;
        let wait = decisions(&[of(1)], &refused).next().unwrap().1.retry_in;
        assert_eq!(wait, Some(Duration::from_millis(2400)));
        sharing.shared.counters.give_back_now(&[of(60)]);
        set(&sharing, Does::Answer);
        assert!(sharing.look().await.is_ok());
        assert_eq!(let_in(&sharing, 200).await, 40);
    }

    #[tokio::test]
    async fn who_is_over_the_limit_here_costs_no_question() {
        let sharing = sharing().await;
        assert_eq!(let_in(&sharing, 100).await, 100);
        let asked = sharing.shared.asked.load(Ordering::SeqCst);
        assert_eq!(let_in(&sharing, 100).await, 0);
        assert_eq!(sharing.shared.asked.load(Ordering::SeqCst), asked);
    }

    #[tokio::test]
    async fn what_others_used_is_used_here_too_and_costs_nothing_that_is_refused() {
        let sharing = sharing().await;
        sharing.shared.counters.take_now(&[of(90)], Over::Refuse);
        let costs = [of(11)];
        let refused = sharing.take(&costs, Over::Refuse).await;
        assert!(!all_let_in(&costs, &refused));
        assert_eq!(let_in(&sharing, 20).await, 10);
    }

    #[test]
    fn what_fits_the_whole_limit_fits_a_share() {
        let large = of(80);
        assert_eq!(share(&large, 0.25), Quota { units: 25, window: Duration::from_mins(1), burst: 80 });
        assert_eq!(share(&of(101), 0.25).burst, 25);
        assert_eq!(share(&of(1), 0.001).units, 1);
        let nothing = Cost { quota: Quota::new(0, Duration::from_mins(1)), ..of(1) };
        assert_eq!(share(&nothing, 0.5).units, 0);
    }

    #[tokio::test]
    async fn counters_that_are_not_there_at_the_start_are_found_later() {
        let clock = Clock::fixed(Timestamp::UNIX_EPOCH);
        let (counters, does, asked) =
            (Memory::new(clock.clone()), Mutex::new(Does::Fail), AtomicUsize::new(0));
        let sharing = Sharing::new(Line { counters, does, asked }, MANNERS, clock);
        sharing.seek().await;
        assert_eq!(let_in(&sharing, 100).await, 25);
        set(&sharing, Does::Answer);
        assert!(sharing.look().await.is_ok());
        assert_eq!(let_in(&sharing, 100).await, 75);
    }
}
