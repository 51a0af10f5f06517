//! What was counted since it was written down last.

use std::collections::HashMap;

use eyebolt_store::{ClientCounts, ClientTally, MOST_AGENTS, OTHER_AGENT};
use eyebolt_types::id::KeyId;
use jiff::Timestamp;

/// Seconds of an hour.
const HOUR: i64 = 3600;

/// The longest name of a program that is kept, characters.
const LONGEST_AGENT: usize = 80;

/// Keys whose counts are in memory; further ones are not counted until these are written down.
const MOST_KEYS: usize = 100_000;

/// Counts by key and hour.
#[derive(Debug, Default)]
pub(super) struct Tally(HashMap<(KeyId, i64), Counted>);

#[derive(Debug, Default)]
struct Counted {
    counts: ClientCounts,
    agents: HashMap<Box<str>, u64>,
}

impl Tally {
    /// One more request; `count` adds what it was.
    pub(super) fn add(
        &mut self,
        (key, now): (KeyId, Timestamp),
        agent: &[u8],
        count: impl FnOnce(&mut ClientCounts),
    ) {
        let name = (key, now.as_second().div_euclid(HOUR));
        if self.0.len() >= MOST_KEYS && !self.0.contains_key(&name) {
            return;
        }
        let counted = self.0.entry(name).or_default();
        count(&mut counted.counts);
        counted.add_agent(agent);
    }

    /// Everything, as it is to be written down; nothing is left.
    pub(super) fn take(&mut self) -> Vec<ClientTally> {
        let tally = |((key, hour), counted): ((KeyId, i64), Counted)| {
            let at = Timestamp::from_second(hour * HOUR).ok()?;
            let agents = counted.agents.into_iter().map(|(agent, count)| (agent.into(), count)).collect();
            Some(ClientTally { key, at, counts: counted.counts, agents })
        };
        self.0.drain().filter_map(tally).collect()
    }

    /// Takes back what could not be written down.
    pub(super) fn put_back(&mut self, tallies: Vec<ClientTally>) {
        for ClientTally { key, at, counts, agents } in tallies {
            let counted = self.0.entry((key, at.as_second().div_euclid(HOUR))).or_default();
            counted.counts += counts;
            for (agent, count) in agents {
                *counted.agents.entry(agent.into()).or_default() += count;
            }
        }
    }
}

impl Counted {
    fn add_agent(&mut self, agent: &[u8]) {
        let mut room = [0; LONGEST_AGENT];
        let agent = shown(agent, &mut room);
        if let Some(count) = self.agents.get_mut(agent) {
            *count += 1;
            return;
        }
        let agent = if self.agents.len() < MOST_AGENTS { agent } else { OTHER_AGENT };
        *self.agents.entry(agent.into()).or_default() += 1;
    }
}

/// A client's word for itself that is safe anywhere: visible ASCII and blanks; everything else becomes `?`.
fn shown<'a>(agent: &[u8], room: &'a mut [u8; LONGEST_AGENT]) -> &'a str {
    if agent.is_empty() {
        return "unknown";
    }
    let safe = |byte: &u8| if matches!(byte, b' '..=b'~') { *byte } else { b'?' };
    let mut length = 0;
    for (to, from) in room.iter_mut().zip(agent.iter().map(safe)) {
        *to = from;
        length += 1;
    }
    std::str::from_utf8(&room[..length]).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn names_of_programs_are_few_short_and_harmless() {
        let (mut tally, key) = (Tally::default(), KeyId::new());
        let one = |counts: &mut ClientCounts| counts.requests += 1;
        tally.add((key, at(0)), b"evil\x1b[2J\xff\n agent", one);
        tally.add((key, at(0)), &[b'x'; 5000], one);
        tally.add((key, at(0)), b"", one);
        for n in 0..1000 {
            tally.add((key, at(1)), format!("agent/{n}").as_bytes(), one);
        }
        let [taken] = &tally.take()[..] else { panic!("one hour of one key") };
        assert_eq!((taken.counts.requests, taken.agents.len()), (1003, MOST_AGENTS + 1));
        let requests = |wanted: &str| taken.agents.iter().find(|(agent, _)| agent == wanted).unwrap().1;
        assert_eq!([requests("evil?[2J?? agent"), requests("unknown"), requests(OTHER_AGENT)], [1, 1, 983]);
        assert!(taken.agents.iter().all(|(agent, _)| agent.len() <= LONGEST_AGENT));
    }

    #[test]
    fn what_could_not_be_written_is_counted_once_in_its_own_hour() {
        let (mut tally, key) = (Tally::default(), KeyId::new());
        let one = |counts: &mut ClientCounts| counts.requests += 1;
        tally.add((key, at(HOUR - 1)), b"a", one);
        let taken = tally.take();
        tally.add((key, at(HOUR)), b"a", one);
        tally.put_back(taken);
        let mut taken: Vec<_> =
            tally.take().into_iter().map(|one| (one.at, one.counts.requests, one.agents)).collect();
        taken.sort();
        let agents = || vec![("a".to_owned(), 1)];
        assert_eq!(taken, [(at(0), 1, agents()), (at(HOUR), 1, agents())]);
        assert!(tally.take().is_empty());
    }
}
