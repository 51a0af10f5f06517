//! Limits that are decided as a job is accepted.

use eyebolt_store::{
    Acceptance, Again, Cap, Caps, Charging, Closing, Held, KeyHasher, NewJob, NewKey, Overrun, ProjectChange,
    Retry, Store,
};
use eyebolt_types::{
    Change, JobStatus, LimitOverrides, LimitScope, Limits, Mode, Policy, Scope,
    id::{JobId, KeyId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, claim, closing, half_failed, job, lease, running},
};

const NOTHING: Cap = Cap { concurrent_jobs: None, units_per_month: None, recount: false };

fn of_project(cap: Cap) -> Caps {
    Caps { project: cap, key: NOTHING }
}

fn at_once(limit: u64) -> Caps {
    of_project(Cap { concurrent_jobs: Some(limit), ..NOTHING })
}

fn a_month(limit: u64) -> Caps {
    of_project(Cap { units_per_month: Some(limit), ..NOTHING })
}

/// A job of two units, under these limits, that runs at once.
fn under(caps: Caps, project: ProjectId, key: &str) -> NewJob {
    NewJob { caps: Some(caps), lease: Some(lease("w", 20)), ..job(project, key) }
}

fn over(scope: LimitScope, policy: Policy, (limit, taken, needed): (u64, u64, u64)) -> Acceptance {
    Acceptance::Over(Overrun { scope, policy, limit, taken, needed })
}

async fn units(store: &Store, project: ProjectId, caps: Caps) -> Option<u64> {
    store.held((project, KeyId::new(), Mode::Live), caps, at(2)).await.unwrap().0.units
}

/// So many that were accepted of jobs that come at once.
async fn accepted_of(stores: &[Store], jobs: impl Iterator<Item = NewJob>) -> usize {
    let accepting = jobs.zip(stores.iter().cycle()).map(|(job, store)| {
        let store = store.clone();
        tokio::spawn(async move { store.accept(job, at(1)).await.unwrap() })
    });
    let mut count = 0;
    for accepting in accepting.collect::<Vec<_>>() {
        count += usize::from(matches!(accepting.await.unwrap(), Acceptance::Accepted(_)));
    }
    count
}

