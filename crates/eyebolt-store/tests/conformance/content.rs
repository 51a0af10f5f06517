use eyebolt_store::{Closing, ContentKey, NearEntry, NearSought, NewJob, Search, Seen, Sought, Store};
use eyebolt_types::{
    DuplicateKind, JobStatus, Mode,
    id::{JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, accepted, claim, closing, job, lease},
};

const ASKED: [u8; 32] = [1; 32];

fn key(project: ProjectId, job: JobId) -> ContentKey {
    ContentKey { project, mode: Mode::Live, operation: ASKED, job }
}

/// Digests of one byte: near are those of one another's neighbours.
fn distance(one: &[u8], other: &[u8]) -> Option<u32> {
    let far = u32::from(one[0].abs_diff(other[0]));
    (far <= 1).then_some(far)
}

/// Bands that near digests share.
fn bands(content: u8) -> [u32; 2] {
    let tens = u32::from(content / 10);
    [100 + tens, 200 + tens]
}

/// Accepts a job under that name and keeps what it carried.
async fn carried(store: &Store, project: ProjectId, (name, content, second): (&str, u8, i64)) -> JobId {
    let job = accepted(store, project, name).await;
    keep(store, key(project, job), (content, second)).await;
    job
}

async fn keep(store: &Store, key: ContentKey, (content, second): (u8, i64)) {
    let near = NearEntry { digest: vec![content], bands: bands(content).into() };
    store
        .remember_content((key, [content; 32]), Some(([content; 32], Some(near))), at(second))
        .await
        .unwrap();
}

/// The same bytes; the same pixels in other bytes; a near picture.
fn sought(kind: DuplicateKind, content: u8) -> Sought {
    let near = NearSought { digest: vec![content + 1], probes: vec![9, bands(content)[1]], distance };
    match kind {
        DuplicateKind::Bytes => Sought { bytes: Some([content; 32]), ..Sought::default() },
        DuplicateKind::Pixels => {
            Sought { bytes: Some([200; 32]), pixels: Some([content; 32]), near: Some(near) }
        }
        DuplicateKind::Perceptual => {
            Sought { bytes: Some([200; 32]), pixels: Some([200; 32]), near: Some(near) }
        }
    }
}

const KINDS: [DuplicateKind; 3] = [DuplicateKind::Bytes, DuplicateKind::Pixels, DuplicateKind::Perceptual];

async fn find(store: &Store, key: ContentKey, sought: Sought) -> Option<Seen> {
    store.find_content((key, Search::Flag), sought, at(0)).await.unwrap()
}

async fn end(store: &Store, job: JobId, status: JobStatus) {
    let leases = claim(store, lease("w", 20), 10, at(5)).await.unwrap();
    let token = leases.iter().find(|lease| lease.job.id == job).expect("the job waits").token;
    store.close((job, token), closing(status), at(6)).await.unwrap().unwrap();
}

