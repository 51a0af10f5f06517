//! Items with keys of their own: a key stands for one job, whoever made it; and nobody ends another one's job.

use eyebolt_store::{
    Acceptance, Balance, BatchRetry, EarlyEnd, Fed, Idempotency, ItemFilter, ItemJob, ItemKey, Joined, Known,
    NewJob, OpenBatch, Retry, StagedItem, Store, StoredItem,
};
use eyebolt_types::{
    BatchStatus, JobStatus, Mode,
    id::{JobId, ProjectId},
};

use crate::{
    batches::{counts, end, ending, item, new, of_item, staged},
    place::{Place, at, on_both, project},
    sample::{again, closing, ended, job, running},
};

/// A batch of two items, known by these keys as the jobs of [`job`] are.
async fn keyed(store: &Store, project: ProjectId, keys: [&str; 2]) -> OpenBatch {
    let batch = new(project, "a/1");
    let items = (0..).zip(keys).map(|(position, key)| {
        let key = ItemKey { text: key.to_owned(), fingerprint: b"what".to_vec() };
        StagedItem { key: Some(key), ..item(position, Some(7)) }
    });
    staged(store, &batch, items.collect()).await;
    store.accept_batch((batch.clone(), None), (2, 2, Vec::new()), at(2)).await.unwrap();
    let open = store.open_batches().await.unwrap();
    open.into_iter().find(|open| open.id == batch.id).expect("it is open")
}

/// The job of an item under that key.
fn under(batch: &OpenBatch, (position, key): (u32, &str)) -> ItemJob {
    let ItemJob { batch: id, job: of_batch, .. } = of_item(batch, (position, 7));
    let idempotency = job(batch.project, key).idempotency;
    ItemJob { batch: id, position, job: NewJob { idempotency, ..of_batch } }
}

fn whose(batch: &OpenBatch, id: JobId) -> (ProjectId, Mode, JobId) {
    (batch.project, Mode::Live, id)
}

async fn items(store: &Store, batch: &OpenBatch) -> Vec<StoredItem> {
    let filter = ItemFilter { batch: batch.id, status: None, after: None, limit: 10 };
    store.batch_items(filter).await.unwrap()
}

/// The job that a key stands for, and until when.
async fn job_of(store: &Store, project: ProjectId, key: &str) -> (JobId, bool) {
    let known = store.idempotency_record((project, Mode::Live), key.as_bytes().to_vec(), at(20)).await;
    let Ok(Some(Known::Record(record))) = known else { panic!("{key}: {known:?}") };
    (record.job, record.expires_at.is_some())
}

