//! The outbox: what is told of an end, in which order it can be read, and how long.

use std::collections::BTreeSet;

use eyebolt_store::{Fenced, NewEvent};
use eyebolt_types::{
    EventType, JobStatus, Mode,
    id::{EventId, JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{again, closing, ended, event, half_failed, running},
};

const LIVE: Mode = Mode::Live;

/// All positions of a project's events after this one.
async fn positions(place: &Place, project: ProjectId, after: u64) -> Vec<u64> {
    let events = place.store.events((project, LIVE), after, 1000).await.unwrap();
    events.into_iter().map(|event| event.position).collect()
}

on_both! {
    async fn an_end_is_told_with_it_and_once(place: &Place) {
        let project = project(&place.store).await.id;
        let mut news = place.store.news();
        let lease = running(&place.store, project, "one").await;
        let late = place.store.close((lease.0, 9), closing(JobStatus::Succeeded), at(3)).await.unwrap();
        assert_eq!(late, Err(Fenced));
        assert_eq!(place.store.events_of(lease.0, 0).await, Ok(vec![]), "who lost the lease tells nothing");
        place.store.close(lease, closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
        assert_eq!(news.recv().await, Ok(project));
        let again = place.store.close(lease, closing(JobStatus::Failed), at(4)).await.unwrap();
        assert_eq!(again, Err(Fenced));
        let told = place.store.events_of(lease.0, 0).await.unwrap();
        let wanted = event(JobStatus::Succeeded);
        assert_eq!((told.len(), told[0].id, &told[0].data), (1, wanted.id, &wanted.data));
        assert_eq!(place.store.events_of(lease.0, 1).await, Ok(vec![]));
    }

    async fn each_round_of_a_job_has_its_event(place: &Place) {
        let project = project(&place.store).await.id;
        let job = ended(&place.store, project, ("one", half_failed())).await;
        place.store.retry((project, LIVE, job), again(900), at(5)).await.unwrap();
        let lines = place.store.lines(at(6)).await.unwrap();
        let lease = crate::sample::lease("w", 60);
        let leased = place.store.claim(lease, vec![(lines[0].line, 1)], at(6)).await.unwrap().concat();
        let second = NewEvent { version: 2, ..event(JobStatus::Canceled) };
        let end = eyebolt_store::Closing { event: second, ..closing(JobStatus::Canceled) };
        place.store.close((job, leased[0].token), end, at(7)).await.unwrap().unwrap();
        let told = place.store.events_of(job, 0).await.unwrap();
        let kinds: Vec<_> = told.iter().map(|event| (event.kind, event.version)).collect();
        assert_eq!(kinds, [(EventType::JobFailed, 1), (EventType::JobCanceled, 2)]);
    }

    /// Many transactions commit while somebody reads on and on behind the last position that he saw.
    async fn a_reader_misses_nothing_that_is_committed_late(place: &Place) {
        let project = project(&place.store).await.id;
        let mut leases = Vec::new();
        for number in 0..60 {
            leases.push(running(&place.store, project, &format!("key-{number}")).await);
        }
        let jobs: BTreeSet<JobId> = leases.iter().map(|(job, _)| *job).collect();
        // Each its own event, and two servers that close them.
        let other = place.again();
        let closers: Vec<_> = leases
            .into_iter()
            .enumerate()
            .map(|(number, lease)| {
                let store = if number % 2 == 0 { place.store.clone() } else { other.clone() };
                let id = EventId::of([number as u8; 16]);
                // Late ones are older by their own clock.
                let then = at(60 - number as i64);
                let told = NewEvent { id, data: lease.0.to_string(), ..event(JobStatus::Succeeded) };
                let end = eyebolt_store::Closing { event: told, ..closing(JobStatus::Succeeded) };
                tokio::spawn(async move { store.close(lease, end, then).await.unwrap().unwrap() })
            })
            .collect();
        let (mut seen, mut after) = (Vec::new(), 0);
        while seen.len() < jobs.len() {
            for event in place.store.events((project, LIVE), after, 7).await.unwrap() {
                assert!(event.position > after, "positions grow");
                after = event.position;
                seen.push(event.data.parse::<JobId>().unwrap());
            }
        }
        for closer in closers {
            closer.await.unwrap();
        }
        assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), jobs);
        assert_eq!(positions(place, project, 0).await, (1..=60).collect::<Vec<_>>());
    }

    async fn what_is_removed_is_known_to_be(place: &Place) {
        let project = project(&place.store).await.id;
        let whose = (project, LIVE);
        ended(&place.store, project, ("one", closing(JobStatus::Succeeded))).await;
        assert_eq!(positions(place, project, 0).await, [1]);
        let lease = running(&place.store, project, "two").await;
        place.store.close(lease, closing(JobStatus::Succeeded), at(20)).await.unwrap().unwrap();
        assert_eq!(place.store.sweep_events(whose, at(10), 100).await, Ok(1));
        let horizon = place.store.event_horizon(whose).await.unwrap();
        assert_eq!((horizon.last, horizon.removed), (1, 1));
        // One that nobody had read takes a position with it, so that who stands before it learns of the gap.
        assert_eq!(place.store.sweep_events(whose, at(30), 100).await, Ok(1));
        let horizon = place.store.event_horizon(whose).await.unwrap();
        assert_eq!((horizon.last, horizon.removed), (2, 2));
        assert_eq!(place.store.sweep_events(whose, at(30), 100).await, Ok(0));
        assert_eq!(positions(place, project, 0).await, Vec::<u64>::new());
        let other = place.store.event_horizon((project, Mode::Test)).await.unwrap();
        assert_eq!((other.last, other.removed), (0, 0));
    }
}
