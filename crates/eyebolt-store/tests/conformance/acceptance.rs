use eyebolt_store::{Acceptance, Heartbeat, Known, NewJob, NewStep, StoreError, image_blob};
use eyebolt_types::{Feature, JobStatus, Mode, StepStatus, id::KeyId};
use futures_util::future::join_all;

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, accepted, claim, closing, image, job, large_image, lease, running, stored},
};

on_both! {
    async fn a_job_is_read_as_it_was_accepted(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let new = NewJob { key: Some(KeyId::new()), ..job(project, "k") };
        let Ok(Acceptance::Accepted(image)) = store.accept(new.clone(), at(1)).await else {
            panic!("it is new")
        };
        let read = stored(store, project, new.id).await;
        assert_eq!((read.id, read.project, read.mode, read.key), (new.id, project, Mode::Live, new.key));
        assert_eq!((read.status, read.crashes, read.round), (JobStatus::Pending, 0, 1));
        let texts = [&read.request_id, &read.request, &read.input, &read.dedup];
        assert_eq!(texts, [&new.request_id, &new.request, &new.input, &new.dedup]);
        assert_eq!((read.image, read.deadline, read.created_at), (image, at(600), at(1)));
        assert_eq!((read.started_at, read.finished_at, read.retryable_until), (None, None, None));
        assert_eq!((read.error, read.cancel_requested), (None, false));
        for (position, (step, asked)) in read.steps.iter().zip(&new.steps).enumerate() {
            assert_eq!(step.position as usize, position);
            assert_eq!((step.id, step.feature, &step.model), (asked.id, asked.feature, &asked.model));
            assert_eq!((step.status, step.attempts, &step.result), (StepStatus::Pending, 0, &None));
        }
        assert_eq!(read.steps.len(), 2);
        assert_eq!(store.document(new.id).await, Ok(None));
        assert_eq!(store.answer(new.id).await, Ok(None));
    }

    async fn what_was_accepted_is_there_after_opening_again(place: &Place) {
        let project = project(&place.store).await.id;
        let id = accepted(&place.store, project, "durable").await;
        let other = place.again();
        assert_eq!(claim(&other, lease("w", 20), 10, at(2)).await.unwrap()[0].job.id, id);
    }

    async fn a_job_with_a_lease_runs_at_once_and_is_nobody_elses(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mine = running(store, project, "mine").await;
        let job = stored(store, project, mine.0).await;
        assert_eq!((job.status, job.started_at), (JobStatus::Processing, Some(at(1))));
        assert_eq!(claim(store, lease("other", 20), 10, at(2)).await, Ok(vec![]));
        assert_eq!(store.next_claim().await, Ok(None));
        assert_eq!(store.heartbeat(vec![mine], at(20)).await, Ok(vec![Heartbeat::Held]), "under token 1");

        assert_eq!(store.reap(None, lease("other", 60), at(21)).await.unwrap().given_back, 1);
        let heir = claim(store, lease("other", 60), 10, at(21)).await.unwrap().remove(0);
        assert_eq!((heir.job.id, heir.token, heir.job.crashes), (mine.0, 2, 1));
        assert_eq!(heir.job.started_at, Some(at(1)), "when work first began");
    }

    async fn an_image_is_kept_once_for_each_project_and_mode(place: &Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let take = async |job: NewJob| match store.accept(job, at(1)).await.unwrap() {
            Acceptance::Accepted(image) => image,
            other => panic!("{other:?}"),
        };
        let first = take(job(acme, "a")).await;
        assert_eq!(take(job(acme, "b")).await, first);
        let apart = [
            take(NewJob { mode: Mode::Test, ..job(acme, "a") }).await,
            take(job(other, "a")).await,
            take(NewJob { image: image(8), ..job(acme, "c") }).await,
        ];
        assert!(!apart.contains(&first), "another mode, project or content");
        assert_eq!(take(NewJob { mode: Mode::Test, ..job(acme, "b") }).await, apart[0]);
    }

    async fn a_small_image_comes_with_its_lease_and_a_large_one_by_its_digest(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        accept(store, NewJob { image: image(8), ..job(project, "small") }).await;
        accept(store, NewJob { image: large_image(9), ..job(project, "large") }).await;
        let leased = claim(store, lease("w", 20), 10, at(2)).await.unwrap();
        let images: Vec<_> =
            leased.iter().map(|leased| (&leased.sha256[..], leased.content.as_deref())).collect();
        assert_eq!(images, [(&[8; 32][..], Some(&[8; 3][..])), (&[9; 32][..], None)]);
    }

    // A name that is taken already fails after the key and the image were written: both go with it.
    async fn a_job_is_accepted_whole_or_not_at_all(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let taken = accepted(store, project, "first").await;
        let second = NewJob { id: taken, image: image(8), ..job(project, "second") };
        let refused = store.accept(second.clone(), at(2)).await;
        assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
        let key = store.idempotency_record((project, Mode::Live), b"second".to_vec(), at(2)).await;
        assert_eq!(key, Ok(None), "the key is free");
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().reserved, 2, "nothing more");
        let blob = image_blob((project, Mode::Live), second.image.id, &[8; 32]);
        assert_eq!(store.unknown_blobs(vec![blob.clone()]).await, Ok(vec![blob]), "no row has its image");
    }

    // Whatever shares a transaction: twins with one key, images that are the same, and ends that come too late.
    async fn many_at_once_go_through_each_by_itself(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let (mut runs, mut late) = (Vec::new(), Vec::new());
        for number in 0..10 {
            runs.push(running(store, project, &format!("runs{number}")).await);
            let (job, token) = running(store, project, &format!("late{number}")).await;
            late.push((job, token + 1));
        }
        let twins = (0..60_u8).map(|number| {
            let job = NewJob { image: image(number % 7), ..job(project, &format!("twin{}", number / 2)) };
            async move { (job.clone(), store.accept(job, at(2)).await.unwrap()) }
        });
        let close = async |lease| store.close(lease, closing(JobStatus::Succeeded), at(3)).await.unwrap();
        let (twins, ended, fenced) = tokio::join!(
            join_all(twins),
            join_all(runs.iter().map(|lease| close(*lease))),
            join_all(late.iter().map(|lease| close(*lease))),
        );
        assert!(ended.iter().all(Result::is_ok) && fenced.iter().all(Result::is_err));
        for pair in twins.chunks(2) {
            let (first, second) = match (&pair[0], &pair[1]) {
                ((job, Acceptance::Accepted(image)), (_, Acceptance::Known(known)))
                | ((_, Acceptance::Known(known)), (job, Acceptance::Accepted(image))) => ((job, image), known),
                both => panic!("{both:?}"),
            };
            let Known::Record(record) = second else { panic!("{second:?}") };
            assert_eq!(record.job, first.0.id);
            let stored = stored(store, project, first.0.id).await;
            assert_eq!((&stored.image, stored.steps.len()), (first.1, 2));
        }
        let balance = store.balance(project, Mode::Live).await.unwrap();
        assert_eq!((balance.reserved, balance.used), (2 * (30 + 10), 2 * 10));
        for (job, _) in late {
            assert_eq!(stored(store, project, job).await.status, JobStatus::Processing);
        }
    }

    async fn every_step_is_reserved_and_a_job_without_steps_costs_nothing(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mut three = job(project, "three");
        let faces = NewStep { feature: Feature::Faces, model: None, ..three.steps[0].clone() };
        three.steps.push(faces);
        accept(store, three).await;
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().reserved, 3);
        let none = NewJob { steps: vec![], lease: Some(lease("w", 20)), ..job(project, "none") };
        accept(store, none.clone()).await;
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().reserved, 3);
        store.close((none.id, 1), closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().used, 0);
    }
}
