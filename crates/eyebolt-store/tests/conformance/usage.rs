use eyebolt_store::{Charge, NewJob, NewStep, Replays, Store, UsageKind, UsageLine};
use eyebolt_types::{
    Feature, JobStatus, Mode,
    id::{JobId, KeyId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, closing, ended, half_failed, job, lease},
};

/// The first instants of the day of [`at`], and of the next one.
const DAY: i64 = -8 * 3600;
const NEXT: i64 = DAY + 86_400;

/// A job of that key and mode which succeeds then.
async fn used(store: &Store, project: ProjectId, (key, mode, second): (KeyId, Mode, i64)) -> JobId {
    let asked = job(project, "none");
    let done = NewJob { key: Some(key), mode, idempotency: None, lease: Some(lease("w", 20)), ..asked };
    let id = done.id;
    accept(store, done).await;
    store.close((id, 1), closing(JobStatus::Succeeded), at(second)).await.unwrap().unwrap();
    id
}

fn line(key: KeyId, (day, feature): (i64, Feature), count: u64) -> UsageLine {
    UsageLine {
        day: at(day),
        key: Some(key),
        feature: Some(feature),
        model: Some(format!("{}-1", feature.name())),
        kind: UsageKind::Step,
        count,
        units: count,
    }
}

on_both! {
    async fn usage_is_told_by_day_key_feature_and_model(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let (key, other) = (KeyId::new(), KeyId::new());
        for second in [3, 4, NEXT - 1] {
            used(store, project, (key, Mode::Live, second)).await;
        }
        used(store, project, (other, Mode::Live, 5)).await;
        used(store, project, (key, Mode::Live, NEXT)).await;
        used(store, project, (key, Mode::Test, 5)).await;
        let usage = |from, before| store.usage((project, Mode::Live), (at(from), at(before)));

        let today: Vec<_> = [Feature::Objects, Feature::Text].into_iter()
            .flat_map(|feature| [line(key, (DAY, feature), 3), line(other, (DAY, feature), 1)]).collect();
        assert_eq!(usage(DAY, NEXT).await.unwrap(), today);
        let tomorrow = [Feature::Objects, Feature::Text].map(|feature| line(key, (NEXT, feature), 1));
        assert_eq!(usage(NEXT, NEXT + 86_400).await.unwrap(), tomorrow);
        assert_eq!(usage(DAY, NEXT + 1).await.unwrap(), [today, tomorrow.into()].concat());
        let part = usage(4, 5).await.unwrap();
        let one = [Feature::Objects, Feature::Text].map(|feature| line(key, (DAY, feature), 1));
        assert_eq!(part, one, "until before");
        let sandbox = store.usage((project, Mode::Test), (at(DAY), at(NEXT))).await.unwrap();
        assert_eq!(sandbox, one);
    }

    async fn models_are_told_apart_and_jobs_without_key_or_model_are_counted(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        for model in [Some("a"), Some("b"), Some("b"), None] {
            let mut new = NewJob { lease: Some(lease("w", 20)), idempotency: None, ..job(project, "none") };
            new.steps = vec![NewStep { model: model.map(str::to_owned), ..new.steps[0].clone() }];
            accept(store, new.clone()).await;
            let mut end = closing(JobStatus::Succeeded);
            end.steps.truncate(1);
            store.close((new.id, 1), end, at(3)).await.unwrap().unwrap();
        }
        let lines = store.usage((project, Mode::Live), (at(0), at(60))).await.unwrap();
        let mut counts: Vec<_> =
            lines.iter().map(|line| (line.model.as_deref(), line.key, line.count, line.units)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(None, None, 1, 1), (Some("a"), None, 1, 1), (Some("b"), None, 2, 2)]);
    }

    async fn what_is_reserved_or_failed_is_not_used(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        accept(store, job(project, "waits")).await;
        ended(store, project, ("canceled", closing(JobStatus::Canceled))).await;
        ended(store, project, ("half", half_failed())).await;
        let lines = store.usage((project, Mode::Live), (at(0), at(60))).await.unwrap();
        let lines: Vec<_> = lines.iter().map(|line| (line.feature, line.kind, line.units)).collect();
        assert_eq!(lines, [(Some(Feature::Objects), UsageKind::Step, 1)]);
    }

    async fn replays_are_counted_by_day_and_key_and_cost_nothing(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let (key, other) = (KeyId::new(), KeyId::new());
        let replays = |key| Replays { project, mode: Mode::Live, key };
        store.count_replays(vec![(replays(key), 2), (replays(other), 1)], at(NEXT - 1)).await.unwrap();
        store.count_replays(vec![(replays(key), 3)], at(DAY)).await.unwrap();
        store.count_replays(vec![(replays(key), 7)], at(NEXT)).await.unwrap();
        store.count_replays(vec![(Replays { mode: Mode::Test, ..replays(key) }, 9)], at(3)).await.unwrap();
        let usage = async |from, before| {
            let lines = store.usage((project, Mode::Live), (at(from), at(before))).await.unwrap();
            let what = (UsageKind::Replay, 0, None);
            assert!(lines.iter().all(|line| (line.kind, line.units, line.feature) == what), "{lines:?}");
            lines.into_iter().map(|line| (line.day, line.key.unwrap(), line.count)).collect::<Vec<_>>()
        };
        let today = [(at(DAY), key, 5), (at(DAY), other, 1)];
        assert_eq!(usage(DAY, NEXT).await, today);
        assert_eq!(usage(DAY, NEXT + 1).await, [&today[..], &[(at(NEXT), key, 7)]].concat());
        assert_eq!(usage(NEXT, NEXT + 86_400).await, [(at(NEXT), key, 7)]);
        assert_eq!(usage(NEXT + 86_400, NEXT + 2 * 86_400).await, []);
    }

    async fn charges_are_paged_without_gaps_or_repeats(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        let key = KeyId::new();
        let mut expected = Vec::new();
        let charged = [(project, 9), (project, 5), (other, 5), (project, 5), (project, 3), (other, 9)];
        for (whose, second) in charged {
            let job = used(store, whose, (key, Mode::Live, second)).await;
            expected.extend([0, 1].map(|step| (at(second), job, format!("use/{step}"))));
        }
        expected.sort();
        used(store, project, (key, Mode::Live, 11)).await;

        let name = |charge: &Charge| (charge.created_at, charge.job, charge.transfer.clone());
        for limit in [1, 3, 5, 100] {
            let (mut all, mut after) = (Vec::<Charge>::new(), (at(0), String::new()));
            loop {
                let page = store.charges(after.clone(), at(10), limit).await.unwrap();
                assert!(page.len() <= limit as usize);
                let Some(last) = page.last() else { break };
                after = (last.created_at, format!("{}/{}", last.job, last.transfer));
                all.extend(page);
            }
            assert_eq!(all.iter().map(name).collect::<Vec<_>>(), expected, "pages of {limit}");
            let first = &all[0];
            assert_eq!((first.project, first.mode, first.units), (project, Mode::Live, 1));
            assert_eq!((&first.key, first.feature.as_deref()), (&Some(key.to_string()), Some("objects")));
            assert_eq!(first.model.as_deref(), Some("objects-1"));
        }
        let until = store.charges((at(0), String::new()), at(5), 100).await.unwrap();
        assert_eq!(until.len(), 8, "the last instant is inside");
    }
}
