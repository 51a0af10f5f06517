use eyebolt_store::{Audit, Balance, NewJob};
use eyebolt_types::{JobStatus, Mode};

use crate::place::{Place, accepted, at, claim, closing, job, on_both, project};

on_both! {
    async fn a_price_is_reserved_and_then_used_or_released(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let (full, part, none) =
            (accepted(store, project, "a").await, accepted(store, project, "b").await, accepted(store, project, "c").await);
        let balance = || store.balance(project, Mode::Live);
        assert_eq!(balance().await, Ok(Balance { reserved: 6, used: 0 }));
        let leased = store.claim(claim("w", 20), at(2)).await.unwrap();
        for (id, used) in [(full, 2), (part, 1), (none, 0)] {
            let token = leased.iter().find(|job| job.id == id).unwrap().token;
            store.close((id, token), closing(JobStatus::Succeeded, used), at(3)).await.unwrap().unwrap();
        }
        assert_eq!(balance().await, Ok(Balance { reserved: 0, used: 3 }));
        assert_eq!(store.balance(project, Mode::Test).await, Ok(Balance::default()));
        assert_eq!(store.audit().await, Ok(Audit::default()));
    }

    async fn no_more_is_charged_than_was_reserved(place: Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let free = NewJob { units: 0, ..job(project, "free") };
        store.accept(free.clone(), at(1)).await.unwrap();
        let lease = store.claim(claim("w", 20), at(2)).await.unwrap().remove(0);
        store.close((free.id, lease.token), closing(JobStatus::Succeeded, 7), at(3)).await.unwrap().unwrap();
        assert_eq!(store.balance(project, Mode::Live).await, Ok(Balance::default()));
        assert_eq!(store.audit().await, Ok(Audit::default()));
    }
}