on_both! {
    async fn an_item_makes_the_job_that_its_key_stands_for(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = keyed(store, project, ["k", "l"]).await;
        let waiting = store.waiting_items(batch.id, 1).await.unwrap().remove(0);
        assert_eq!(waiting.key, Some(ItemKey { text: "k".to_owned(), fingerprint: b"what".to_vec() }));
        let fed = under(&batch, (0, "k"));
        let id = fed.job.id;
        assert!(matches!(store.feed(fed, None, at(3)).await, Ok(Fed::Job(_))));
        assert_eq!(job_of(store, project, "k").await, (id, false));
        let single = store.accept(job(project, "k"), at(4)).await;
        assert!(matches!(single, Ok(Acceptance::Known(Known::Record(record))) if record.job == id));
        end(store, &batch, JobStatus::Succeeded).await;
        assert_eq!(job_of(store, project, "k").await, (id, true));
        let found = items(store, &batch).await;
        assert_eq!((found[0].key.as_deref(), found[0].status), (Some("k"), JobStatus::Succeeded));
    }

    async fn what_finds_no_room_leaves_its_key_free(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = keyed(store, project, ["k", "l"]).await;
        let mut over = under(&batch, (0, "k"));
        let none = eyebolt_store::Cap { concurrent_jobs: Some(0), ..eyebolt_store::Cap::default() };
        over.job.caps = Some(eyebolt_store::Caps { project: none, key: eyebolt_store::Cap::default() });
        assert!(matches!(store.feed(over, None, at(3)).await, Ok(Fed::Over(_))));
        let known = store.idempotency_record((project, Mode::Live), b"k".to_vec(), at(3)).await;
        assert_eq!((known, counts(store, &batch).await.1.pending), (Ok(None), 2));
    }

    async fn an_item_joins_a_job_that_runs_and_ends_with_it(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let lease = running(store, project, "k").await;
        let batch = keyed(store, project, ["k", "l"]).await;
        let fed = store.feed(under(&batch, (0, "k")), None, at(3)).await.unwrap();
        assert!(matches!(fed, Fed::Known(Known::Record(record)) if record.job == lease.0));
        assert_eq!(counts(store, &batch).await.1.pending, 2, "it waits on");
        let place = (batch.id, 0);
        assert_eq!(store.join_item(place, whose(&batch, lease.0), at(3)).await, Ok(Joined::Waits));
        assert_eq!(store.join_item(place, whose(&batch, lease.0), at(3)).await, Ok(Joined::Nothing));
        assert_eq!(counts(store, &batch).await.1.processing, 1);
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 2, used: 0 }));
        store.close(lease, closing(JobStatus::Succeeded), at(4)).await.unwrap().unwrap();
        let found = items(store, &batch).await;
        assert_eq!((found[0].status, found[0].job, found[0].finished_at), (JobStatus::Succeeded, Some(lease.0), Some(at(4))));
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used: 2 }), "once");
    }

    async fn an_item_ends_with_a_job_that_has_ended_or_runs_it_again(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let done = ended(store, project, ("k", closing(JobStatus::Succeeded))).await;
        let failed = ended(store, project, ("l", closing(JobStatus::Failed))).await;
        let batch = keyed(store, project, ["k", "l"]).await;
        assert_eq!(store.join_item((batch.id, 0), whose(&batch, done), at(10)).await, Ok(Joined::Ended));
        let late = keyed(store, project, ["m", "l"]).await;
        assert_eq!(store.join_item((late.id, 1), whose(&late, failed), at(500)).await, Ok(Joined::Ended));
        let found = items(store, &late).await.remove(1);
        assert_eq!((found.status, found.error.is_some(), found.finished_at), (JobStatus::Failed, true, Some(at(500))));

        assert_eq!(store.join_item((batch.id, 1), whose(&batch, failed), at(10)).await, Ok(Joined::Again));
        let waiting = store.waiting_items(batch.id, 10).await.unwrap();
        assert_eq!((waiting.len(), waiting[0].job), (1, Some(failed)));
        assert_eq!(store.feed_again((&batch, 1), (failed, again(900)), at(11)).await, Ok(Fed::Again));
        let other = counts(store, &late).await.1;
        assert_eq!((other.failed, other.processing), (0, 1), "whatever is open waits for it");
        end(store, &batch, JobStatus::Succeeded).await;
        assert_eq!(counts(store, &batch).await.1.succeeded, 2);
        assert_eq!(counts(store, &late).await.1.succeeded, 1);
        let nobodys = store.join_item((late.id, 0), whose(&late, JobId::new()), at(12)).await;
        assert_eq!(nobodys, Ok(Joined::Nothing));
    }

    async fn a_batch_that_ends_early_leaves_the_jobs_of_others_alone(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let lease = running(store, project, "k").await;
        let batch = keyed(store, project, ["k", "l"]).await;
        assert!(matches!(store.feed(under(&batch, (1, "l")), None, at(3)).await, Ok(Fed::Job(_))));
        assert_eq!(store.join_item((batch.id, 0), whose(&batch, lease.0), at(3)).await, Ok(Joined::Waits));
        assert_eq!(store.end_batch_early(batch.id, EarlyEnd::Canceled, at(4)).await, Ok(true));
        let found = items(store, &batch).await;
        assert_eq!((found[0].status, found[0].job), (JobStatus::Canceled, None));
        let unwanted = store.due_batches(at(5)).await.unwrap().unwanted;
        assert_eq!(unwanted, [whose_of(&found[1], project)], "its own");
        end(store, &batch, JobStatus::Canceled).await;
        assert_eq!(store.close_batch(ending(&batch, 1), at(17)).await, Ok(true));
        store.close(lease, closing(JobStatus::Succeeded), at(18)).await.unwrap().unwrap();
        assert_eq!(items(store, &batch).await[0].status, JobStatus::Canceled, "what it was");
    }

    async fn what_is_to_end_waits_for_nobody_elses_retry(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let failed = ended(store, project, ("k", closing(JobStatus::Failed))).await;
        let batch = keyed(store, project, ["k", "l"]).await;
        assert!(matches!(store.feed(under(&batch, (1, "l")), None, at(3)).await, Ok(Fed::Job(_))));
        assert_eq!(store.join_item((batch.id, 0), whose(&batch, failed), at(10)).await, Ok(Joined::Again));
        assert_eq!(store.end_batch_early(batch.id, EarlyEnd::Canceled, at(11)).await, Ok(true));
        assert_eq!(items(store, &batch).await[0].status, JobStatus::Failed, "what its job is");
        assert_eq!(store.retry(whose(&batch, failed), again(900), at(12)).await, Ok(Retry::Pending));
        assert_eq!(counts(store, &batch).await.1.processing, 1, "its own job alone");
    }

    async fn all_open_batches_wait_for_a_job_that_runs_again(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let (one, two) = (keyed(store, project, ["k", "l"]).await, keyed(store, project, ["k", "m"]).await);
        let fed = under(&one, (0, "k"));
        let id = fed.job.id;
        assert!(matches!(store.feed(fed, None, at(3)).await, Ok(Fed::Job(_))));
        assert_eq!(store.join_item((two.id, 0), whose(&two, id), at(3)).await, Ok(Joined::Waits));
        end(store, &one, JobStatus::Failed).await;
        for batch in [&one, &two] {
            assert_eq!(counts(store, batch).await.1.failed, 1);
        }
        assert_eq!(store.retry(whose(&one, id), again(900), at(15)).await, Ok(Retry::Pending));
        for batch in [&one, &two] {
            let (status, found) = counts(store, batch).await;
            assert_eq!((status, found.processing), (BatchStatus::Processing, 1));
        }
        end(store, &one, JobStatus::Failed).await;
        // Both want it again, and it runs once.
        for batch in [&one, &two] {
            let retried = store.retry_batch((project, Mode::Live, batch.id), at(900), at(15)).await;
            assert_eq!(retried, Ok(BatchRetry::Waiting(1)));
        }
        assert_eq!(store.feed_again((&one, 0), (id, again(900)), at(15)).await, Ok(Fed::Again));
        assert_eq!(store.feed_again((&two, 0), (id, again(900)), at(15)).await, Ok(Fed::Taken), "it waits already");
        end(store, &one, JobStatus::Succeeded).await;
        for batch in [&one, &two] {
            assert_eq!(counts(store, batch).await.1.succeeded, 1);
        }
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance { reserved: 0, used: 2 }));
    }

    async fn an_end_and_a_joining_at_once_lose_no_item(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        for round in 0..20 {
            let (key, other) = (format!("k{round}"), format!("l{round}"));
            let lease = running(store, project, &key).await;
            let batch = keyed(store, project, [&key, &other]).await;
            let (closer, joiner) = (store.clone(), place.again());
            let ends = tokio::spawn(async move { closer.close(lease, closing(JobStatus::Succeeded), at(4)).await });
            let (item, owner) = ((batch.id, 0), whose(&batch, lease.0));
            let joins = tokio::spawn(async move { joiner.join_item(item, owner, at(4)).await });
            ends.await.unwrap().unwrap().unwrap();
            let joined = joins.await.unwrap();
            assert!(matches!(joined, Ok(Joined::Ended | Joined::Waits)), "{joined:?}");
            assert_eq!(items(store, &batch).await[0].status, JobStatus::Succeeded, "{joined:?}");
        }
    }

    async fn of_two_items_with_a_key_at_once_one_makes_the_job(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        for round in 0..10 {
            let (key, other) = (format!("k{round}"), format!("l{round}"));
            let mut feeding = Vec::new();
            for store in [store.clone(), place.again()] {
                let batch = keyed(&store, project, [&key, &other]).await;
                let fed = under(&batch, (0, &key));
                feeding.push(tokio::spawn(async move { store.feed(fed, None, at(3)).await.unwrap() }));
            }
            let (mut made, mut known) = (0, 0);
            for fed in feeding {
                match fed.await.unwrap() {
                    Fed::Job(_) => made += 1,
                    Fed::Known(Known::Record(_)) => known += 1,
                    fed => panic!("{fed:?}"),
                }
            }
            assert_eq!((made, known), (1, 1));
        }
    }

    async fn a_key_that_was_forgotten_is_taken_anew(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        ended(store, project, ("k", closing(JobStatus::Succeeded))).await;
        let batch = keyed(store, project, ["k", "l"]).await;
        let expired = store.feed(under(&batch, (0, "k")), None, at(1001)).await;
        assert!(matches!(expired, Ok(Fed::Known(Known::Expired(_)))), "{expired:?}");
        let long_after = at(1000) + eyebolt_store::TOMBSTONE;
        assert!(matches!(store.feed(under(&batch, (0, "k")), None, long_after).await, Ok(Fed::Job(_))));
        let key = Idempotency { key_hash: b"k".to_vec(), fingerprint: Vec::new(), body: None };
        let known = store.idempotency_record((project, Mode::Live), key.key_hash, long_after).await;
        assert!(matches!(known, Ok(Some(Known::Record(_)))), "{known:?}");
    }
}

fn whose_of(item: &StoredItem, project: ProjectId) -> (JobId, ProjectId, Mode) {
    (item.job.expect("it is a job"), project, Mode::Live)
}
