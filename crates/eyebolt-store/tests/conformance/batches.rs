//! Batches: nobody sees half of one, each item becomes a job once, and each batch ends once.

use eyebolt_store::{
    BatchAcceptance, BatchEnding, BatchRetry, Cap, Caps, DueBatches, EarlyEnd, Fed, Idempotency, ItemFilter,
    ItemJob, Known, NewBatch, NewEvent, NewJob, OpenBatch, Removed, Retry, StagedImage, StagedItem, Store,
};
use eyebolt_types::{
    BatchCounts, BatchStatus, Class, EventType, JobStatus, Mode,
    id::{BatchId, EventId, KeyId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{again, closing, event, image, job, large_image, lease},
};

pub(crate) fn new(project: ProjectId, owner: &str) -> NewBatch {
    NewBatch {
        id: BatchId::new(),
        project,
        mode: Mode::Live,
        key: KeyId::new(),
        request_id: "req_1".to_owned(),
        owner: owner.to_owned(),
        priority: 0,
        settings: "{}".to_owned(),
        expires_at: at(500),
    }
}

/// An item of an image of that content; none: it is refused.
pub(crate) fn item(position: u32, content: Option<u8>) -> StagedItem {
    let image = content.map(|content| (StagedImage::New(large_image(content)), "{}".to_owned()));
    StagedItem {
        position,
        custom_id: format!("i{position}"),
        key: None,
        request: "{}".to_owned(),
        image: image.ok_or_else(|| "{}".to_owned()),
    }
}

pub(crate) async fn staged(store: &Store, batch: &NewBatch, items: Vec<StagedItem>) {
    store.begin_batch(batch.clone(), at(1)).await.unwrap();
    store.stage_items((batch.id, batch.project, batch.mode), items, at(1)).await.unwrap().unwrap();
}

fn key(fingerprint: &str) -> Idempotency {
    Idempotency { key_hash: b"k".to_vec(), fingerprint: fingerprint.as_bytes().to_vec(), body: None }
}

/// A batch of two items and a refused one.
async fn accepted(store: &Store, project: ProjectId) -> OpenBatch {
    let batch = new(project, "a/1");
    staged(store, &batch, vec![item(0, Some(1)), item(1, Some(2)), item(2, None)]).await;
    let done = store.accept_batch((batch.clone(), Some(key("what"))), (3, 3, b"told".to_vec()), at(2)).await;
    assert_eq!(done, Ok(BatchAcceptance::Accepted));
    store.open_batches().await.unwrap().remove(0)
}

/// One that was canceled before it began.
async fn accepted_and_ended(store: &Store, project: ProjectId) -> BatchId {
    let batch = accepted(store, project).await;
    store.end_batch_early(batch.id, EarlyEnd::Canceled, at(4)).await.unwrap();
    assert_eq!(store.close_batch(ending(&batch, 1), at(11)).await, Ok(true));
    batch.id
}

/// The job of the item of that place and content.
pub(crate) fn of_item(batch: &OpenBatch, (position, content): (u32, u8)) -> ItemJob {
    let job = NewJob {
        image: image(content),
        class: Class::Batch,
        idempotency: None,
        ..job(batch.project, "none")
    };
    ItemJob { batch: batch.id, position, job }
}

/// Ends the job of an item.
pub(crate) async fn end(store: &Store, batch: &OpenBatch, status: JobStatus) {
    let lines = store.lines(at(15)).await.unwrap().into_iter().map(|waiting| (waiting.line, 1)).collect();
    let leased = store.claim(lease("w", 30), lines, at(15)).await.unwrap().concat().remove(0);
    let event = NewEvent { batch: Some(batch.id), version: leased.job.round, ..event(status) };
    let end = eyebolt_store::Closing { event, ..closing(status) };
    store.close((leased.job.id, leased.token), end, at(16)).await.unwrap().unwrap();
}

/// A batch that allows no failure, of two items that failed for a passing reason and a refused one, and was opened again.
async fn reopened(store: &Store, project: ProjectId) -> OpenBatch {
    let batch = new(project, "a/1");
    staged(store, &batch, vec![item(0, Some(1)), item(1, Some(2)), item(2, None)]).await;
    store.accept_batch((batch.clone(), None), (3, 0, Vec::new()), at(2)).await.unwrap();
    let batch = store.open_batches().await.unwrap().remove(0);
    for (position, content) in [(0, 1), (1, 2)] {
        store.feed(of_item(&batch, (position, content)), None, at(3)).await.unwrap();
        end(store, &batch, JobStatus::Failed).await;
    }
    assert_eq!(store.due_batches(at(5)).await.unwrap().hopeless, [batch.id]);
    assert_eq!(store.close_batch(ending(&batch, 1), at(11)).await, Ok(true));
    let whose = (project, Mode::Live, batch.id);
    assert_eq!(store.retry_batch(whose, at(900), at(12)).await, Ok(BatchRetry::Waiting(2)));
    batch
}

pub(crate) async fn counts(store: &Store, batch: &OpenBatch) -> (BatchStatus, BatchCounts) {
    let (batch, counts) = store.batch((batch.project, Mode::Live), batch.id).await.unwrap().unwrap();
    (batch.status, counts)
}

pub(crate) fn ending(batch: &OpenBatch, round: u32) -> BatchEnding {
    let event = NewEvent {
        id: EventId::of([round as u8; 16]),
        kind: EventType::BatchCompleted,
        version: round,
        data: "{}".to_owned(),
        told_at: None,
        batch: Some(batch.id),
    };
    BatchEnding { id: batch.id, round, status: BatchStatus::Completed, event, expires_at: at(1000) }
}

on_both! {
    async fn nobody_sees_a_batch_before_it_is_accepted(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = new(project, "a/1");
        staged(store, &batch, vec![item(0, Some(1)), item(1, Some(1))]).await;
        assert_eq!(store.batch((project, Mode::Live), batch.id).await, Ok(None));
        assert_eq!(store.open_batches().await, Ok(vec![]));
        assert_eq!(store.due_batches(at(600)).await, Ok(DueBatches::default()));

        let others = store.remove_staged((None, Some(at(1))), ("b/".to_owned(), "b/2".to_owned())).await.unwrap();
        assert_eq!(others.count, 0, "neither old nor of that owner");
        let own = store.remove_staged((None, None), ("a/".to_owned(), "a/1".to_owned())).await.unwrap();
        assert_eq!(own.count, 0, "nor of an earlier run");
        let removed = store.remove_staged((None, None), ("a/".to_owned(), "a/2".to_owned())).await.unwrap();
        let blobs = &removed.blobs;
        assert_eq!((removed.count, blobs.iter().any(|name| name.contains(&"01".repeat(32)))), (1, true), "{blobs:?}");
        let late = store.stage_items((batch.id, project, Mode::Live), vec![item(2, Some(1))], at(2)).await;
        assert_eq!(late, Ok(None));
        let late = store.accept_batch((batch, Some(key("what"))), (2, 2, vec![]), at(2)).await;
        assert_eq!(late, Ok(BatchAcceptance::Gone));
        let look = store.idempotency_record((project, Mode::Live), b"k".to_vec(), at(2)).await;
        assert_eq!(look, Ok(None), "its key is free");
    }

    async fn of_two_with_a_key_one_is_accepted(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let first = accepted(store, project).await;
        let second = new(project, "a/1");
        staged(store, &second, vec![item(0, Some(1))]).await;
        let known = store.accept_batch((second.clone(), Some(key("what"))), (1, 1, vec![]), at(3)).await.unwrap();
        let BatchAcceptance::Known(Known::Batch(record)) = known else { panic!("{known:?}") };
        assert_eq!((record.batch, record.answer, record.expires_at), (first.id, b"told".to_vec(), None));
        assert_eq!(store.batch((project, Mode::Live), second.id).await, Ok(None));
        let job = job(project, "k");
        let known = store.accept(job, at(3)).await.unwrap();
        assert!(matches!(known, eyebolt_store::Acceptance::Known(Known::Batch(_))), "{known:?}");
    }

    async fn an_item_becomes_a_job_once_and_ends_with_it(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = accepted(store, project).await;
        let feeding = [store.clone(), place.again()].map(|store| {
            let item = of_item(&batch, (0, 1));
            tokio::spawn(async move { store.feed(item, None, at(3)).await.unwrap() })
        });
        let mut fed = 0;
        for one in feeding {
            fed += usize::from(matches!(one.await.unwrap(), Fed::Job(_)));
        }
        assert_eq!(fed, 1, "whoever comes second finds it taken");
        assert_eq!(store.close_batch(ending(&batch, 1), at(4)).await, Ok(false), "two items are open");
        end(store, &batch, JobStatus::Succeeded).await;
        assert_eq!(counts(store, &batch).await.1, BatchCounts { total: 3, pending: 1, succeeded: 1, failed: 1, ..BatchCounts::default() });

        let full = Caps { project: Cap { concurrent_jobs: Some(0), ..Cap::default() }, key: Cap::default() };
        let mut over = of_item(&batch, (1, 2));
        over.job.caps = Some(full);
        assert!(matches!(store.feed(over, None, at(5)).await, Ok(Fed::Over(_))));
        assert_eq!(counts(store, &batch).await.1.pending, 1, "it waits on");
        assert!(matches!(store.feed(of_item(&batch, (1, 2)), None, at(5)).await, Ok(Fed::Job(_))));
        end(store, &batch, JobStatus::Failed).await;

        let due = store.due_batches(at(11)).await.unwrap();
        assert_eq!(due.done, [(batch.id, project, Mode::Live)]);
        let (one, two) = (place.again(), place.again());
        let both = tokio::join!(one.close_batch(ending(&batch, 1), at(11)), two.close_batch(ending(&batch, 1), at(11)));
        assert!(both == (Ok(true), Ok(false)) || both == (Ok(false), Ok(true)), "{both:?}");
        let events = store.events_of_batch((project, Mode::Live, batch.id), 0, 10).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == EventType::BatchCompleted).count(), 1);
        assert_eq!(events.len(), 3);
    }

    async fn two_wishes_run_a_failed_item_again_once(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = accepted(store, project).await;
        for place in [(0, 1), (1, 2)] {
            store.feed(of_item(&batch, place), None, at(3)).await.unwrap();
            end(store, &batch, if place.0 == 0 { JobStatus::Failed } else { JobStatus::Succeeded }).await;
        }
        assert_eq!(store.close_batch(ending(&batch, 1), at(11)).await, Ok(true));
        let whose = (project, Mode::Live, batch.id);
        assert_eq!(store.retry_batch(whose, at(900), at(600)).await, Ok(BatchRetry::Nothing), "too late");
        assert_eq!(store.retry_batch(whose, at(900), at(12)).await, Ok(BatchRetry::Waiting(1)));
        assert_eq!(store.retry_batch(whose, at(900), at(12)).await, Ok(BatchRetry::Nothing));
        let elsewhere = (project, Mode::Test, batch.id);
        assert_eq!(store.retry_batch(elsewhere, at(900), at(12)).await, Ok(BatchRetry::Missing));
        assert_eq!(store.close_batch(ending(&batch, 1), at(12)).await, Ok(false), "its round is over");

        let waiting = store.waiting_items(batch.id, 10).await.unwrap();
        let [waiting] = waiting.as_slice() else { panic!("{waiting:?}") };
        let job = waiting.job.expect("the job that failed");
        let again = again(900);
        assert_eq!(store.feed_again((&batch, 0), (job, again.clone()), at(13)).await, Ok(Fed::Again));
        assert_eq!(store.feed_again((&batch, 0), (job, again), at(13)).await, Ok(Fed::Taken));
        end(store, &batch, JobStatus::Succeeded).await;
        assert_eq!(counts(store, &batch).await.1.succeeded, 2);
        assert_eq!(store.close_batch(ending(&batch, 2), at(14)).await, Ok(true));
    }

    async fn a_batch_that_ends_early_begins_nothing_more(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = accepted(store, project).await;
        assert!(matches!(store.feed(of_item(&batch, (0, 1)), None, at(3)).await, Ok(Fed::Job(_))));
        assert_eq!(store.due_batches(at(500)).await.unwrap().overdue, [batch.id]);
        assert_eq!(store.end_batch_early(batch.id, EarlyEnd::Canceled, at(4)).await, Ok(true));
        assert_eq!(store.end_batch_early(batch.id, EarlyEnd::Expired, at(4)).await, Ok(false), "it ends already");
        assert_eq!(store.feed(of_item(&batch, (1, 2)), None, at(5)).await, Ok(Fed::Taken));
        let (status, found) = counts(store, &batch).await;
        assert_eq!((status, found.canceled, found.processing), (BatchStatus::Canceling, 1, 1));
        assert_eq!(store.batch_ending(batch.id).await, Ok(Some(BatchStatus::Canceled)));
        assert_eq!(store.due_batches(at(5)).await.unwrap().unwanted.len(), 1);
        assert_eq!(store.retry_batch((project, Mode::Live, batch.id), at(9), at(5)).await, Ok(BatchRetry::Ending));
        end(store, &batch, JobStatus::Canceled).await;
        assert_eq!(store.due_batches(at(5)).await.unwrap().done.len(), 1);
    }

    async fn what_waits_to_run_again_goes_back_to_what_its_job_is(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = reopened(store, project).await;
        assert_eq!(store.due_batches(at(13)).await.unwrap().hopeless, [], "one failed for good, before");
        assert_eq!(store.end_batch_early(batch.id, EarlyEnd::Canceled, at(14)).await, Ok(true));
        let (_, found) = counts(store, &batch).await;
        assert_eq!((found.failed, found.canceled, found.pending), (3, 0, 0));
        let filter = ItemFilter { batch: batch.id, status: None, after: None, limit: 10 };
        let items = store.batch_items(filter).await.unwrap();
        let job = store.job((project, Mode::Live), items[0].job.unwrap()).await.unwrap().unwrap();
        assert_eq!(items[0].error, job.error);
    }

    async fn an_open_batch_waits_for_a_job_that_somebody_runs_again(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = reopened(store, project).await;
        let job = store.waiting_items(batch.id, 1).await.unwrap()[0].job.unwrap();
        let whose = (project, Mode::Live, job);
        assert_eq!(store.retry(whose, again(900), at(13)).await, Ok(Retry::Pending));
        assert_eq!(store.feed_again((&batch, 0), (job, again(900)), at(13)).await, Ok(Fed::Taken));
        assert_eq!(store.end_batch_early(batch.id, EarlyEnd::Expired, at(14)).await, Ok(true));
        assert_eq!(counts(store, &batch).await.1.processing, 1);
        assert_eq!(store.close_batch(ending(&batch, 2), at(14)).await, Ok(false));
        end(store, &batch, JobStatus::Failed).await;
        assert_eq!(store.close_batch(ending(&batch, 2), at(17)).await, Ok(true));

        assert_eq!(store.retry(whose, again(900), at(15)).await, Ok(Retry::Pending));
        let (status, found) = counts(store, &batch).await;
        assert_eq!((status, found.failed, found.processing), (BatchStatus::Completed, 3, 0), "it stays as it ended");

        // Opened again for the other one, it waits for both.
        let opened = store.retry_batch((project, Mode::Live, batch.id), at(900), at(15)).await;
        assert_eq!(opened, Ok(BatchRetry::Waiting(1)));
        let (_, found) = counts(store, &batch).await;
        assert_eq!((found.failed, found.processing, found.pending), (1, 1, 1));
        end(store, &batch, JobStatus::Succeeded).await;
        assert_eq!(counts(store, &batch).await.1.succeeded, 1);
    }

    async fn an_image_that_is_gone_by_now_refuses_its_item_alone(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = new(project, "a/1");
        store.begin_batch(batch.clone(), at(1)).await.unwrap();
        let stored = |position, sha256| {
            let image = StagedImage::Stored(sha256, "gone".to_owned());
            StagedItem { image: Ok((image, "{}".to_owned())), ..item(position, None) }
        };
        let items = vec![item(0, Some(1)), stored(1, [9; 32]), stored(2, [1; 32])];
        let whose = (batch.id, project, Mode::Live);
        let images = store.stage_items(whose, items, at(1)).await.unwrap().unwrap();
        assert_eq!((images[0].is_some(), images[1], images[2]), (true, None, images[0]));
        store.accept_batch((batch.clone(), None), (3, 3, Vec::new()), at(2)).await.unwrap();
        let filter = ItemFilter { batch: batch.id, status: None, after: None, limit: 10 };
        let items = store.batch_items(filter).await.unwrap();
        assert_eq!((items[1].error.as_deref(), items[2].error.as_deref()), (Some("gone"), None));
        let (_, counts) = store.batch((project, Mode::Live), batch.id).await.unwrap().unwrap();
        assert_eq!((counts.failed, counts.pending), (1, 2));
    }

    async fn a_batch_goes_piece_by_piece_and_nobody_sees_half_of_it(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = new(project, "a/1");
        staged(store, &batch, (0..70).map(|position| item(position, Some(position as u8))).collect()).await;
        let remove = || store.remove_staged((Some(batch.id), None), (String::new(), String::new()));
        let first = remove().await.unwrap();
        assert_eq!((first.count, first.more), (0, true));
        let accepted = store.accept_batch((batch.clone(), None), (70, 0, Vec::new()), at(2)).await;
        assert_eq!(accepted, Ok(BatchAcceptance::Gone), "some of its items are gone");
        let whose = (batch.id, project, Mode::Live);
        assert_eq!(store.stage_items(whose, vec![item(70, Some(70))], at(2)).await, Ok(None));
        let last = remove().await.unwrap();
        assert_eq!((last.count, last.more), (1, true));
        assert_eq!(remove().await, Ok(Removed::default()));
        let files = first.blobs.iter().chain(&last.blobs);
        assert_eq!(files.collect::<std::collections::BTreeSet<_>>().len(), 140, "each image, under both of its names");

        let ended = accepted_and_ended(store, project).await;
        assert_eq!(store.remove_batches(at(12), (None, 10), at(9000)).await.unwrap().count, 1);
        assert_eq!(store.batch((project, Mode::Live), ended).await, Ok(None));
        let old = store.remove_staged((None, Some(at(1))), (String::new(), String::new())).await.unwrap();
        assert_eq!((old.count, old.blobs.is_empty()), (1, false));
    }

    async fn many_batches_of_one_key_hide_nobody_elses(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let (many, other) = (new(project, "a/1"), new(project, "a/1"));
        let of_one = (0..21).map(|_| NewBatch { id: BatchId::new(), ..many.clone() });
        for batch in of_one.chain([other.clone()]) {
            staged(store, &batch, vec![item(0, Some(1))]).await;
            store.accept_batch((batch, None), (1, 1, Vec::new()), at(2)).await.unwrap();
        }
        let open = store.open_batches().await.unwrap();
        assert_eq!(open.iter().filter(|batch| batch.key == many.key).count(), 20);
        assert!(open.iter().any(|batch| batch.id == other.id));
    }

    async fn images_of_items_that_wait_stay(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let batch = accepted(store, project).await;
        let items = ItemFilter { batch: batch.id, status: None, after: None, limit: 10 };
        let items = store.batch_items(items).await.unwrap();
        let image = items[0].image.expect("it was taken");
        assert_eq!(items[2].image, None);
        store.empty_images(at(100), (None, 10), at(5000)).await.unwrap();
        assert!(store.image((project, Mode::Live), image).await.unwrap().is_some());
        assert_eq!(store.image((project, Mode::Test), image).await, Ok(None));
        store.end_batch_early(batch.id, EarlyEnd::Canceled, at(4)).await.unwrap();
        store.empty_images(at(100), (None, 10), at(5000)).await.unwrap();
        assert_eq!(store.image((project, Mode::Live), image).await, Ok(None), "nothing needs it");

        assert_eq!(store.close_batch(ending(&batch, 1), at(11)).await, Ok(true));
        assert_eq!(store.remove_batches(at(12), (None, 10), at(12)).await.unwrap().count, 0, "its key stands for it");
        assert_eq!(store.remove_batches(at(12), (None, 10), at(9000)).await.unwrap().count, 1);
        assert_eq!(store.remove_batches(at(12), (None, 10), at(9000)).await.unwrap().count, 0);
        assert_eq!(store.batch((project, Mode::Live), batch.id).await, Ok(None));
    }
}
