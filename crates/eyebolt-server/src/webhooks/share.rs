//! Whose endpoints are sent to next: pure.
//!
//! A receiver that hangs has a pump for as long as an attempt may take. So no project gets more than half of the pumps that are
//! left, and never more than [`MOST`]: the fewer are left, the fewer each may have, and there is one for whoever has none.
//! Projects take turns, and of a project the endpoint that waits longest is first.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use eyebolt_store::DueEndpoint;
use eyebolt_types::id::{EndpointId, ProjectId};

/// Endpoints that one process sends to at once.
pub(super) const PUMPS: usize = 128;

/// Of those, so many of one project.
pub(super) const MOST: usize = 32;

/// A pump that has run for so long makes room for an endpoint that waits.
const TURN: Duration = Duration::from_secs(15);

/// The pumps under way, by project.
#[derive(Debug, Default)]
pub(super) struct Shares {
    under_way: HashMap<ProjectId, usize>,
    total: usize,
}

/// What is to be done about endpoints that something is due to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// These get a pump.
    pub(super) begin: Vec<EndpointId>,
    /// What is left waits.
    pub(super) crowd: Crowd,
}

/// Who waits for a pump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    projects: HashSet<ProjectId>,
    /// No pump is left for anybody.
    full: bool,
}

impl Crowd {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.projects.is_empty()
    }

    /// Whether a pump of this project that has run for so long is to make room: for another endpoint of its project, or where
    /// none is left, for anybody's.
    pub(super) fn ends(&self, project: ProjectId, ran: Duration) -> bool {
        ran >= TURN && (self.projects.contains(&project) || self.full && !self.is_empty())
    }
}

impl Shares {
    /// A pump of this project begins.
    pub(super) fn begin(&mut self, project: ProjectId) {
        *self.under_way.entry(project).or_default() += 1;
        self.total += 1;
    }

    /// One of them is over.
    pub(super) fn end(&mut self, project: ProjectId) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.under_way.get_mut(&project) {
            *count = count.saturating_sub(1);
        }
        self.under_way.retain(|_, count| *count > 0);
    }

    /// Chooses of endpoints, of which each project's stand in their order.
    pub(super) fn choose(&self, due: &[DueEndpoint]) -> Chosen {
        let mut counts = self.under_way.clone();
        let place = |one: &DueEndpoint| {
            let count = counts.entry(one.project).or_default();
            *count += 1;
            (*count, one.due_at, *one)
        };
        let mut places: Vec<_> = due.iter().map(place).collect();
        places.sort_by_key(|(place, due_at, _)| (*place, *due_at));
        let mut chosen = Chosen::default();
        let mut free = PUMPS.saturating_sub(self.total);
        for (place, _, one) in places {
            if free > 0 && place <= bound(free) {
                chosen.begin.push(one.id);
                free -= 1;
            } else {
                chosen.crowd.projects.insert(one.project);
            }
        }
        chosen.crowd.full = free == 0;
        chosen
    }
}

/// How many pumps a project may have, where so many are left.
fn bound(free: usize) -> usize {
    (free / 2).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// Endpoints of a project that are due from then on, one each second.
    fn due(project: ProjectId, count: usize, since: i64) -> Vec<DueEndpoint> {
        let at = |second: usize| Timestamp::from_second(since + second as i64).unwrap();
        let one = |second| DueEndpoint { id: EndpointId::new(), project, due_at: at(second) };
        (0..count).map(one).collect()
    }

    fn begin(shares: &mut Shares, due: &[DueEndpoint]) -> Vec<DueEndpoint> {
        let chosen = shares.choose(due).begin;
        let begun: Vec<_> = due.iter().copied().filter(|one| chosen.contains(&one.id)).collect();
        for one in &begun {
            shares.begin(one.project);
        }
        begun
    }

    #[test]
    fn one_project_has_no_more_than_its_share_and_others_are_not_kept_waiting() {
        let [greedy, other] = [ProjectId::new(), ProjectId::new()];
        let mut shares = Shares::default();
        let many = due(greedy, 500, 0);
        assert_eq!(begin(&mut shares, &many), many[..MOST], "those that wait longest");
        let left = [&many[MOST..], &due(other, 2, 900)].concat();
        let chosen = shares.choose(&left);
        assert_eq!(chosen.begin, left[left.len() - 2..].iter().map(|one| one.id).collect::<Vec<_>>());
        assert!(chosen.crowd.ends(greedy, TURN) && !chosen.crowd.ends(other, TURN));
        assert!(!chosen.crowd.ends(greedy, TURN.saturating_sub(Duration::from_nanos(1))));
    }

    #[test]
    fn projects_take_turns_and_who_has_less_comes_first() {
        let [one, two] = [ProjectId::new(), ProjectId::new()];
        let mut shares = Shares::default();
        shares.begin(one);
        let (first, second) = (due(one, 2, 0), due(two, 2, 10));
        let chosen = shares.choose(&[first[0], second[0], first[1], second[1]]);
        assert_eq!(chosen.begin, [second[0], first[0], second[1], first[1]].map(|one| one.id));
        assert!(chosen.crowd.is_empty());
    }

    #[test]
    fn however_many_projects_hang_there_is_a_pump_for_the_next() {
        let mut shares = Shares::default();
        let greedy: Vec<_> = (0..8).flat_map(|_| due(ProjectId::new(), 100, 0)).collect();
        begin(&mut shares, &greedy);
        assert!(PUMPS - shares.total >= PUMPS / 8, "{} are under way", shares.total);
        let honest = due(ProjectId::new(), 1, 99);
        assert_eq!(begin(&mut shares, &[greedy, honest.clone()].concat()), honest);
    }

    #[test]
    fn where_no_pump_is_left_everybody_makes_room_after_a_turn() {
        let mut shares = Shares::default();
        let projects: Vec<_> = (0..PUMPS).map(|_| ProjectId::new()).collect();
        for project in &projects {
            shares.begin(*project);
        }
        let next = due(ProjectId::new(), 1, 0);
        let crowd = shares.choose(&next).crowd;
        assert!(projects.iter().all(|project| crowd.ends(*project, TURN)));
        assert!(!shares.choose(&[]).crowd.ends(projects[0], TURN), "nobody waits");
        shares.end(projects[7]);
        assert_eq!(shares.choose(&next).begin, [next[0].id]);
    }

    proptest! {
        #[test]
        fn no_pump_is_given_twice_nor_kept_from_one_that_has_none(
            wanted in proptest::collection::vec(0_usize..60, 1..40), rounds in 1_usize..5,
        ) {
            let mut shares = Shares::default();
            let mut left: Vec<_> =
                wanted.iter().flat_map(|count| due(ProjectId::new(), *count, *count as i64)).collect();
            for _ in 0..rounds {
                let begun = begin(&mut shares, &left);
                left.retain(|one| !begun.contains(one));
                prop_assert!(shares.total <= PUMPS);
                prop_assert!(shares.under_way.values().all(|count| *count <= MOST));
                // Fewer than there are pumps: each has one at once.
                prop_assert!(left.iter().all(|one| shares.under_way.contains_key(&one.project)));
            }
        }
    }
}
