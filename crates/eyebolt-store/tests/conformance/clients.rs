//! How clients behave.

use eyebolt_store::{
    ClientCounts, ClientNotes, ClientRunaway, ClientTally, MOST_AGENTS, NewKey, OTHER_AGENT, Store,
};
use eyebolt_types::{
    Limits, Mode, Scope,
    id::{KeyId, ProjectId, RunawayId},
};

use crate::place::{Place, at, on_both, project};

const HOUR: i64 = 3600;

async fn key_of(store: &Store, project: ProjectId, name: &str) -> KeyId {
    let key = NewKey {
        project,
        mode: Mode::Live,
        name: name.to_owned(),
        scopes: Scope::ALL.to_vec(),
        hash: format!("{project}{name}").into_bytes(),
        hint: "1234".to_owned(),
        expires_at: None,
        limits: Limits::default(),
    };
    store.create_key(key, at(0)).await.unwrap()
}

fn counts(by: u64) -> ClientCounts {
    ClientCounts {
        requests: 9 * by,
        submissions: 8 * by,
        retries: 7 * by,
        duplicates: 6 * by,
        client_errors: 5 * by,
        final_repeats: 4 * by,
        refusals: 3 * by,
        early_returns: 2 * by,
        server_errors: by,
    }
}

fn tally(key: KeyId, (second, by): (i64, u64), agents: &[(&str, u64)]) -> ClientTally {
    let agents = agents.iter().map(|(agent, requests)| ((*agent).to_owned(), *requests)).collect();
    ClientTally { key, at: at(second), counts: counts(by), agents }
}

async fn note(store: &Store, tallies: Vec<ClientTally>, second: i64) {
    store.note_clients(ClientNotes { tallies, runaways: Vec::new() }, at(second)).await.unwrap();
}

fn runaway(key: KeyId) -> ClientRunaway {
    ClientRunaway {
        id: RunawayId::new(),
        key,
        cause: "early".to_owned(),
        began_at: at(5),
        ended_at: None,
        strikes: 1,
        refused: 0,
    }
}

on_both! {
    async fn what_several_servers_count_adds_up_by_key_and_hour(place: &Place) {
        let (store, second) = (&place.store, place.again());
        let whose = project(store).await;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap();
        let (key, quiet) = (key_of(store, whose.id, "ci").await, key_of(store, other.id, "phone").await);
        note(store, vec![tally(key, (0, 1), &[("curl", 3)]), tally(quiet, (0, 1), &[])], 1).await;
        note(&second, vec![tally(key, (HOUR - 1, 2), &[("curl", 4), ("sdk", 1)])], 1).await;
        note(store, vec![tally(key, (HOUR, 4), &[])], HOUR).await;

        let all = store.clients((at(30), at(HOUR)), None, 10).await.unwrap();
        assert_eq!(all.iter().map(|one| one.key).collect::<Vec<_>>(), [key, quiet], "the most trouble first");
        let first = &all[0];
        assert_eq!((first.project, first.name.as_str(), first.mode), (whose.id, "ci", Mode::Live));
        assert_eq!(first.counts, counts(7), "the hour of an instant is whole");
        assert_eq!(first.agents, [("curl".to_owned(), 7), ("sdk".to_owned(), 1)]);
        let later = store.clients((at(HOUR), at(HOUR)), None, 10).await.unwrap();
        assert_eq!(later.iter().map(|one| one.counts).collect::<Vec<_>>(), [counts(4)]);
        let of_other = store.clients((at(0), at(HOUR)), Some(other.id), 10).await.unwrap();
        assert_eq!(of_other.iter().map(|one| one.key).collect::<Vec<_>>(), [quiet]);
        assert_eq!(store.clients((at(0), at(HOUR)), None, 1).await.unwrap().len(), 1);
    }

    async fn programs_are_bounded_for_each_key_and_day(place: &Place) {
        let store = &place.store;
        let key = key_of(store, project(store).await.id, "ci").await;
        let names: Vec<_> = (0..MOST_AGENTS + 30).map(|n| format!("agent/{n:03}")).collect();
        let agents: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        note(store, vec![tally(key, (0, 1), &agents)], 1).await;
        note(store, vec![tally(key, (0, 1), &[("agent/000", 50), ("agent/999", 2)])], 2).await;
        let agents = store.clients((at(0), at(9)), None, 10).await.unwrap().remove(0).agents;
        assert_eq!(agents.len(), MOST_AGENTS + 1);
        assert_eq!(agents[..2], [("agent/000".to_owned(), 51), (OTHER_AGENT.to_owned(), 32)]);
    }

    async fn who_runs_away_stands_first_until_the_end_or_until_its_server_died(place: &Place) {
        let store = &place.store;
        let whose = project(store).await.id;
        let (bad, worse) = (key_of(store, whose, "bad").await, key_of(store, whose, "worse").await);
        note(store, vec![tally(bad, (0, 1), &[]), tally(worse, (0, 2), &[])], 1).await;
        let mut ran = runaway(bad);
        let tell = async |ran: &ClientRunaway, second| {
            let notes = ClientNotes { runaways: vec![ran.clone()], ..ClientNotes::default() };
            store.note_clients(notes, at(second)).await.unwrap();
        };
        let seen = async |second| {
            let all = store.clients((at(0), at(second)), None, 10).await.unwrap();
            let runaways = all.iter().find(|one| one.key == bad).unwrap().runaways.clone();
            (all[0].key, runaways)
        };
        tell(&ran, 5).await;
        assert_eq!(seen(10).await, (bad, vec![ran.clone()]));
        ran = ClientRunaway { strikes: 3, refused: 40, ..ran };
        tell(&ran, 15).await;
        assert_eq!(seen(70).await, (bad, vec![ran.clone()]));
        let lost = ClientRunaway { ended_at: Some(at(15)), ..ran.clone() };
        assert_eq!(seen(90).await, (worse, vec![lost]), "nothing was heard of its server");
        ran.ended_at = Some(at(95));
        tell(&ran, 100).await;
        assert_eq!(seen(101).await, (worse, vec![ran]));
    }

    async fn ninety_days_later_nothing_is_left(place: &Place) {
        let store = &place.store;
        let key = key_of(store, project(store).await.id, "ci").await;
        let notes = ClientNotes { tallies: vec![tally(key, (0, 1), &[("curl", 1)])], runaways: vec![runaway(key)] };
        store.note_clients(notes, at(0)).await.unwrap();
        let day = 24 * HOUR;
        note(store, vec![], 89 * day).await;
        let found = store.clients((at(0), at(0)), None, 10).await.unwrap();
        assert_eq!((found[0].agents.len(), found[0].runaways.len()), (1, 1));
        note(store, vec![], 91 * day).await;
        note(store, vec![tally(key, (0, 1), &[])], 1).await;
        let found = store.clients((at(0), at(0)), None, 10).await.unwrap();
        assert_eq!(found[0].counts, counts(1));
        assert_eq!((found[0].agents.len(), found[0].runaways.len()), (0, 0));
    }
}
