//! What is old is removed, and nothing else.

use eyebolt_store::{
    Acceptance, Balance, Blobs, Cancellation, Closing, ContentKey, Document, JobFilter, Known, NewImage,
    NewJob, Removed, Retry, Search, Sought, Store, SweepPlace, TOMBSTONE, document_blob, image_blob,
};
use eyebolt_types::{
    JobStatus, Mode,
    id::{ImageId, JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{
        accept, accepted, again, claim, closing, ended, image, job, large_image, lease, running, stored,
    },
};

/// Long after keys (1000) and retries (500) are over, with the time that their readers have.
const LATER: i64 = 10_000;

/// Removes jobs that ended before now, however many.
async fn remove_jobs(store: &Store, now: i64) -> Removed {
    store.remove_jobs(at(now), (None, 100), at(now)).await.unwrap()
}

/// Empties images of jobs that ended before now.
async fn empty_images(store: &Store, now: i64) -> Removed {
    store.empty_images(at(now), (None, 100), at(now)).await.unwrap()
}

async fn jobs_of(store: &Store, project: ProjectId) -> Vec<JobId> {
    let filter = JobFilter {
        project,
        mode: Mode::Live,
        status: None,
        created_from: None,
        created_before: None,
        after: None,
        limit: 100,
    };
    store.jobs(filter).await.unwrap().iter().map(|job| job.id).collect()
}

/// An image that a job names: it is there with its bytes, in its row or in a file that no sweep has removed.
async fn assert_bytes(store: &Store, (project, id): (ProjectId, JobId), removed: &[String]) {
    let leased = claim(store, lease("reader", LATER + 100), 10, at(LATER + 50)).await.unwrap();
    let leased = leased.iter().find(|leased| leased.job.id == id).expect("the job waits");
    if leased.content.is_some() {
        return;
    }
    let blob = image_blob((project, Mode::Live), leased.job.image, &leased.sha256);
    assert!(!removed.contains(&blob), "its file is there");
    assert_eq!(store.unknown_blobs(vec![blob]).await, Ok(vec![]), "and stays");
}

on_both! {
    async fn a_job_goes_with_all_that_is_its_own_and_what_it_cost_stays(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        let whose = (owner, Mode::Live);
        let new = NewJob { image: large_image(5), operation: Some([1; 32]), lease: Some(lease("w", 20)), ..job(owner, "k") };
        let (id, image) = (new.id, new.image.id);
        accept(store, new).await;
        let document = document_blob(id, b"digest");
        let end = Closing { document: Document::Blob(document.clone()), ..closing(JobStatus::Succeeded) };
        store.close((id, 1), end, at(3)).await.unwrap().unwrap();
        let usage = store.usage(whose, (at(0), at(LATER))).await.unwrap();

        let removed = remove_jobs(store, LATER).await;
        let blob = image_blob(whose, image, &[5; 32]);
        assert_eq!((removed.count, removed.more), (1, false));
        assert!(removed.blobs.contains(&document) && removed.blobs.contains(&blob), "{removed:?}");
        assert_eq!(store.unknown_blobs(vec![document.clone(), blob.clone()]).await, Ok(vec![document, blob]));

        assert_eq!((store.job(whose, id).await, store.document(id).await), (Ok(None), Ok(None)));
        assert_eq!((store.answer(id).await, jobs_of(store, owner).await), (Ok(None), vec![]));
        let named = (owner, Mode::Live, id);
        assert_eq!(store.retry(named, again(LATER + 1), at(LATER)).await, Ok(Retry::Missing));
        assert_eq!(store.cancel(named, lease("w", LATER), at(LATER)).await, Ok(Cancellation::Missing));
        let key = ContentKey { project: owner, mode: Mode::Live, operation: [1; 32], job: JobId::new() };
        let sought = Sought { bytes: Some([5; 32]), ..Sought::default() };
        assert_eq!(store.find_content((key, Search::Flag), sought, at(0)).await, Ok(None));

        assert_eq!(store.usage(whose, (at(0), at(LATER))).await.unwrap(), usage);
        assert_eq!(store.balance(owner, Mode::Live).await, Ok(Balance { reserved: 0, used: 2 }));
        assert_eq!(remove_jobs(store, LATER).await.count, 0);
    }

    async fn the_key_of_a_removed_job_stays_refused_as_long_as_any_other(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        ended(store, owner, ("k", closing(JobStatus::Succeeded))).await;
        let wipe = async |now: i64| store.sweep_records(10, at(now)).await.unwrap();
        assert_eq!(remove_jobs(store, LATER).await.count, 1);
        let look = async |now: i64| store.idempotency_record((owner, Mode::Live), b"k".to_vec(), at(now)).await;
        let forgotten = 1000 + TOMBSTONE.as_secs();
        for now in [LATER, forgotten - 1] {
            assert_eq!(look(now).await, Ok(Some(Known::Expired(at(1000)))), "at {now}");
            let refused = store.accept(job(owner, "k"), at(now)).await;
            assert_eq!(refused, Ok(Acceptance::Known(Known::Expired(at(1000)))));
            wipe(now).await;
        }
        // To a server whose clock is behind it is over as well.
        assert_eq!(look(999).await, Ok(Some(Known::Expired(at(1000)))));
        assert_eq!((wipe(forgotten).await, look(forgotten).await), (1, Ok(None)));
    }

    async fn what_is_still_of_use_is_not_removed(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        let waits = accepted(store, owner, "waits").await;
        let (runs, _) = running(store, owner, "runs").await;
        let long = |closing: Closing| Closing { expires_at: at(1), ..closing };
        let again = Closing { retryable_until: Some(at(LATER)), ..long(closing(JobStatus::Failed)) };
        let again = ended(store, owner, ("again", again)).await;
        let known = Closing { expires_at: at(LATER), ..closing(JobStatus::Succeeded) };
        let known = ended(store, owner, ("known", known)).await;
        let young = ended(store, owner, ("young", long(closing(JobStatus::Succeeded)))).await;

        let early = store.remove_jobs(at(3), (None, 100), at(LATER)).await.unwrap();
        assert_eq!((early.count, early.reached), (0, None), "that ended at 3, and no earlier");
        assert_eq!(remove_jobs(store, LATER).await.count, 1);
        assert_eq!(store.job((owner, Mode::Live), young).await, Ok(None));
        // An hour more, since somebody may have looked the key up just before.
        assert_eq!(remove_jobs(store, LATER + 3599).await.count, 0);
        assert_eq!(remove_jobs(store, LATER + 3600).await.count, 2);
        assert_eq!(jobs_of(store, owner).await, [runs, waits], "{again} and {known} are gone");
    }

    async fn a_sweep_goes_on_where_its_last_batch_ended(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        let known = Closing { expires_at: at(9 * LATER), ..closing(JobStatus::Succeeded) };
        let kept = ended(store, owner, ("kept", known)).await;
        for key in ["a", "b", "c", "d"] {
            ended(store, owner, (key, closing(JobStatus::Succeeded))).await;
        }
        let mut reached: Option<SweepPlace> = None;
        let mut counts = Vec::new();
        loop {
            let removed = store.remove_jobs(at(LATER), (reached.clone(), 2), at(LATER)).await.unwrap();
            counts.push(removed.count);
            reached = removed.reached.or(reached);
            if !removed.more {
                break;
            }
        }
        assert_eq!(counts, [1, 2, 1], "the first one is passed over");
        let late = ended(store, owner, ("late", closing(JobStatus::Succeeded))).await;
        place.tamper(&format!("UPDATE jobs SET finished_at = finished_at + 1000 WHERE id = '{late}'"));
        let removed = store.remove_jobs(at(LATER), (reached, 2), at(LATER)).await.unwrap();
        assert_eq!((removed.count, jobs_of(store, owner).await), (1, vec![kept]));
    }

    async fn an_image_stays_while_any_job_of_it_may_need_it(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        let lease_of = async |key| {
            let new = NewJob { image: large_image(5), lease: Some(lease("w", 20)), ..job(owner, key) };
            let id = new.id;
            let Ok(Acceptance::Accepted(image)) = store.accept(new, at(1)).await else { panic!("it is new") };
            (id, image)
        };
        let (done, image) = lease_of("done").await;
        store.close((done, 1), closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
        let (again, same) = lease_of("again").await;
        assert_eq!(image, same);
        assert_eq!(empty_images(store, 400).await.count, 0, "one runs");
        let retryable = Closing { retryable_until: Some(at(LATER)), ..closing(JobStatus::Failed) };
        store.close((again, 1), retryable, at(3)).await.unwrap().unwrap();
        assert_eq!(empty_images(store, LATER).await.count, 0, "one can be run again");
        let emptied = store.empty_images(at(3), (None, 10), at(2 * LATER)).await.unwrap();
        assert_eq!(emptied.count, 0, "they ended at 3, and no earlier");

        let emptied = empty_images(store, LATER + 3600).await;
        assert_eq!(emptied.count, 1);
        assert!(emptied.blobs.contains(&image_blob((owner, Mode::Live), image, &[5; 32])));
        assert_eq!(stored(store, owner, done).await.image, image, "the job is still there, and names it");
        assert_eq!(empty_images(store, LATER + 3600).await, Removed::default());

        let (_, anew) = lease_of("anew").await;
        assert_ne!(anew, image, "the same content is another image");
        assert_eq!(empty_images(store, LATER + 3600).await.count, 0);
        let kept = store.unknown_blobs(vec![image_blob((owner, Mode::Live), anew, &[5; 32])]).await;
        assert_eq!(kept, Ok(vec![]));
    }

    async fn a_small_image_that_was_emptied_comes_back_with_its_bytes(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        ended(store, owner, ("first", closing(JobStatus::Succeeded))).await;
        let emptied = empty_images(store, LATER).await;
        assert_eq!((emptied.count, emptied.blobs), (1, vec![]));
        let second = accepted(store, owner, "second").await;
        assert_bytes(store, (owner, second), &[]).await;
    }

    // Both orders, and the job of the image removed before, between and after.
    async fn an_image_that_is_sent_again_while_it_is_removed_keeps_its_bytes(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for (round, order) in (0..).zip(orders) {
            for (content, kind) in [(2 * round, image as fn(u8) -> NewImage), (2 * round + 1, large_image)] {
                let first = NewJob { image: kind(content), lease: Some(lease("w", 20)), ..job(owner, &format!("first {content}")) };
                let done = first.id;
                accept(store, first).await;
                store.close((done, 1), closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
                let second = NewJob { image: kind(content), ..job(owner, &format!("second {content}")) };
                let (id, mut removed) = (second.id, Vec::new());
                for step in order {
                    match step {
                        0 => accept(store, second.clone()).await,
                        1 => removed.extend(empty_images(store, LATER).await.blobs),
                        _ => removed.extend(remove_jobs(store, LATER).await.blobs),
                    }
                }
                assert_bytes(store, (owner, id), &removed).await;
                assert_eq!(store.job((owner, Mode::Live), done).await, Ok(None), "{order:?}");
            }
        }
    }

    async fn an_image_that_is_sent_again_by_one_process_while_another_removes_it_keeps_its_bytes(place: &Place) {
        let (store, other, owner) = (&place.store, place.again(), project(&place.store).await.id);
        for round in 0..30u8 {
            let new = |key: &str| NewJob { image: large_image(round), ..job(owner, &format!("{key} {round}")) };
            let first = NewJob { lease: Some(lease("w", 20)), ..new("first") };
            let done = first.id;
            accept(store, first).await;
            store.close((done, 1), closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
            let second = new("second");
            let id = second.id;
            let (accepted, emptied, gone) =
                tokio::join!(store.accept(second, at(1)), empty_images(&other, LATER), remove_jobs(store, LATER));
            assert!(matches!(accepted, Ok(Acceptance::Accepted(_))), "round {round}: {accepted:?}");
            assert_bytes(store, (owner, id), &[emptied.blobs, gone.blobs].concat()).await;
        }
    }

    async fn images_that_no_job_names_are_removed_and_others_emptied(place: &Place) {
        let (store, owner) = (&place.store, project(&place.store).await.id);
        ended(store, owner, ("k", closing(JobStatus::Succeeded))).await;
        let (lone, digest) = (ImageId::new(), "00".repeat(32));
        let literal = if matches!(place.location, eyebolt_store::Location::Sqlite(_)) { format!("X'{digest}'") } else { format!("'\\x{digest}'") };
        place.tamper(&format!(
            "INSERT INTO images (id, project_id, mode, sha256, bytes, created_at) \
             VALUES ('{lone}', '{owner}', 'live', {literal}, 70000, 0)"
        ));
        let emptied = empty_images(store, LATER).await;
        assert_eq!(emptied.count, 2);
        assert_eq!(emptied.blobs.len(), 2, "two names of one file: {emptied:?}");
        assert_eq!(remove_jobs(store, LATER).await.count, 1);
        assert_eq!(empty_images(store, LATER).await, Removed::default());
    }
}

/// What the acceptance of a job and a sweep do to each other in the middle of their transactions.
#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_and_a_sweep_wait_for_each_other_on_postgres() {
    let place = Place::postgres();
    let (store, owner) = (&place.store, project(&place.store).await.id);
    ended(store, owner, ("first", closing(JobStatus::Succeeded))).await;

    // Somebody is accepting a job of the image: it is passed over.
    let accepting = place.session("BEGIN; SELECT id FROM images FOR KEY SHARE");
    assert_eq!(empty_images(store, LATER).await, Removed::default());
    accepting.end("ROLLBACK");

    // A sweep is emptying it: the acceptance waits, and then stores it anew.
    let mut sweeping = place
        .session("BEGIN; SELECT id FROM images FOR UPDATE; UPDATE images SET removed_at = 1, content = NULL");
    let waiting = tokio::spawn({
        let (store, second) = (store.clone(), job(owner, "second"));
        async move { (second.id, store.accept(second, at(1)).await) }
    });
    sweeping.until_somebody_waits();
    sweeping.end("COMMIT");
    let (id, accepted) = waiting.await.unwrap();
    assert!(matches!(accepted, Ok(Acceptance::Accepted(_))), "{accepted:?}");
    assert_bytes(store, (owner, id), &[]).await;
    place.check_ledger().await;
}

#[tokio::test]
async fn what_a_crash_leaves_between_rows_and_files_is_swept() {
    let place = Place::sqlite();
    let (store, folder) = (&place.store, place.blobs());
    let (blobs, owner) = (Blobs::in_folder(&folder).unwrap(), project(store).await.id);
    let new = NewJob { image: large_image(5), lease: Some(lease("w", 20)), ..job(owner, "k") };
    let (id, file) = (new.id, folder.join(image_blob((owner, Mode::Live), new.image.id, &[5; 32])));
    accept(store, new).await;
    store.close((id, 1), closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, b"image").unwrap();
    // Files have the machine's time, which is before the test's.
    assert_eq!((blobs.sweep(store, at(LATER)).await, file.exists()), (Ok(0), true));
    assert_eq!(remove_jobs(store, LATER).await.count, 1);
    assert_eq!((blobs.sweep(store, at(LATER)).await, file.exists()), (Ok(1), false));
}
