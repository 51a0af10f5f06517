//! What an endpoint missed is found without holding anybody up.

use std::fmt::Write;

use eyebolt_store::Location;
use eyebolt_types::{
    EventType, Mode,
    id::{EventId, ProjectId},
};

use crate::{
    deliveries::{endpoint, made, told, wanted},
    place::{Place, at, on_both, project},
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
}
