use eyebolt_store::{Acceptance, Idempotency, Known, NewJob, TOMBSTONE};
use eyebolt_types::{JobStatus, Mode};
use jiff::SignedDuration;

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, accepted, closing, ended, job, running},
};

/// When the key of a job that has ended is free again.
fn forgotten() -> i64 {
    1000 + TOMBSTONE.as_secs()
}

on_both! {
    // Matrix row 2: of a hundred at once, one is accepted, and all others learn of its job.
    async fn one_of_a_hundred_twins_is_accepted(place: &Place) {
        let project = project(&place.store).await.id;
        let twins = (0..100).map(|_| {
            let (store, job) = (place.store.clone(), job(project, "twin"));
            tokio::spawn(async move { (job.id, store.accept(job, at(1)).await.unwrap()) })
        });
        let mut winners = Vec::new();
        let mut learned = Vec::new();
        for twin in twins.collect::<Vec<_>>() {
            match twin.await.unwrap() {
                (id, Acceptance::Accepted(_)) => winners.push(id),
                (_, Acceptance::Known(Known::Record(record))) => learned.push(record.job),
                (_, known) => panic!("{known:?}"),
            }
        }
        assert_eq!((winners.len(), learned.len()), (1, 99));
        assert!(learned.iter().all(|job| *job == winners[0]));
        assert_eq!(place.store.balance(project, Mode::Live).await.unwrap().reserved, 2, "reserved once");
    }

    // Matrix row 3: the same from two processes.
    async fn twins_in_two_processes_are_accepted_once(place: &Place) {
        let (project, other) = (project(&place.store).await.id, place.again());
        for round in 0..20 {
            let key = round.to_string();
            let (one, two) = tokio::join!(
                place.store.accept(job(project, &key), at(1)),
                other.accept(job(project, &key), at(1)),
            );
            let twins = [one.unwrap(), two.unwrap()];
            let accepted = twins.iter().filter(|twin| matches!(twin, Acceptance::Accepted(_))).count();
            assert_eq!(accepted, 1, "round {round}");
        }
    }

    // Matrix rows 4, 9: the record tells what was asked, so that another request is told apart; and it is the
    // project's and the mode's own.
    async fn a_key_belongs_to_its_project_and_mode(place: &Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let first = accepted(store, acme, "same").await;
        accepted(store, other, "same").await;
        accept(store, NewJob { mode: Mode::Test, ..job(acme, "same") }).await;

        let different = Idempotency {
            key_hash: b"same".to_vec(),
            fingerprint: b"other".to_vec(),
            body: Some(b"body".to_vec()),
        };
        let again = NewJob { idempotency: Some(different), ..job(acme, "same") };
        let Ok(Acceptance::Known(Known::Record(record))) = store.accept(again, at(2)).await else {
            panic!("the key is known")
        };
        assert_eq!((record.job, record.fingerprint.as_slice()), (first, b"what".as_slice()));
        assert_eq!((record.created_at, record.expires_at, record.answer), (at(1), None, None));
        assert_eq!((record.status, record.retryable_until), (JobStatus::Pending, None));
    }

    // Matrix row 27: until the very end the answer is given again; then the key is known to have been used, and at
    // last it is free.
    async fn a_key_is_kept_from_its_jobs_end_then_expired_then_free(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = running(store, project, "kept").await;
        let look = |now| store.idempotency_record((project, Mode::Live), b"kept".to_vec(), at(now));
        let running = look(forgotten() + 1).await;
        assert!(matches!(running, Ok(Some(Known::Record(_)))), "a running job's key never expires");

        store.close(lease, closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
        let kept = look(999).await;
        let Ok(Some(Known::Record(record))) = kept else { panic!("{kept:?}") };
        assert_eq!((record.job, record.answer.unwrap().status), (lease.0, 200));
        assert_eq!(record.expires_at, Some(at(1000)));
        assert_eq!(look(1000).await, Ok(Some(Known::Expired(at(1000)))));
        assert_eq!(look(forgotten() - 1).await, Ok(Some(Known::Expired(at(1000)))));
        assert_eq!(look(forgotten()).await, Ok(None));

        let again = NewJob { deadline: at(forgotten() + 600), ..job(project, "kept") };
        let accept = |now| store.accept(again.clone(), at(now));
        assert!(matches!(accept(999).await, Ok(Acceptance::Known(Known::Record(_)))));
        assert_eq!(accept(1000).await, Ok(Acceptance::Known(Known::Expired(at(1000)))));
        assert!(matches!(accept(forgotten()).await, Ok(Acceptance::Accepted(_))));
        let Ok(Some(Known::Record(record))) = look(forgotten()).await else { panic!("it is taken anew") };
        assert_eq!(record.job, again.id);
    }

    async fn sweeping_wipes_what_expired_and_forgets_what_is_long_gone(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        for key in ["a", "b", "c"] {
            ended(store, project, (key, closing(JobStatus::Succeeded))).await;
        }
        accepted(store, project, "runs").await;
        let look = |now| store.idempotency_record((project, Mode::Live), b"a".to_vec(), at(now));
        assert_eq!(store.sweep_records(10, at(999)).await, Ok(0));
        assert_eq!(store.sweep_records(2, at(1000)).await, Ok(2), "at most so many");
        assert_eq!(store.sweep_records(2, at(1000)).await, Ok(1));
        assert_eq!(store.sweep_records(2, at(1000)).await, Ok(0), "each once");
        assert_eq!(look(1000).await, Ok(Some(Known::Expired(at(1000)))));
        // Row 27: who asked at the last instant and came after the sweep gets no half a record.
        assert_eq!(look(999).await, Ok(Some(Known::Expired(at(1000)))));

        assert_eq!(store.sweep_records(2, at(forgotten() - 1)).await, Ok(0));
        assert_eq!(store.sweep_records(2, at(forgotten())).await, Ok(2));
        assert_eq!(store.sweep_records(2, at(forgotten())).await, Ok(1));
        assert_eq!(look(999).await, Ok(None), "the row is gone");
        let runs = store.idempotency_record((project, Mode::Live), b"runs".to_vec(), at(forgotten())).await;
        let Ok(Some(Known::Record(record))) = runs else { panic!("{runs:?}") };
        assert_eq!(record.fingerprint, b"what", "a running job's record is left as it is");
    }

    // Matrix row 28: whoever reads while records are swept gets the whole record, or learns that it is over.
    async fn readers_beside_the_sweep_get_a_whole_record_or_none(place: &Place) {
        let project = project(&place.store).await.id;
        let keys: Vec<_> = (0..30).map(|key| key.to_string()).collect();
        for key in &keys {
            ended(&place.store, project, (key, closing(JobStatus::Succeeded))).await;
        }
        let store = place.store.clone();
        let sweep = tokio::spawn(async move {
            let mut swept = 0;
            for now in [at(1000), at(1000) + TOMBSTONE] {
                loop {
                    let some = store.sweep_records(1, now).await.unwrap();
                    swept += some;
                    if some == 0 {
                        break;
                    }
                }
            }
            swept
        });
        let readers = [at(999), at(1000), at(1000) + TOMBSTONE - SignedDuration::from_secs(1)].map(|now| {
            let (store, keys) = (place.store.clone(), keys.clone());
            tokio::spawn(async move {
                for key in keys {
                    let known = store.idempotency_record((project, Mode::Live), key.into_bytes(), now).await;
                    match known.unwrap() {
                        Some(Known::Record(record)) => {
                            assert!(now < at(1000), "it is over");
                            assert_eq!(record.fingerprint, b"what");
                            assert!(record.answer.is_some());
                        }
                        Some(Known::Expired(since)) => assert_eq!(since, at(1000)),
                        Some(Known::Batch(_)) => panic!("they are keys of jobs"),
                        None => {}
                    }
                }
            })
        });
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(sweep.await.unwrap(), 60, "each was wiped, and then forgotten");
    }
}
