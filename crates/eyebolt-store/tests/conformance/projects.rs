use eyebolt_store::{ApiSecret, KeyHasher, NewKey, Principal, Shown, Store};
use eyebolt_types::{
    DedupPolicy, Mode, Scope,
    id::{KeyId, ProjectId},
};

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

    async fn a_project_says_what_happens_to_images_it_has_sent_before(place: &Place) {
        let (store, made) = (&place.store, project(&place.store).await);
        let secret = ApiSecret::generate(Mode::Live);
        store.create_key(new_key(made.id, &secret), at(1)).await.unwrap();
        assert_eq!((made.dedup_policy, principal(store, &secret, 2).await.dedup_policy), (None, None));
        for policy in [Some(DedupPolicy::Reuse), Some(DedupPolicy::Off), None] {
            let changed = store.set_dedup_policy(made.id, policy).await.unwrap().expect("the project");
            assert_eq!((changed.id, changed.dedup_policy), (made.id, policy));
            assert_eq!(store.project_by_id(made.id).await, Ok(Some(changed)));
            assert_eq!(principal(store, &secret, 2).await.dedup_policy, policy);
        }
        assert_eq!(store.set_dedup_policy(ProjectId::new(), None).await, Ok(None));
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
        let again = store.rotate_key((first, at(90)), new_key(project, &new), at(61)).await;
        assert_eq!(again, Ok(None), "a key that ends sooner is not given more time");
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
