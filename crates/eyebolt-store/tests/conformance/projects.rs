use eyebolt_store::{ApiSecret, KeyHasher, NewKey, Principal, ProjectChange, Shown, Store};
use eyebolt_types::{
    Change, DedupPolicy, LimitOverrides, Limits, Mode, Policy, Scope,
    id::{KeyId, ProjectId},
};
use jiff::SignedDuration;

use crate::place::{Place, at, on_both, project};

fn hasher() -> KeyHasher {
    KeyHasher::new(b"not a secret")
}

fn new_key(project: ProjectId, secret: &ApiSecret) -> NewKey {
    NewKey {
        project,
        mode: secret.mode(),
        name: "phone".to_owned(),
        scopes: vec![Scope::Analyze, Scope::Read],
        hash: hasher().hash(secret),
        hint: secret.hint().to_owned(),
        expires_at: None,
        limits: Limits::default(),
    }
}

/// Whom a shown key stands for.
async fn principal(store: &Store, secret: &ApiSecret, seconds: i64) -> Principal {
    match store.authenticate(hasher().hash(secret), at(seconds)).await {
        Ok(Shown::Valid(principal)) => principal,
        other => panic!("{other:?}"),
    }
}

on_both! {
    async fn a_project_is_made_once(place: &Place) {
        let made = project(&place.store).await;
        assert_eq!(place.store.create_project("acme", at(5)).await, Ok(None));
        assert_eq!(place.store.project("acme").await, Ok(Some(made.clone())));
        assert_eq!(place.store.project("other").await, Ok(None));
        assert_eq!(place.store.project_by_id(made.id).await, Ok(Some(made.clone())));
        assert_eq!(place.store.project_by_id(ProjectId::new()).await, Ok(None));
        assert_eq!(place.store.projects().await, Ok(vec![made]));
    }

    async fn what_is_agreed_with_a_project_can_change(place: &Place) {
        let (store, made) = (&place.store, project(&place.store).await);
        let secret = ApiSecret::generate(Mode::Live);
        store.create_key(new_key(made.id, &secret), at(1)).await.unwrap();
        let change = async |change: ProjectChange| {
            let changed = store.change_project(made.id, change).await.unwrap().expect("the project");
            assert_eq!(store.project_by_id(made.id).await, Ok(Some(changed.clone())));
            let who = principal(store, &secret, 2).await;
            assert_eq!((who.dedup_policy, &who.plan, &who.limits), (changed.dedup_policy, &changed.plan, &changed.limits));
            changed
        };
        assert_eq!(change(ProjectChange::default()).await, made, "nothing is changed");
        let reuse = ProjectChange { dedup_policy: Change::To(Some(DedupPolicy::Reuse)), ..ProjectChange::default() };
        assert_eq!(change(reuse).await.dedup_policy, Some(DedupPolicy::Reuse));
        let limits = LimitOverrides([(Policy::BytesPerDay, Some(5)), (Policy::ReadsPerMinute, None)].into());
        let plan = ProjectChange {
            plan: Change::To(Some("gold".to_owned())),
            limits: Change::To(limits.clone()),
            ..ProjectChange::default()
        };
        let changed = change(plan).await;
        assert_eq!((changed.plan.as_deref(), changed.limits), (Some("gold"), limits));
        assert_eq!(changed.dedup_policy, Some(DedupPolicy::Reuse), "it stays");
        let back = ProjectChange { dedup_policy: Change::To(None), plan: Change::To(None), limits: Change::To(LimitOverrides::default()) };
        assert_eq!(change(back).await, made);
        assert_eq!(store.change_project(ProjectId::new(), ProjectChange::default()).await, Ok(None));
    }

    async fn a_key_opens_its_project_until_it_ends(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let secret = ApiSecret::generate(Mode::Test);
        let key = new_key(project, &secret);
        let id = store.create_key(NewKey { expires_at: Some(at(100)), ..key }, at(1)).await.unwrap();
        let who = |now| store.authenticate(hasher().hash(&secret), at(now));

        let principal = principal(store, &secret, 2).await;
        assert_eq!((principal.key, principal.project, principal.mode), (id, project, Mode::Test));
        assert_eq!(principal.scopes, [Scope::Analyze, Scope::Read]);
        let other = hasher().hash(&ApiSecret::generate(Mode::Test));
        assert_eq!(store.authenticate(other, at(2)).await, Ok(Shown::Unknown));
        assert_eq!(who(99).await, Ok(Shown::Valid(principal)));
        assert_eq!(who(100).await, Ok(Shown::Expired));

        assert_eq!(store.revoke_key(id, at(3)).await, Ok(true));
        assert_eq!(store.revoke_key(id, at(4)).await, Ok(false), "once");
        assert_eq!(who(5).await, Ok(Shown::Revoked));
        let info = store.key(id).await.unwrap().unwrap();
        assert_eq!((info.revoked_at, info.expires_at), (Some(at(3)), Some(at(100))));
        assert_eq!(store.keys(project).await, Ok(vec![info]));
        assert_eq!(store.key(KeyId::new()).await, Ok(None));
    }

    async fn a_rotated_key_overlaps_with_the_old_one(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let [old, new] = [(); 2].map(|()| ApiSecret::generate(Mode::Live));
        let first = store.create_key(new_key(project, &old), at(1)).await.unwrap();
        let second = store.rotate_key((first, at(60)), new_key(project, &new), at(2)).await.unwrap().unwrap();

        assert_eq!(principal(store, &old, 59).await.key, first);
        assert_eq!(principal(store, &new, 60).await.key, second);
        assert_eq!(store.authenticate(hasher().hash(&old), at(60)).await, Ok(Shown::Expired));
        let again = store.rotate_key((first, at(90)), new_key(project, &new), at(60)).await;
        assert_eq!(again, Ok(None), "it is over");
    }

    async fn a_key_is_rotated_as_often_as_its_end_allows_and_its_end_is_never_put_off(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let endless = NewKey { expires_at: None, ..new_key(project, &ApiSecret::generate(Mode::Live)) };
        let ending = NewKey { expires_at: Some(at(100)), ..new_key(project, &ApiSecret::generate(Mode::Live)) };
        let (endless, ending) = (store.create_key(endless, at(1)).await, store.create_key(ending, at(1)).await);
        for (key, made_for) in [(endless.unwrap(), None), (ending.unwrap(), Some(99))] {
            for (until, now, ends) in [(50, 2, 50), (50, 3, 50), (70, 4, 50), (40, 5, 40), (5, 5, 5)] {
                let new = new_key(project, &ApiSecret::generate(Mode::Live));
                assert!(store.rotate_key((key, at(until)), new, at(now)).await.unwrap().is_some(), "{until} at {now}");
                let info = store.key(key).await.unwrap().unwrap();
                assert_eq!(info.expires_at, Some(at(ends)), "{until} at {now}");
                assert_eq!(info.made_for, made_for.map(SignedDuration::from_secs));
            }
            let new = new_key(project, &ApiSecret::generate(Mode::Live));
            assert_eq!(store.rotate_key((key, at(90)), new, at(5)).await, Ok(None));
        }
    }

    async fn the_last_use_is_written_once_a_minute(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let id = store.create_key(new_key(project, &ApiSecret::generate(Mode::Live)), at(1)).await.unwrap();
        for (now, seen) in [(10, 10), (20, 10), (69, 10), (71, 71)] {
            store.key_used(id, at(now)).await.unwrap();
            assert_eq!(store.keys(project).await.unwrap()[0].last_used_at, Some(at(seen)), "at {now}");
        }
    }

    async fn another_hasher_is_noticed(place: &Place) {
        assert_eq!(place.store.knows_hasher(&hasher()).await, Ok(true), "the first one becomes it");
        let store = place.again();
        assert_eq!(store.knows_hasher(&KeyHasher::new(b"another")).await, Ok(false));
        assert_eq!(store.knows_hasher(&hasher()).await, Ok(true));
    }
}
