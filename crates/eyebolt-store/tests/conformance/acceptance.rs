use eyebolt_store::{Acceptance, Claimed, Idempotency, NewJob};
use eyebolt_types::{JobStatus, Mode};

use crate::place::{Place, accepted, at, claim, closing, job, on_both, project};

on_both! {
    // Matrix row 2: of a hundred at once, one is accepted, and all others learn of its job.
    async fn one_of_a_hundred_twins_is_accepted(place: Place) {
        let project = project(&place.store).await.id;
        let twins = (0..100).map(|_| {
            let (store, job) = (place.store.clone(), job(project, "twin"));
            tokio::spawn(async move { (job.id, store.accept(job, at(1)).await.unwrap()) })
        });
        let mut winners = Vec::new();
        let mut learned = Vec::new();
        for twin in twins.collect::<Vec<_>>() {
            match twin.await.unwrap() {
                (id, Acceptance::Accepted) => winners.push(id),
                (_, Acceptance::Known(record)) => learned.push(record.job),
            }
        }
        assert_eq!((winners.len(), learned.len()), (1, 99));
        assert!(learned.iter().all(|job| *job == winners[0]));
        assert_eq!(place.store.balance(project, Mode::Live).await.unwrap().reserved, 2, "reserved once");
    }

    // Matrix row 3: the same from two processes.
    async fn twins_in_two_processes_are_accepted_once(place: Place) {
        let (project, other) = (project(&place.store).await.id, place.again());
        for round in 0..20 {
            let key = round.to_string();
            let (one, two) = tokio::join!(
                place.store.accept(job(project, &key), at(1)),
                other.accept(job(project, &key), at(1)),
            );
            let accepted = [one, two].iter().filter(|one| **one == Ok(Acceptance::Accepted)).count();
            assert_eq!(accepted, 1, "round {round}");
        }
    }

    // Matrix rows 4, 9: the record tells what was asked, so that another request is told apart; and it is the
    // project's and the mode's own.
    async fn a_key_belongs_to_its_project_and_mode(place: Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let first = accepted(store, acme, "same").await;
        accepted(store, other, "same").await;
        let sandbox = NewJob { mode: Mode::Test, ..job(acme, "same") };
        assert_eq!(store.accept(sandbox, at(1)).await, Ok(Acceptance::Accepted));

        let different = Idempotency { key_hash: b"same".to_vec(), fingerprint: b"other".to_vec() };
        let again = NewJob { idempotency: Some(different), ..job(acme, "same") };
        let Ok(Acceptance::Known(record)) = store.accept(again, at(2)).await else {
            panic!("the key is known")
        };
        assert_eq!((record.job, record.fingerprint.as_slice()), (first, b"what".as_slice()));
        assert_eq!((record.created_at, record.expires_at, record.answer), (at(1), None, None));
    }

    // Matrix row 27: until the very end the answer is given again, and then the key is free.
    async fn a_key_is_kept_from_its_jobs_end_for_its_time(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = accepted(store, project, "kept").await;
        let look = |now| store.idempotency_record((project, Mode::Live), b"kept".to_vec(), at(now));
        assert!(matches!(look(1_000_000).await, Ok(Claimed::By(_))), "a running job's key never expires");

        let lease = store.claim(claim("w", 20), at(2)).await.unwrap();
        store.close((id, lease[0].token), closing(JobStatus::Succeeded, 2), at(3)).await.unwrap().unwrap();
        let Ok(Claimed::By(record)) = look(999).await else { panic!("kept") };
        assert_eq!((record.job, record.answer.unwrap().body), (id, b"answer".to_vec()));
        assert_eq!(look(1000).await, Ok(Claimed::Free));
        let again = NewJob { deadline: at(2000), ..job(project, "kept") };
        assert!(matches!(store.accept(again.clone(), at(999)).await, Ok(Acceptance::Known(_))));
        assert_eq!(store.accept(again, at(1000)).await, Ok(Acceptance::Accepted));
    }

    async fn what_was_accepted_is_there_after_opening_again(place: Place) {
        let project = project(&place.store).await.id;
        let id = accepted(&place.store, project, "durable").await;
        let other = place.again();
        assert_eq!(other.claim(claim("w", 20), at(2)).await.unwrap()[0].id, id);
    }
}
