//! Steps with parts: written together with what made them, run again alone, charged once.

use eyebolt_store::{
    Acceptance, Advance, Again, Audit, Charging, Closing, FanOut, Lease, NewJob, Parts, PipelineFilter,
    Retry, Store, StoredTask, TakenOver, WorkEnd,
};
use eyebolt_types::{
    Feature, JobStatus, Mode, StepStatus,
    id::{JobId, KeyId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, claim, closing, job, lease, stored},
};

fn end(place: (u32, Option<u32>), status: StepStatus) -> WorkEnd {
    let succeeded = status == StepStatus::Succeeded;
    WorkEnd {
        place,
        status,
        attempts: 1,
        feature: Feature::Text,
        model: Some("reader@1".to_owned()),
        result: succeeded.then(|| b"found".to_vec()),
        error: (!succeeded).then(|| "{}".to_owned()),
        key: None,
        started_at: Some(at(2)),
        ended_at: at(3),
    }
}

fn task(number: u32) -> StoredTask {
    StoredTask {
        position: 1,
        number,
        key: vec![number as u8; 32],
        region: "{}".to_owned(),
        feature: Feature::Text,
        model: None,
        status: StepStatus::Pending,
        attempts: 0,
        result: None,
        error: None,
        started_at: None,
        finished_at: None,
    }
}

fn fan_out(tasks: u32) -> Advance {
    let fan_outs = vec![FanOut { position: 1, key: vec![9; 32], tasks: (0..tasks).map(task).collect() }];
    Advance { ends: vec![end((0, None), StepStatus::Succeeded)], fan_outs }
}

/// A job whose second step may have five parts, under way.
async fn under_way(store: &Store, project: ProjectId, key: &str) -> (JobId, i64) {
    let mut new = NewJob { lease: Some(lease("w", 20)), ..job(project, key) };
    new.steps[1].units = 5;
    let id = new.id;
    accept(store, new).await;
    (id, 1)
}

fn ends(status: JobStatus) -> Closing {
    Closing {
        steps: Vec::new(),
        charge: Charging::Pipeline,
        retryable_until: Some(at(500)),
        ..closing(status)
    }
}

fn again(steps: &[u32], task: Option<u32>) -> Again {
    let parts = Some(Parts { steps: steps.to_vec(), task });
    Again { key: KeyId::new(), caps: None, deadline: at(900), parts }
}