on_both! {
    async fn bytes_go_before_pixels_before_near_pictures_and_each_tells_its_distance(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let near = carried(store, project, ("near", 51, 1)).await;
        let pixels = carried(store, project, ("pixels", 52, 1)).await;
        let bytes = carried(store, project, ("bytes", 90, 1)).await;
        let asking = key(project, JobId::new());
        let near_only = NearSought { digest: vec![50], probes: vec![bands(50)[0]], distance };
        let mut sought =
            Sought { bytes: Some([90; 32]), pixels: Some([52; 32]), near: Some(near_only) };
        let seen = |job, kind, distance| Some(Seen { job, kind, distance });
        assert_eq!(find(store, asking, sought.clone()).await, seen(bytes, DuplicateKind::Bytes, 0));
        sought.bytes = Some([0; 32]);
        assert_eq!(find(store, asking, sought.clone()).await, seen(pixels, DuplicateKind::Pixels, 0));
        sought.pixels = None;
        assert_eq!(find(store, asking, sought.clone()).await, seen(near, DuplicateKind::Perceptual, 1));
        sought.near = sought.near.map(|near| NearSought { probes: vec![6], ..near });
        assert_eq!(find(store, asking, sought).await, None, "no band in common");
    }

    async fn the_oldest_inside_the_window_is_found_and_nobody_finds_himself_or_a_later_one(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let first = carried(store, project, ("first", 50, 10)).await;
        let second = carried(store, project, ("second", 50, 20)).await;
        let asking = key(project, JobId::new());
        for kind in KINDS {
            let since = async |second| {
                let found = store.find_content((asking, Search::Flag), sought(kind, 50), at(second)).await;
                found.unwrap().map(|seen| (seen.job, seen.kind))
            };
            assert_eq!(since(10).await, Some((first, kind)), "the window's first instant is inside");
            assert_eq!(since(11).await, Some((second, kind)));
            assert_eq!(since(21).await, None);
            let found = find(store, key(project, second), sought(kind, 50)).await;
            assert_eq!(found.map(|seen| seen.job), Some(first));
            assert_eq!(find(store, key(project, first), sought(kind, 50)).await, None);
        }
    }

    async fn a_dead_job_is_never_joined_and_a_later_one_that_lives_is(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let dead = [(40, JobStatus::Failed), (50, JobStatus::Canceled), (60, JobStatus::Expired)];
        for (content, status) in dead {
            let job = carried(store, project, (&format!("dead {content}"), content, 1)).await;
            end(store, job, status).await;
            for kind in KINDS {
                let found = find(store, key(project, JobId::new()), sought(kind, content)).await;
                assert_eq!(found, None, "{status:?} by {kind:?}");
            }
            let alive = carried(store, project, (&format!("alive {content}"), content, 2)).await;
            for kind in KINDS {
                let found = find(store, key(project, JobId::new()), sought(kind, content)).await;
                assert_eq!(found.map(|seen| (seen.job, seen.kind)), Some((alive, kind)));
            }
            end(store, alive, JobStatus::Succeeded).await;
        }
        keep(store, key(project, JobId::new()), (70, 1)).await;
        for kind in KINDS {
            let found = find(store, key(project, JobId::new()), sought(kind, 70)).await;
            assert_eq!(found, None, "a job that is gone, by {kind:?}");
        }
    }

    async fn content_of_another_project_or_mode_is_never_seen(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        carried(store, project, ("mine", 50, 1)).await;
        for kind in KINDS {
            let mine = key(project, JobId::new());
            assert!(find(store, mine, sought(kind, 50)).await.is_some());
            for foreign in [ContentKey { project: other, ..mine }, ContentKey { mode: Mode::Test, ..mine }] {
                assert_eq!(find(store, foreign, sought(kind, 50)).await, None);
            }
        }
    }

    async fn only_a_success_of_the_same_operation_is_reused_and_never_a_near_picture(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let job = carried(store, project, ("first", 50, 1)).await;
        let reuse = async |operation, kind| {
            let asking = ContentKey { operation, ..key(project, JobId::new()) };
            let found = store.find_content((asking, Search::Reuse), sought(kind, 50), at(0)).await;
            found.unwrap().map(|seen| seen.job)
        };
        assert_eq!(reuse(ASKED, DuplicateKind::Bytes).await, None, "it has not ended");
        end(store, job, JobStatus::Succeeded).await;
        assert_eq!(reuse(ASKED, DuplicateKind::Bytes).await, Some(job));
        assert_eq!(reuse(ASKED, DuplicateKind::Pixels).await, Some(job));
        assert_eq!(reuse(ASKED, DuplicateKind::Perceptual).await, None);
        assert_eq!(reuse([2; 32], DuplicateKind::Bytes).await, None);
        let flagged = ContentKey { operation: [2; 32], ..key(project, JobId::new()) };
        assert!(find(store, flagged, sought(DuplicateKind::Bytes, 50)).await.is_some());
    }

    async fn old_entries_are_swept_in_batches_and_their_bands_are_free_again(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        for second in 1..=5 {
            carried(store, project, (&second.to_string(), 50, second)).await;
        }
        assert_eq!(store.sweep_contents(at(4), 2).await, Ok(2));
        let oldest = async || {
            let all = [DuplicateKind::Bytes, DuplicateKind::Perceptual];
            let mut found = Vec::new();
            for kind in all {
                found.push(find(store, key(project, JobId::new()), sought(kind, 50)).await.is_some());
            }
            found
        };
        assert_eq!(store.sweep_contents(at(4), 2).await, Ok(1));
        assert_eq!(store.sweep_contents(at(4), 2).await, Ok(0));
        assert_eq!(oldest().await, [true, true]);
        assert_eq!(store.sweep_contents(at(6), 10).await, Ok(2));
        assert_eq!(oldest().await, [false, false]);
        carried(store, project, ("again", 50, 7)).await;
        assert_eq!(oldest().await, [true, true]);
    }

    async fn what_is_forgotten_is_not_found(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let job = carried(store, project, ("first", 50, 1)).await;
        store.forget_content(job).await.unwrap();
        for kind in KINDS {
            assert_eq!(find(store, key(project, JobId::new()), sought(kind, 50)).await, None);
        }
    }

    async fn a_job_that_is_accepted_and_ends_leaves_what_it_carried(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let new = NewJob { operation: Some(ASKED), lease: Some(lease("w", 20)), ..job(project, "first") };
        accept(store, new.clone()).await;
        let unasked = NewJob { lease: Some(lease("w", 20)), ..job(project, "unasked") };
        accept(store, unasked).await;
        // The sample's image has bytes of sevens; its pixels are known at the end only.
        let asking = key(project, JobId::new());
        let bytes = find(store, asking, sought(DuplicateKind::Bytes, 7)).await;
        assert_eq!(bytes.map(|seen| seen.job), Some(new.id));
        assert_eq!(find(store, asking, sought(DuplicateKind::Pixels, 50)).await, None);
        let near = NearEntry { digest: vec![50], bands: bands(50).into() };
        let end = Closing { content: Some(([50; 32], near)), ..closing(JobStatus::Succeeded) };
        store.close((new.id, 1), end, at(3)).await.unwrap().unwrap();
        for kind in [DuplicateKind::Pixels, DuplicateKind::Perceptual] {
            let found = find(store, asking, sought(kind, 50)).await;
            assert_eq!(found.map(|seen| (seen.job, seen.kind)), Some((new.id, kind)));
        }
    }
}
