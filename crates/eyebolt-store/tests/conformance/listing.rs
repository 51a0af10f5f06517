use eyebolt_store::{JobFilter, ListedJob, NewJob, Store, StoredJob};
use eyebolt_types::{
    JobStatus, Mode,
    id::{JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accepted, closing, ended, found, job, running, stored},
};

fn all_of(project: ProjectId) -> JobFilter {
    let (status, created_from, created_before, after) = (None, None, None, None);
    JobFilter { project, mode: Mode::Live, status, created_from, created_before, after, limit: 100 }
}

/// What a list shows of a job.
fn in_a_list(job: StoredJob, succeeded: u64) -> ListedJob {
    ListedJob {
        id: job.id,
        mode: job.mode,
        status: job.status,
        input: job.input,
        image: job.image,
        dedup: job.dedup,
        error: job.error,
        round: job.round,
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        retryable_until: job.retryable_until,
        features: job.steps.iter().map(|step| step.feature).collect(),
        succeeded,
    }
}

async fn listed(store: &Store, filter: JobFilter) -> Vec<JobId> {
    store.jobs(filter).await.unwrap().iter().map(|job| job.id).collect()
}

on_both! {
    async fn jobs_are_listed_newest_first_with_what_succeeded(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        assert_eq!(listed(store, all_of(project)).await, []);
        let mut expected = Vec::new();
        for key in ["a", "b", "c"] {
            let id = accepted(store, project, key).await;
            expected.insert(0, in_a_list(stored(store, project, id).await, 0));
        }
        let half = running(store, project, "half").await;
        store.finish_step(half, found(1, "words")).await.unwrap().unwrap();
        expected.insert(0, in_a_list(stored(store, project, half.0).await, 1));
        let failed = ended(store, project, ("failed", closing(JobStatus::Failed))).await;
        expected.insert(0, in_a_list(stored(store, project, failed).await, 0));
        let whole = ended(store, project, ("whole", closing(JobStatus::Succeeded))).await;
        expected.insert(0, in_a_list(stored(store, project, whole).await, 2));
        assert_eq!(store.jobs(all_of(project)).await, Ok(expected));
    }

    async fn pages_follow_each_other_without_gaps_or_repeats(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mut all = Vec::new();
        for index in 0..7 {
            all.insert(0, accepted(store, project, &index.to_string()).await);
        }
        for limit in [1, 3, 7, 10] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = listed(store, JobFilter { after, limit, ..all_of(project) }).await;
                assert!(page.len() <= limit as usize);
                let Some(last) = page.last() else { break };
                after = Some(*last);
                seen.extend(page);
            }
            assert_eq!(seen, all, "pages of {limit}");
        }
        let (last, rest) = (all[3], all[4..].to_vec());
        accepted(store, project, "new").await;
        let page = listed(store, JobFilter { after: Some(last), ..all_of(project) }).await;
        assert_eq!(page, rest, "a newer one moves nothing");
    }

    async fn jobs_are_filtered_by_state_and_time(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let failed = ended(store, project, ("failed", closing(JobStatus::Failed))).await;
        let runs = running(store, project, "runs").await.0;
        let late = job(project, "late");
        store.accept(late.clone(), at(50)).await.unwrap();
        let by = |status| listed(store, JobFilter { status: Some(status), ..all_of(project) });
        assert_eq!(by(JobStatus::Failed).await, [failed]);
        assert_eq!(by(JobStatus::Processing).await, [runs]);
        assert_eq!(by(JobStatus::Pending).await, [late.id]);
        assert_eq!(by(JobStatus::Succeeded).await, []);

        let between = |from: Option<i64>, before: Option<i64>| {
            let (created_from, created_before) = (from.map(at), before.map(at));
            listed(store, JobFilter { created_from, created_before, ..all_of(project) })
        };
        assert_eq!(between(Some(50), None).await, [late.id], "the first instant is inside");
        assert_eq!(between(Some(51), None).await, []);
        assert_eq!(between(None, Some(50)).await, [runs, failed], "the last one is not");
        assert_eq!(between(Some(1), Some(51)).await, [late.id, runs, failed]);
        let (status, created_before) = (Some(JobStatus::Pending), Some(at(50)));
        assert_eq!(listed(store, JobFilter { status, created_before, ..all_of(project) }).await, []);
    }

    async fn jobs_of_another_project_or_mode_are_as_good_as_none(place: &Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let mine = accepted(store, acme, "k").await;
        let sandbox = NewJob { mode: Mode::Test, ..job(acme, "k") };
        store.accept(sandbox.clone(), at(1)).await.unwrap();
        assert_eq!(listed(store, all_of(acme)).await, [mine]);
        assert_eq!(listed(store, JobFilter { mode: Mode::Test, ..all_of(acme) }).await, [sandbox.id]);
        assert_eq!(listed(store, all_of(other)).await, []);

        assert!(store.job((acme, Mode::Live), mine).await.unwrap().is_some());
        for foreign in [(other, Mode::Live), (acme, Mode::Test)] {
            assert_eq!(store.job(foreign, mine).await, Ok(None));
        }
        assert_eq!(store.job((acme, Mode::Live), JobId::new()).await, Ok(None));
    }
}