on_both! {
    async fn a_result_and_the_parts_that_follow_are_written_once(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = under_way(store, project, "k").await;
        let balance = store.balance(project, Mode::Live).await.unwrap();
        assert_eq!(balance.reserved, 6, "as many parts as there may be");
        store.advance(lease, fan_out(3)).await.unwrap().unwrap();
        store.advance(lease, fan_out(3)).await.unwrap().unwrap();
        let there = stored(store, project, lease.0).await;
        assert_eq!((there.tasks.len(), there.steps[1].tasks, there.steps[0].attempts), (3, Some(3), 1));
        assert_eq!(there.steps[1].key, Some(vec![9; 32]));
        // What is finished stays, and who lost the lease writes nothing.
        let done = Advance { ends: vec![end((1, Some(0)), StepStatus::Succeeded)], fan_outs: Vec::new() };
        store.advance(lease, done.clone()).await.unwrap().unwrap();
        let worse = Advance { ends: vec![end((1, Some(0)), StepStatus::Failed)], fan_outs: Vec::new() };
        store.advance(lease, worse).await.unwrap().unwrap();
        assert!(store.advance((lease.0, 7), fan_out(5)).await.unwrap().is_err());
        let there = stored(store, project, lease.0).await;
        assert_eq!((there.tasks[0].status, there.tasks[0].attempts), (StepStatus::Succeeded, 1));
        store.close(lease, ends(JobStatus::Canceled), at(4)).await.unwrap().unwrap();
        let there = stored(store, project, lease.0).await;
        assert_eq!(there.tasks[1].status, StepStatus::Canceled);
    }

    async fn a_move_that_is_repeated_counts_its_attempts_once(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = under_way(store, project, "k").await;
        // What fails for now stays open, so that it is written again.
        for _ in 0..2 {
            let tried = Advance { ends: vec![end((0, None), StepStatus::Pending)], fan_outs: Vec::new() };
            store.advance(lease, tried).await.unwrap().unwrap();
        }
        assert_eq!(stored(store, project, lease.0).await.steps[0].attempts, 1);
        let whole = Advance { ends: vec![WorkEnd { attempts: 2, ..end((0, None), StepStatus::Succeeded) }], ..fan_out(1) };
        store.advance(lease, whole).await.unwrap().unwrap();
        for attempts in [1, 1, 2, 2] {
            let tried = WorkEnd { attempts, ..end((1, Some(0)), StepStatus::Pending) };
            store.advance(lease, Advance { ends: vec![tried], fan_outs: Vec::new() }).await.unwrap().unwrap();
        }
        let there = stored(store, project, lease.0).await;
        assert_eq!((there.steps[0].attempts, there.tasks[0].attempts), (2, 2));
    }

    async fn what_failed_of_a_step_is_opened_alone_and_charged_once(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = under_way(store, project, "k").await;
        store.advance(lease, fan_out(3)).await.unwrap().unwrap();
        let ended = [StepStatus::Succeeded, StepStatus::Skipped, StepStatus::Skipped];
        let mut all: Vec<_> = (0..).zip(ended).map(|(task, status)| end((1, Some(task)), status)).collect();
        all.push(end((1, None), StepStatus::Succeeded));
        store.advance(lease, Advance { ends: all, fan_outs: Vec::new() }).await.unwrap().unwrap();
        store.close(lease, ends(JobStatus::Succeeded), at(4)).await.unwrap().unwrap();
        let used = async || store.balance(project, Mode::Live).await.unwrap();
        assert_eq!((used().await.used, used().await.reserved), (2, 0), "a step and a part; the step with parts is free");
        let whose = (project, Mode::Live, lease.0);
        // Without parts it has ended well, and stays so.
        let plain = Again { parts: None, ..again(&[], None) };
        assert_eq!(store.retry(whose, plain, at(5)).await.unwrap(), Retry::NotFailed(JobStatus::Succeeded));
        assert_eq!(store.retry(whose, again(&[0], None), at(5)).await.unwrap(), Retry::NotFailed(JobStatus::Succeeded));
        assert_eq!(store.retry(whose, again(&[1], Some(2)), at(600)).await.unwrap(), Retry::NotFailed(JobStatus::Succeeded));
        assert_eq!(store.retry(whose, again(&[1], Some(2)), at(5)).await.unwrap(), Retry::Pending);
        assert_eq!(store.retry(whose, again(&[1], Some(2)), at(5)).await.unwrap(), Retry::Pending);
        assert_eq!(used().await.reserved, 1, "two wishes open one part");
        let all = store.retry(whose, again(&[1], None), at(5)).await.unwrap();
        assert_eq!(all, Retry::NotFailed(JobStatus::Pending), "another part is not run with it");
        let there = stored(store, project, lease.0).await;
        let statuses: Vec<_> = there.tasks.iter().map(|task| task.status).collect();
        assert_eq!(statuses, [StepStatus::Succeeded, StepStatus::Skipped, StepStatus::Pending]);
        assert_eq!(there.tasks[0].result, Some(b"found".to_vec()), "results stay");
        let leased = claim(store, Lease { ..crate::sample::lease("v", 30) }, 1, at(6)).await.unwrap().remove(0);
        let lease = (leased.job.id, leased.token);
        let rest = vec![end((1, Some(2)), StepStatus::Succeeded), end((1, None), StepStatus::Succeeded)];
        store.advance(lease, Advance { ends: rest, fan_outs: Vec::new() }).await.unwrap().unwrap();
        let second = Closing { event: eyebolt_store::NewEvent { version: 2, ..ends(JobStatus::Succeeded).event }, ..ends(JobStatus::Succeeded) };
        store.close(lease, second, at(7)).await.unwrap().unwrap();
        assert_eq!((used().await.used, used().await.reserved), (3, 0));
    }

    async fn what_is_taken_over_is_there_from_the_start_and_free(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let lease = under_way(store, project, "k").await;
        store.advance(lease, fan_out(2)).await.unwrap().unwrap();
        let mut all: Vec<_> = (0..2).map(|task| end((1, Some(task)), StepStatus::Succeeded)).collect();
        all.push(end((1, None), StepStatus::Succeeded));
        store.advance(lease, Advance { ends: all, fan_outs: Vec::new() }).await.unwrap().unwrap();
        store.close(lease, ends(JobStatus::Succeeded), at(4)).await.unwrap().unwrap();
        let first = stored(store, project, lease.0).await;
        let mut new = NewJob { lease: Some(crate::sample::lease("w", 20)), ..job(project, "l") };
        new.steps[1].units = 0;
        new.taken_over = TakenOver { steps: vec![first.steps[1].clone()], tasks: first.tasks.clone() };
        let id = new.id;
        assert!(matches!(store.accept(new, at(5)).await.unwrap(), Acceptance::Accepted(_)));
        let second = stored(store, project, id).await;
        assert_eq!((second.steps[1].status, second.steps[0].status), (StepStatus::Succeeded, StepStatus::Pending));
        assert_eq!(second.tasks.iter().map(|task| &task.result).collect::<Vec<_>>(), first.tasks.iter().map(|task| &task.result).collect::<Vec<_>>());
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().reserved, 1);
        let done = Advance { ends: vec![end((0, None), StepStatus::Succeeded)], fan_outs: Vec::new() };
        store.advance((id, 1), done).await.unwrap().unwrap();
        store.close((id, 1), ends(JobStatus::Succeeded), at(6)).await.unwrap().unwrap();
        assert_eq!(store.balance(project, Mode::Live).await.unwrap().used, 4);
        assert_eq!(store.audit().await.unwrap(), Audit::default());
    }

    async fn versions_of_a_pipeline_count_up_and_one_is_meant(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let whose = (project, Mode::Live);
        let row = |text: &str| ("signs".to_owned(), format!("digest of {text}"), text.to_owned());
        let (first, created) = store.create_pipeline(whose, row("one"), at(1)).await.unwrap();
        assert_eq!((first.version, first.is_default, created), (1, true, true));
        let (same, created) = store.create_pipeline(whose, row("one"), at(2)).await.unwrap();
        assert_eq!((same, created), (first, false));
        let both = tokio::join!(
            store.create_pipeline(whose, row("two"), at(3)),
            store.create_pipeline(whose, row("three"), at(3))
        );
        let mut versions = [both.0.unwrap().0.version, both.1.unwrap().0.version];
        versions.sort_unstable();
        assert_eq!(versions, [2, 3]);
        assert!(store.set_default_pipeline(whose, ("signs".to_owned(), Some(1))).await.unwrap());
        assert!(!store.set_default_pipeline(whose, ("signs".to_owned(), Some(9))).await.unwrap());
        let one = async |name: &str, version: Option<u32>| {
            let found = store.pipeline(whose, (name.to_owned(), version)).await.unwrap();
            found.map(|found| (found.version, found.is_default))
        };
        assert_eq!(one("signs", None).await, Some((1, true)));
        assert_eq!(one("signs", Some(3)).await, Some((3, false)));
        assert!(store.set_default_pipeline(whose, ("signs".to_owned(), None)).await.unwrap());
        assert_eq!(one("signs", None).await, Some((3, true)), "the newest one");
        assert_eq!((one("signs", Some(4)).await, one("other", None).await), (None, None));
        assert!(!store.set_default_pipeline(whose, ("other".to_owned(), None)).await.unwrap());
        let test = store.pipeline((project, Mode::Test), ("signs".to_owned(), None)).await;
        assert_eq!(test, Ok(None), "test mode is apart");
    }

    async fn every_version_of_a_pipeline_is_found_and_listed_in_pages(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let whose = (project, Mode::Live);
        for (name, versions) in [("b", 1005), ("a", 2), ("c", 1)] {
            for version in 1..=versions {
                let row = (name.to_owned(), format!("{version}"), "{}".to_owned());
                store.create_pipeline(whose, row, at(1)).await.unwrap();
            }
        }
        let oldest = store.pipeline(whose, ("b".to_owned(), Some(1))).await.unwrap();
        assert_eq!(oldest.map(|found| found.digest), Some("1".to_owned()));
        assert!(store.set_default_pipeline(whose, ("b".to_owned(), Some(1))).await.unwrap());
        let page = async |name: Option<&str>, after: Option<(&str, u32)>, limit: u32| {
            let after = after.map(|(name, version)| (name.to_owned(), version));
            let filter = PipelineFilter { whose, name: name.map(str::to_owned), after, limit };
            let found = store.pipelines(filter).await.unwrap();
            found.into_iter().map(|one| (one.name, one.version)).collect::<Vec<_>>()
        };
        let named = |name: &str, versions: &[u32]| -> Vec<(String, u32)> {
            versions.iter().map(|version| (name.to_owned(), *version)).collect()
        };
        assert_eq!(page(None, None, 4).await, [named("a", &[2, 1]), named("b", &[1005, 1004])].concat());
        assert_eq!(page(None, Some(("b", 2)), 4).await, [named("b", &[1]), named("c", &[1])].concat());
        assert_eq!(page(None, Some(("c", 1)), 4).await, []);
        assert_eq!(page(Some("b"), None, 2).await, named("b", &[1005, 1004]));
        assert_eq!(page(Some("b"), Some(("b", 3)), 9).await, named("b", &[2, 1]));
        assert_eq!(page(Some("nobody"), None, 9).await, []);
    }
}
