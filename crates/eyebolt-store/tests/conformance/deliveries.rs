//! Webhook deliveries: recorded with the fact, leased with the endpoint, written down under its token.

use std::time::Duration;

use eyebolt_store::{
    Closing, Creation, DeliveryAttempt, DeliveryFilter, DeliveryState, DueEndpoint, Endpoint, EndpointChange,
    EndpointKind, EndpointState, LeasedEndpoint, NewEndpoint, NewEvent, SecretOwner, Settlement,
    StoredDelivery, ToldAt,
};
use eyebolt_types::{
    Change, EventType, JobStatus, Mode,
    id::{EndpointId, EventId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{closing, ended, event, lease},
};

pub(crate) fn wanted(project: ProjectId, url: &str, events: Option<Vec<EventType>>) -> NewEndpoint {
    NewEndpoint {
        id: EndpointId::new(),
        project,
        mode: Mode::Live,
        kind: EndpointKind::Own,
        url: url.to_owned(),
        description: String::new(),
        events,
        signature: "v1".to_owned(),
    }
}

pub(crate) async fn endpoint(place: &Place, project: ProjectId, url: &str) -> Endpoint {
    made(place, wanted(project, url, None)).await
}

pub(crate) async fn made(place: &Place, new: NewEndpoint) -> Endpoint {
    match place.store.create_endpoint(new, (Some(b"sealed".to_vec()), 3), at(0)).await.unwrap() {
        Creation::Created(endpoint) => *endpoint,
        other => panic!("{other:?}"),
    }
}

/// Ends a job, with an event of its own.
pub(crate) async fn told(place: &Place, project: ProjectId, number: u8) -> EventId {
    let id = EventId::of([number; 16]);
    let closing =
        Closing { event: NewEvent { id, ..event(JobStatus::Succeeded) }, ..closing(JobStatus::Succeeded) };
    ended(&place.store, project, (&format!("key-{number}"), closing)).await;
    id
}

async fn deliveries(place: &Place, endpoint: EndpointId) -> Vec<StoredDelivery> {
    let filter = DeliveryFilter { endpoint, state: None, before: None, limit: 100 };
    place.store.deliveries(filter).await.unwrap()
}

async fn claim(place: &Place, owner: &str, now: i64) -> Vec<LeasedEndpoint> {
    let due = place.store.due_endpoints(10, at(now)).await.unwrap();
    let ids = due.into_iter().map(|due| due.id).collect();
    place.store.claim_endpoints(ids, lease(owner, now + 60), at(now)).await.unwrap()
}

fn attempt() -> DeliveryAttempt {
    DeliveryAttempt {
        url: "https://a/".to_owned(),
        started_at: at(4),
        took: Duration::from_millis(70),
        status: Some(200),
        error: None,
        answer: b"\xff thanks".to_vec(),
    }
}

/// Settles a delivery with an attempt, and leaves its endpoint as it is. Whether the lease held.
async fn settle(
    place: &Place,
    lease: (EndpointId, i64),
    (event, state, next): (EventId, DeliveryState, Option<i64>),
    now: i64,
) -> bool {
    let judge = move |endpoint| Settlement { state, next_at: next.map(at), endpoint };
    place.store.settle_delivery(lease, (event, attempt(), at(now)), judge).await.unwrap()
}

on_both! {
    async fn an_end_is_recorded_for_whoever_wants_it(place: &Place) {
        let project = project(&place.store).await.id;
        let all = endpoint(place, project, "https://a/").await.id;
        let events = Some(vec![EventType::JobFailed, EventType::JobExpired]);
        let failures = made(place, wanted(project, "https://b/", events)).await.id;
        let test = NewEndpoint { mode: Mode::Test, ..wanted(project, "https://a/", None) };
        let test = made(place, test).await.id;
        ended(&place.store, project, ("good", closing(JobStatus::Succeeded))).await;
        ended(&place.store, project, ("bad", closing(JobStatus::Failed))).await;
        let kinds = |found: Vec<StoredDelivery>| {
            let mut kinds: Vec<_> = found.iter().map(|delivery| delivery.kind).collect();
            kinds.sort_unstable();
            kinds
        };
        assert_eq!(kinds(deliveries(place, all).await), [EventType::JobSucceeded, EventType::JobFailed]);
        assert_eq!(kinds(deliveries(place, failures).await), [EventType::JobFailed]);
        assert!(deliveries(place, test).await.is_empty());
    }

    async fn an_endpoint_is_leased_once_and_who_lost_it_writes_nothing(place: &Place) {
        let project = project(&place.store).await.id;
        let endpoint = endpoint(place, project, "https://a/").await;
        assert!(claim(place, "w1", 3).await.is_empty(), "nothing is due");
        let event = told(place, project, 1).await;
        let first = claim(place, "w1", 4).await;
        assert_eq!((first.len(), first[0].token), (1, 1));
        assert!(claim(place, "w2", 5).await.is_empty(), "it is leased");
        let due = place.store.due_deliveries(endpoint.id, (None, at(5)), 10).await.unwrap();
        assert_eq!((due.len(), due[0].event, due[0].attempts, due[0].data.is_some()), (1, event, 0, true));
        // The first process gives no sign of life.
        let second = claim(place, "w2", 100).await;
        assert_eq!(second[0].token, 2);
        let done = (event, DeliveryState::Delivered, None);
        assert!(!settle(place, (endpoint.id, 1), done, 101).await);
        assert!(deliveries(place, endpoint.id).await[0].log.is_empty());
        assert_eq!(place.store.keep_endpoint((endpoint.id, 1), at(300)).await, Ok(None));
        assert!(settle(place, (endpoint.id, 2), done, 101).await);
        let written = deliveries(place, endpoint.id).await.remove(0);
        assert_eq!((written.state, written.attempts, written.finished_at), (DeliveryState::Delivered, 1, Some(at(101))));
        assert_eq!(written.log, [attempt()]);
        assert!(claim(place, "w3", 500).await.is_empty(), "nothing is due any more");
        // A run of the same process takes back what the one before it held.
        let again = told_again(place, &endpoint, event).await;
        assert!(again);
        assert_eq!(claim(place, "here/1", 600).await.len(), 1);
        place.store.take_back_endpoints("here/").await.unwrap();
        assert_eq!(claim(place, "here/2", 601).await.len(), 1);
    }

    async fn endpoints_of_projects_take_turns_and_the_one_that_waits_longest_is_first(place: &Place) {
        let [one, two] = [project(&place.store).await.id, place.store.create_project("two", at(0)).await.unwrap().unwrap().id];
        let mut made = Vec::new();
        for (owner, url) in [(one, "https://a/"), (one, "https://b/"), (one, "https://c/"), (two, "https://d/")] {
            let endpoint = endpoint(place, owner, url).await.id;
            let make = move |version: u32| NewEvent {
                id: EventId::of([version as u8; 16]),
                told_at: None,
                ..event(JobStatus::Succeeded)
            };
            // What is newer does not count.
            for later in [0, 40] {
                let now = at(20 - made.len() as i64 + later);
                place.store.test_endpoint((owner, Mode::Live, endpoint), make, now).await.unwrap();
            }
            made.push(endpoint);
        }
        let due = |limit, now| {
            let due = place.store.due_endpoints(limit, at(now));
            async move { due.await.unwrap() }
        };
        let ids = |due: Vec<DueEndpoint>| due.into_iter().map(|one| one.id).collect::<Vec<_>>();
        let first = due(10, 30).await;
        assert_eq!((first[0].project, first[0].due_at, first[1].due_at), (two, at(17), at(18)));
        assert_eq!(ids(first), [made[3], made[2], made[1], made[0]]);
        assert_eq!(ids(due(2, 30).await), [made[3], made[2]]);
        assert_eq!(ids(due(10, 18).await), [made[3], made[2]], "the others are due later");
        // What is leased is not offered, and is not leased twice.
        let claim = |owner: &'static str, ids: Vec<EndpointId>| {
            let claimed = place.store.claim_endpoints(ids, lease(owner, 90), at(30));
            async move { claimed.await.unwrap().into_iter().map(|one| one.endpoint.id).collect::<Vec<_>>() }
        };
        assert_eq!(claim("w1", vec![made[2], made[3]]).await, [made[2], made[3]]);
        assert_eq!(ids(due(10, 30).await), [made[1], made[0]]);
        assert_eq!(claim("w2", vec![made[3], made[1]]).await, [made[1]]);
    }

    async fn a_failure_waits_and_an_endpoint_that_is_given_up_gets_nothing(place: &Place) {
        let project = project(&place.store).await.id;
        let endpoint = endpoint(place, project, "https://a/").await;
        let (one, two) = (told(place, project, 1).await, told(place, project, 2).await);
        let lease = (endpoint.id, claim(place, "w1", 4).await[0].token);
        assert!(settle(place, lease, (one, DeliveryState::Pending, Some(50)), 5).await);
        let due = place.store.due_deliveries(endpoint.id, (None, at(6)), 10).await.unwrap();
        assert_eq!(due.iter().map(|due| due.event).collect::<Vec<_>>(), [two]);
        let gone = |endpoint| Settlement {
            state: DeliveryState::Failed,
            next_at: None,
            endpoint: Endpoint { state: EndpointState::Gone, disabled_at: Some(at(7)), ..endpoint },
        };
        assert_eq!(place.store.settle_delivery(lease, (two, attempt(), at(7)), gone).await, Ok(true));
        let states: Vec<_> = deliveries(place, endpoint.id).await.iter().map(|one| one.state).collect();
        assert_eq!(states, [DeliveryState::Failed; 2]);
        told(place, project, 3).await;
        assert_eq!(deliveries(place, endpoint.id).await.len(), 2, "it is told nothing");
        // Switched on it gets what it missed, and what failed.
        let whose = (project, Mode::Live, endpoint.id);
        let on = EndpointChange { enabled: Change::To(true), ..EndpointChange::default() };
        let on = place.store.change_endpoint(whose, on, at(8)).await.unwrap().unwrap().unwrap();
        assert_eq!((on.state, on.disabled_at), (EndpointState::Enabled, None));
        assert_eq!(place.store.replay_since(whose, (at(0), 100), at(9)).await, Ok(3));
        let due = place.store.due_deliveries(endpoint.id, (None, at(9)), 10).await.unwrap();
        assert_eq!(due.len(), 3);
        assert_eq!(place.store.replay_since(whose, (at(0), 100), at(10)).await, Ok(0), "they are on their way");
    }

    async fn an_attempt_is_judged_by_how_its_endpoint_stands_when_it_is_written_down(place: &Place) {
        let project = project(&place.store).await.id;
        let made = endpoint(place, project, "https://a/").await;
        let (one, two) = (told(place, project, 1).await, told(place, project, 2).await);
        let lease = (made.id, claim(place, "w1", 4).await[0].token);
        let throttled = |endpoint| Settlement {
            state: DeliveryState::Delivered,
            next_at: None,
            endpoint: Endpoint { failing_since: Some(at(2)), throttled_until: Some(at(90)), ..endpoint },
        };
        assert_eq!(place.store.settle_delivery(lease, (one, attempt(), at(5)), throttled).await, Ok(true));
        let off = EndpointChange { enabled: Change::To(false), ..EndpointChange::default() };
        let off = place.store.change_endpoint((project, Mode::Live, made.id), off, at(6)).await;
        let off = off.unwrap().unwrap().unwrap();
        assert_eq!((off.failing_since, off.throttled_until), (Some(at(2)), Some(at(90))));
        let shown = off.clone();
        let judge = move |endpoint| {
            assert_eq!(endpoint, shown);
            Settlement { state: DeliveryState::Pending, next_at: Some(at(9)), endpoint }
        };
        assert_eq!(place.store.settle_delivery(lease, (two, attempt(), at(7)), judge).await, Ok(true));
        assert_eq!(place.store.endpoint((project, Mode::Live), made.id).await, Ok(Some(off)));
        let given_up = place.store.delivery(made.id, two).await.unwrap().unwrap();
        assert_eq!((given_up.state, given_up.next_at, given_up.log.len()), (DeliveryState::Failed, None, 1));
    }

    async fn another_address_begins_without_what_the_old_one_said(place: &Place) {
        let project = project(&place.store).await.id;
        let made = endpoint(place, project, "https://a/").await;
        let event = told(place, project, 1).await;
        let lease = (made.id, claim(place, "w1", 4).await[0].token);
        let throttled = |endpoint| Settlement {
            state: DeliveryState::Delivered,
            next_at: None,
            endpoint: Endpoint { failing_since: Some(at(2)), throttled_until: Some(at(90)), ..endpoint },
        };
        assert_eq!(place.store.settle_delivery(lease, (event, attempt(), at(5)), throttled).await, Ok(true));
        for (url, kept) in [("https://a/", true), ("https://b/", false)] {
            let moved = EndpointChange { url: Change::To(url.to_owned()), ..EndpointChange::default() };
            let moved = place.store.change_endpoint((project, Mode::Live, made.id), moved, at(6)).await;
            let moved = moved.unwrap().unwrap().unwrap();
            let said = (moved.failing_since, moved.throttled_until);
            assert_eq!(said, if kept { (Some(at(2)), Some(at(90))) } else { (None, None) }, "{url}");
        }
    }

    async fn a_request_is_told_where_it_says(place: &Place) {
        let project = project(&place.store).await.id;
        let host = NewEndpoint { kind: EndpointKind::Requests, ..wanted(project, "https://a", None) };
        let host = made(place, host).await.id;
        let own = endpoint(place, project, "https://b/").await;
        assert_eq!(place.store.endpoints((project, Mode::Live)).await, Ok(vec![own]), "hosts are not listed");
        let told_at = Some(ToldAt { url: "https://a/x?y".to_owned(), origin: "https://a".to_owned() });
        let end = Closing {
            event: NewEvent { told_at, ..event(JobStatus::Succeeded) },
            ..closing(JobStatus::Succeeded)
        };
        ended(&place.store, project, ("one", end)).await;
        ended(&place.store, project, ("two", closing(JobStatus::Failed))).await;
        let due = place.store.due_deliveries(host, (None, at(9)), 10).await.unwrap();
        assert_eq!(due.iter().map(|due| due.url.as_deref()).collect::<Vec<_>>(), [Some("https://a/x?y")]);
    }

    async fn an_address_has_one_endpoint_and_a_project_so_many(place: &Place) {
        let project = project(&place.store).await.id;
        let first = endpoint(place, project, "https://1/").await.id;
        let twice = wanted(project, "https://1/", None);
        let twice = place.store.create_endpoint(twice, (None, 3), at(0)).await.unwrap();
        assert_eq!(twice, Creation::Exists(first));
        let second = endpoint(place, project, "https://2/").await.id;
        endpoint(place, project, "https://3/").await;
        let fourth = wanted(project, "https://4/", None);
        let fourth = place.store.create_endpoint(fourth, (None, 3), at(0)).await.unwrap();
        assert_eq!(fourth, Creation::TooMany(3));
        let moved = EndpointChange { url: Change::To("https://1/".to_owned()), ..EndpointChange::default() };
        let moved = place.store.change_endpoint((project, Mode::Live, second), moved, at(1)).await.unwrap();
        assert_eq!(moved, Err(first));
        assert_eq!(place.store.delete_endpoint((project, Mode::Test, first)).await, Ok(false));
        assert_eq!(place.store.delete_endpoint((project, Mode::Live, first)).await, Ok(true));
        assert_eq!(place.store.endpoints((project, Mode::Live)).await.unwrap().len(), 2);
        assert_eq!(place.store.secrets(SecretOwner::Endpoint(first), at(1)).await, Ok(vec![]));
    }

    async fn secrets_overlap_and_end(place: &Place) {
        let project = project(&place.store).await.id;
        let owner = SecretOwner::Endpoint(endpoint(place, project, "https://a/").await.id);
        let numbers = |now: i64| async move {
            let secrets = place.store.secrets(owner, at(now)).await.unwrap();
            secrets.into_iter().map(|secret| secret.number).collect::<Vec<_>>()
        };
        let add = |until: i64, now: i64| place.store.add_secret((owner, b"x".to_vec()), (at(until), 3), at(now));
        assert_eq!(add(100, 10).await.unwrap().unwrap().number, 2);
        assert_eq!(numbers(99).await, [2, 1]);
        assert_eq!(numbers(100).await, [2]);
        assert_eq!(add(50, 20).await.unwrap().unwrap().number, 3);
        assert_eq!(add(90, 30).await.unwrap(), Err(3), "as many as may be");
        assert_eq!(numbers(49).await, [3, 2, 1]);
        assert_eq!(numbers(50).await, [3], "a shorter overlap ends the older ones too");
        assert_eq!((add(90, 60).await.unwrap().unwrap().number, add(90, 61).await.unwrap().unwrap().number), (4, 5));
        assert_eq!(add(90, 62).await.unwrap(), Err(3));
        assert_eq!(add(62, 62).await.unwrap().unwrap().number, 6, "without an overlap there is room");
        assert_eq!(numbers(62).await, [6]);
    }

    async fn of_the_attempts_of_a_delivery_the_newest_twenty_are_kept(place: &Place) {
        let project = project(&place.store).await.id;
        let made = endpoint(place, project, "https://a/").await;
        let (often, once) = (told(place, project, 1).await, told(place, project, 2).await);
        let lease = (made.id, claim(place, "w1", 4).await[0].token);
        assert!(settle(place, lease, (once, DeliveryState::Delivered, None), 5).await);
        for number in 1..=23 {
            let tried = DeliveryAttempt { started_at: at(number), ..attempt() };
            let again = |endpoint| Settlement { state: DeliveryState::Pending, next_at: Some(at(5)), endpoint };
            assert_eq!(place.store.settle_delivery(lease, (often, tried, at(5)), again).await, Ok(true));
        }
        let began = |found: StoredDelivery| found.log.iter().map(|one| one.started_at).collect::<Vec<_>>();
        let kept: Vec<_> = (4..=23).map(at).collect();
        let read = place.store.delivery(made.id, often).await.unwrap().unwrap();
        assert_eq!((read.attempts, began(read)), (23, kept));
        assert_eq!(began(place.store.delivery(made.id, once).await.unwrap().unwrap()), [at(4)]);
        assert_eq!(place.count("webhook_attempts"), 21, "the others are gone");
    }

    async fn a_test_is_for_one_endpoint_and_in_no_stream(place: &Place) {
        let project = project(&place.store).await.id;
        let tested = endpoint(place, project, "https://a/").await.id;
        let other = endpoint(place, project, "https://b/").await.id;
        let make = |version: u32| NewEvent {
            id: EventId::of([version as u8; 16]),
            kind: EventType::WebhookTest,
            version,
            data: "{}".to_owned(),
            told_at: None,
            batch: None,
        };
        let whose = (project, Mode::Live, tested);
        let ids = [
            place.store.test_endpoint(whose, make, at(1)).await.unwrap(),
            place.store.test_endpoint(whose, make, at(2)).await.unwrap(),
        ];
        assert_ne!(ids[0], ids[1]);
        assert_eq!(deliveries(place, tested).await.len(), 2);
        assert_eq!(deliveries(place, other).await.len(), 0);
        assert_eq!(place.store.events((project, Mode::Live), 0, 10).await, Ok(vec![]));
    }

    async fn what_waits_for_an_endpoint_that_is_off_is_given_up_and_nothing_else(place: &Place) {
        let project = project(&place.store).await.id;
        let (off, on) =
            (endpoint(place, project, "https://a/").await.id, endpoint(place, project, "https://b/").await.id);
        let event = told(place, project, 1).await;
        let switched = EndpointChange { enabled: Change::To(false), ..EndpointChange::default() };
        place.store.change_endpoint((project, Mode::Live, off), switched, at(5)).await.unwrap().unwrap();
        // As if the job had ended in the same moment.
        assert_eq!(place.store.replay_delivery((off, event), at(5)).await, Ok(true));
        assert_eq!(place.store.give_up_deliveries(at(6)).await, Ok(1));
        assert_eq!(place.store.give_up_deliveries(at(7)).await, Ok(0));
        let states = [deliveries(place, off).await[0].state, deliveries(place, on).await[0].state];
        assert_eq!(states, [DeliveryState::Failed, DeliveryState::Pending]);
        assert_eq!(place.store.due_deliveries(off, (None, at(99)), 10).await, Ok(vec![]));
    }

    async fn old_deliveries_are_removed_with_their_log(place: &Place) {
        let project = project(&place.store).await.id;
        let endpoint = endpoint(place, project, "https://a/").await;
        let event = told(place, project, 1).await;
        let lease = (endpoint.id, claim(place, "w1", 4).await[0].token);
        assert!(settle(place, lease, (event, DeliveryState::Delivered, None), 5).await);
        assert_eq!(place.store.sweep_deliveries(at(3), 10).await, Ok(0));
        assert_eq!(place.store.sweep_deliveries(at(4), 10).await, Ok(1));
        assert_eq!(place.store.delivery(endpoint.id, event).await, Ok(None));
    }
}

async fn told_again(place: &Place, endpoint: &Endpoint, event: EventId) -> bool {
    place.store.release_endpoint((endpoint.id, 2)).await.unwrap();
    place.store.replay_delivery((endpoint.id, event), at(550)).await.unwrap()
}
