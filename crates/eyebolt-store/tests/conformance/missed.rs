//! What an endpoint missed is found without holding anybody up, and hosts that nobody names any more are removed.

use std::fmt::Write;

use eyebolt_store::{Closing, Creation, EndpointKind, Location, NewEndpoint, NewEvent, ToldAt};
use eyebolt_types::{
    EventType, JobStatus, Mode,
    id::{EndpointId, EventId, ProjectId},
};

use crate::{
    deliveries::{endpoint, made, told, wanted},
    place::{Place, at, on_both, project},
    sample::{closing, ended, event},
};

/// Events that were recorded for nobody: three at each instant.
fn happened(place: &Place, project: ProjectId, count: u32) {
    let mut rows = String::new();
    for number in 0..count {
        let (id, at) =
            (EventId::of(u128::from(number).to_be_bytes()), at(i64::from(number / 3)).as_microsecond());
        let comma = if number == 0 { "" } else { "," };
        write!(rows, "{comma} ('s{number}', 1, '{id}', '{project}', 'live', 'job.failed', '{{}}', {at})")
            .unwrap();
    }
    place.tamper(&format!(
        "INSERT INTO events (subject, version, id, project_id, mode, type, data, created_at) VALUES {rows}"
    ));
}

/// A host that a request names at a time.
async fn named(place: &Place, project: ProjectId, url: &str, now: i64) -> EndpointId {
    let new = NewEndpoint { kind: EndpointKind::Requests, ..wanted(project, url, None) };
    match place.store.create_endpoint(new, (None, 100), at(now)).await.unwrap() {
        Creation::Created(made) => made.id,
        Creation::Exists(there) => there,
        full @ Creation::TooMany(_) => panic!("{full:?}"),
    }
}

const DAY: i64 = 24 * 60 * 60;

on_both! {
    async fn a_replay_goes_through_page_after_page_and_begins_each_once(place: &Place) {
        let project = project(&place.store).await.id;
        let all = endpoint(place, project, "https://a/").await.id;
        let none = made(place, wanted(project, "https://b/", Some(vec![EventType::JobExpired]))).await.id;
        happened(place, project, 1600);
        let replay = |id, since, limit| place.store.replay_since((project, Mode::Live, id), (at(since), limit), at(900));
        assert_eq!(replay(none, 0, 9999).await, Ok(0), "it wants none of them");
        assert_eq!(replay(all, 530, 9999).await, Ok(10), "those since then");
        assert_eq!(replay(all, 0, 700).await, Ok(700));
        assert_eq!(replay(all, 0, 9999).await, Ok(890), "what is on its way is not begun again");
        assert_eq!(replay(all, 0, 9999).await, Ok(0));
        // All of them failed.
        place.tamper("UPDATE webhook_deliveries SET state = 'failed', next_at = NULL, attempts = 10, finished_at = 1");
        assert_eq!(replay(all, 0, 1500).await, Ok(1500));
        assert_eq!(replay(all, 0, 9999).await, Ok(100));
        place.tamper("UPDATE webhook_deliveries SET state = 'delivered', next_at = NULL, attempts = 1");
        assert_eq!(replay(all, 0, 9999).await, Ok(0));
    }

    async fn a_replay_of_nothing_waits_for_nobody_who_writes(place: &Place) {
        let project = project(&place.store).await.id;
        let whose = (project, Mode::Live, endpoint(place, project, "https://a/").await.id);
        told(place, project, 1).await;
        let replay = || place.store.replay_since(whose, (at(0), 100), at(9));
        match &place.location {
            Location::Sqlite(path) => {
                let writer = rusqlite::Connection::open(path).unwrap();
                writer.execute_batch("BEGIN IMMEDIATE").unwrap();
                assert_eq!(replay().await, Ok(0));
            }
            Location::Postgres(_) => {
                let writer = place.session("BEGIN; SELECT id FROM webhook_endpoints FOR UPDATE");
                assert_eq!(replay().await, Ok(0));
                writer.end("ROLLBACK");
            }
        }
    }

    async fn a_host_that_nobody_names_any_more_makes_room(place: &Place) {
        let project = project(&place.store).await.id;
        let url = |number: i64| format!("https://{number}");
        let mut hosts = Vec::new();
        for number in 0..4 {
            hosts.push(named(place, project, &url(number), 0).await);
        }
        let own = endpoint(place, project, "https://own/").await.id;
        let told_at = Some(ToldAt { url: "https://2/x".to_owned(), origin: url(2) });
        let end = Closing { event: NewEvent { told_at, ..event(JobStatus::Failed) }, ..closing(JobStatus::Failed) };
        ended(&place.store, project, ("one", end)).await;
        assert_eq!(named(place, project, &url(1), 5 * DAY).await, hosts[1], "named again");
        place.tamper(&format!("UPDATE webhook_endpoints SET named_at = NULL WHERE id = '{}'", hosts[3]));
        let sweep = |before: i64| place.store.sweep_hosts(at(before * DAY), 10, at(7 * DAY));
        // The last one was named by a server that did not write it down: it counts from now on.
        assert_eq!((sweep(5).await, sweep(5).await), (Ok(1), Ok(0)));
        let there = async |id| place.store.endpoint((project, Mode::Live), id).await.unwrap().is_some();
        let mut left = Vec::new();
        for id in [hosts[0], hosts[1], hosts[2], hosts[3], own] {
            left.push(there(id).await);
        }
        assert_eq!(left, [false, true, true, true, true], "of one there are deliveries");
        assert_eq!(sweep(6).await, Ok(1));
        assert!(!there(hosts[1]).await);
        place.tamper("DELETE FROM webhook_deliveries");
        place.tamper("UPDATE jobs SET status = 'pending', finished_at = NULL");
        assert_eq!(sweep(8).await, Ok(0), "a job may still be told there");
        place.tamper("UPDATE jobs SET status = 'failed', finished_at = 1");
        assert_eq!(sweep(8).await, Ok(2));
        assert!(there(own).await);
    }
}