on_both! {
    async fn so_many_jobs_at_once_and_no_more(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let (first, second) = (under(at_once(2), project, "a"), under(at_once(2), project, "b"));
        let lease = (first.id, 1);
        accept(store, first).await;
        accept(store, NewJob { lease: None, ..second }).await;
        let third = store.accept(under(at_once(2), project, "c"), at(1)).await.unwrap();
        assert_eq!(third, over(LimitScope::Project, Policy::ConcurrentJobs, (2, 2, 1)));
        let held = store.held((project, KeyId::new(), Mode::Live), at_once(2), at(2)).await;
        assert_eq!(held, Ok((Held { jobs: Some(2), units: None }, Held::default())));
        accept(store, NewJob { mode: Mode::Test, ..under(at_once(1), project, "t") }).await;

        store.close(lease, closing(JobStatus::Succeeded), at(3)).await.unwrap().unwrap();
        accept(store, under(at_once(2), project, "c")).await;
        let pending = claim(store, crate::sample::lease("w", 20), 10, at(4)).await.unwrap();
        assert_eq!(pending.len(), 1, "what is claimed is open all the same");
        let fourth = store.accept(under(at_once(2), project, "d"), at(4)).await.unwrap();
        assert!(matches!(fourth, Acceptance::Over(_)));
    }

    async fn of_many_at_once_on_two_servers_as_many_come_in_as_may(place: &Place) {
        let stores = [place.store.clone(), place.again()];
        let project = project(&place.store).await.id;
        let many = |caps, mode: Mode| {
            (0..40).map(move |n| NewJob { mode, ..under(caps, project, &format!("{mode:?}{n}")) })
        };
        assert_eq!(accepted_of(&stores, many(at_once(7), Mode::Live)).await, 7);
        assert_eq!(accepted_of(&stores, many(a_month(15), Mode::Test)).await, 7, "of two units each");
    }

    async fn groups_of_several_projects_do_not_wait_for_each_other_in_a_ring(place: &Place) {
        let stores = [place.store.clone(), place.again()];
        let mut projects = vec![project(&place.store).await.id];
        for name in ["b", "c", "d", "e"] {
            projects.push(place.store.create_project(name, at(0)).await.unwrap().unwrap().id);
        }
        let jobs = (0..100).map(|n| under(a_month(20), projects[(n * 7 + n / 5) % 5], &format!("k{n}")));
        assert_eq!(accepted_of(&stores, jobs).await, 50, "ten jobs of each");
    }

    async fn who_is_refused_leaves_nothing_behind_and_its_key_is_free(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let caps = of_project(Cap { concurrent_jobs: Some(0), units_per_month: Some(10), recount: false });
        let refused = store.accept(under(caps, project, "k"), at(1)).await.unwrap();
        assert_eq!(refused, over(LimitScope::Project, Policy::ConcurrentJobs, (0, 0, 1)));
        assert_eq!(units(store, project, caps).await, Some(0), "what was taken of the other limit went back");
        accept(store, under(a_month(10), project, "k")).await;
        assert_eq!(units(store, project, a_month(10)).await, Some(2));
        let keyless = NewJob { idempotency: None, ..under(at_once(1), project, "n") };
        assert!(matches!(store.accept(keyless, at(1)).await, Ok(Acceptance::Over(_))));
    }

    async fn a_month_counts_what_is_charged_and_what_runs(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        running(store, project, "before there was a limit").await;
        let job = |key: &str| under(a_month(8), project, key);
        let (good, half, bad) = (job("good"), job("half"), job("bad"));
        let ids = [good.id, half.id, bad.id];
        for job in [good, half, bad] {
            accept(store, job).await;
        }
        assert_eq!(units(store, project, a_month(8)).await, Some(8), "the earlier job among them");
        let refused = store.accept(job("more"), at(2)).await.unwrap();
        assert_eq!(refused, over(LimitScope::Project, Policy::UnitsPerMonth, (8, 8, 2)));

        let ends = [closing(JobStatus::Succeeded), half_failed(), closing(JobStatus::Canceled)];
        for (id, end) in ids.into_iter().zip(ends) {
            store.close((id, 1), end, at(3)).await.unwrap().unwrap();
        }
        assert_eq!(units(store, project, a_month(8)).await, Some(5));
        accept(store, job("more")).await;
        assert_eq!(units(store, project, a_month(8)).await, Some(7), "taken out once");
        assert!(matches!(store.accept(job("too much"), at(4)).await, Ok(Acceptance::Over(_))));

        let next_month = 40 * 24 * 3600;
        let later = NewJob { deadline: at(next_month + 600), ..job("later") };
        assert!(matches!(store.accept(later, at(next_month)).await, Ok(Acceptance::Accepted(_))));
    }

    async fn a_month_is_counted_anew_from_the_ledger(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        accept(store, under(a_month(10), project, "a")).await;
        let (without, _) = running(store, project, "without the limit").await;
        assert_eq!(units(store, project, a_month(10)).await, Some(2));
        let recount = of_project(Cap { units_per_month: Some(10), recount: true, ..NOTHING });
        accept(store, under(recount, project, "b")).await;
        assert_eq!(units(store, project, a_month(10)).await, Some(6));
        // One that is given back between two counts is taken out once.
        store.close((without, 1), closing(JobStatus::Canceled), at(3)).await.unwrap().unwrap();
        accept(store, under(recount, project, "c")).await;
        accept(store, under(a_month(10), project, "d")).await;
        assert_eq!(units(store, project, a_month(10)).await, Some(8));

        running(store, project, "once more without").await;
        let limits = Change::To(LimitOverrides([(Policy::UnitsPerMonth, Some(20))].into()));
        let change = ProjectChange { limits, ..ProjectChange::default() };
        store.change_project(project, change).await.unwrap().unwrap();
        assert_eq!(units(store, project, a_month(20)).await, Some(10), "a change of limits counts anew");
    }

    async fn an_answer_that_is_free_takes_nothing_of_the_month(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        accept(store, under(a_month(10), project, "a")).await;
        let free = Closing { charge: Charging::Duplicate, ..closing(JobStatus::Succeeded) };
        let answered = NewJob { lease: Some(lease("w", 20)), ..job(project, "again") };
        store.accept_answered(answered, free, at(2)).await.unwrap();
        assert_eq!(units(store, project, a_month(10)).await, Some(2));
        accept(store, under(of_project(Cap { recount: true, ..a_month(10).project }), project, "b")).await;
        assert_eq!(units(store, project, a_month(10)).await, Some(4), "counted anew, too");
    }

    async fn a_retry_needs_room_too(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let failed = under(a_month(3), project, "a");
        let id = failed.id;
        accept(store, failed).await;
        store.close((id, 1), half_failed(), at(3)).await.unwrap().unwrap();
        accept(store, under(a_month(3), project, "b")).await;
        let again = |caps| Again { key: KeyId::new(), caps: Some(caps), deadline: at(900), parts: None };
        let refused = store.retry((project, Mode::Live, id), again(a_month(3)), at(5)).await.unwrap();
        let month = Overrun { scope: LimitScope::Project, policy: Policy::UnitsPerMonth, limit: 3, taken: 3, needed: 1 };
        assert_eq!(refused, Retry::Over(month));
        let refused = store.retry((project, Mode::Live, id), again(at_once(1)), at(5)).await.unwrap();
        assert!(matches!(refused, Retry::Over(over) if over.policy == Policy::ConcurrentJobs));
        assert_eq!(store.retry((project, Mode::Live, id), again(a_month(4)), at(5)).await, Ok(Retry::Pending));
        assert_eq!(units(store, project, a_month(4)).await, Some(4));
    }

    async fn a_key_has_limits_of_its_own_beside_the_projects(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let limits = Limits([(Policy::ConcurrentJobs, 1)].into());
        let key = NewKey {
            project,
            mode: Mode::Live,
            name: "phone".to_owned(),
            scopes: vec![Scope::Analyze],
            hash: KeyHasher::new(b"not a secret").hash(&eyebolt_store::ApiSecret::generate(Mode::Live)),
            hint: "abcd".to_owned(),
            expires_at: None,
            limits: limits.clone(),
        };
        let key = store.create_key(key, at(1)).await.unwrap();
        assert_eq!(store.key(key).await.unwrap().unwrap().limits, limits);
        let caps = Caps {
            project: Cap { concurrent_jobs: Some(2), ..NOTHING },
            key: Cap { concurrent_jobs: Some(1), units_per_month: Some(3), recount: false },
        };
        let of_key = |name: &str| NewJob { key: Some(key), ..under(caps, project, name) };
        let first = of_key("a");
        let id: JobId = first.id;
        accept(store, first).await;
        let second = store.accept(of_key("b"), at(1)).await.unwrap();
        assert_eq!(second, over(LimitScope::Key, Policy::ConcurrentJobs, (1, 1, 1)));
        store.close((id, 1), closing(JobStatus::Succeeded), at(2)).await.unwrap().unwrap();
        let third = store.accept(of_key("c"), at(3)).await.unwrap();
        assert_eq!(third, over(LimitScope::Key, Policy::UnitsPerMonth, (3, 2, 2)));
        let held = store.held((project, key, Mode::Live), caps, at(3)).await.unwrap();
        assert_eq!(held, (Held { jobs: Some(0), units: None }, Held { jobs: Some(0), units: Some(2) }));
        assert_eq!(store.limit_key(key, Limits::default()).await, Ok(true));
        assert_eq!(store.key(key).await.unwrap().unwrap().limits, Limits::default());
        assert_eq!(store.limit_key(KeyId::new(), Limits::default()).await, Ok(false));
    }
}
