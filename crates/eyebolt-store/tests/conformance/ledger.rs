use eyebolt_store::{Audit, Balance, Lease, NewJob};
use eyebolt_types::{JobStatus, Mode};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accepted, closing, ended, half_failed, job, running},
};

on_both! {
    async fn a_price_is_reserved_and_then_used_or_released(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let mut leases = Vec::new();
        for key in ["full", "part", "none"] {
            leases.push(running(store, project, key).await);
        }
        let balance = || store.balance(project, Mode::Live);
        assert_eq!(balance().await, Ok(Balance { reserved: 6, used: 0 }));
        let ends = [closing(JobStatus::Succeeded), half_failed(), closing(JobStatus::Failed)];
        let expected = [(4, 2), (2, 3), (0, 3)];
        for ((lease, end), (reserved, used)) in leases.into_iter().zip(ends).zip(expected) {
            store.close(lease, end, at(3)).await.unwrap().unwrap();
            assert_eq!(balance().await, Ok(Balance { reserved, used }));
        }
        assert_eq!(store.balance(project, Mode::Test).await, Ok(Balance::default()));
    }

    async fn a_project_pays_for_itself_alone(place: &Place) {
        let store = &place.store;
        let acme = project(store).await.id;
        let other = store.create_project("other", at(0)).await.unwrap().unwrap().id;
        ended(store, acme, ("k", closing(JobStatus::Succeeded))).await;
        accepted(store, other, "k").await;
        assert_eq!(store.balance(acme, Mode::Live).await, Ok(Balance { reserved: 0, used: 2 }));
        assert_eq!(store.balance(other, Mode::Live).await, Ok(Balance { reserved: 2, used: 0 }));
    }

    async fn the_audit_names_a_job_that_kept_its_reservation(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let id = ended(store, project, ("k", closing(JobStatus::Canceled))).await;
        place.check_ledger().await;
        place.tamper("DELETE FROM ledger_transfers WHERE transfer = 'release/1'");
        let found = store.audit().await.unwrap();
        assert!(!found.is_sound());
        assert_eq!(found, Audit { unsettled: vec![id.to_string()], ..Audit::default() });
    }

    async fn the_audit_names_a_job_without_a_reservation(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let id = accepted(store, project, "k").await;
        place.check_ledger().await;
        place.tamper("DELETE FROM ledger_transfers");
        let found = store.audit().await.unwrap();
        assert!(!found.is_sound());
        assert_eq!(found, Audit { unreserved: vec![id.to_string()], ..Audit::default() });
    }

    async fn the_audit_names_a_job_that_used_more_than_it_reserved(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let id = ended(store, project, ("k", closing(JobStatus::Succeeded))).await;
        place.check_ledger().await;
        place.tamper("UPDATE ledger_transfers SET units = 1 WHERE transfer = 'reserve/1'");
        let found = store.audit().await.unwrap();
        let named = vec![id.to_string()];
        assert!(!found.is_sound());
        assert_eq!(found, Audit { unsettled: named.clone(), overdrawn: named, ..Audit::default() });
    }

    async fn the_audit_names_a_job_that_was_charged_for_what_failed(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let id = ended(store, project, ("k", closing(JobStatus::Succeeded))).await;
        place.check_ledger().await;
        place.tamper("UPDATE steps SET status = 'failed' WHERE position = 1");
        let found = store.audit().await.unwrap();
        assert!(!found.is_sound());
        assert_eq!(found, Audit { overcharged: vec![id.to_string()], ..Audit::default() });
    }

    async fn the_audit_names_a_job_that_is_gone_and_was_not_removed(place: &Place) {
        let (store, project) = (&place.store, project(&place.store).await.id);
        let old = ended(store, project, ("old", closing(JobStatus::Succeeded))).await;
        let removed = store.remove_jobs(at(10_000), (None, 10), at(10_000)).await.unwrap();
        assert_eq!((removed.count, store.audit().await), (1, Ok(Audit::default())));

        let lease = Lease { owner: "w".to_owned(), until: at(10_020) };
        let young = NewJob { lease: Some(lease), ..job(project, "young") };
        let id = young.id;
        store.accept(young, at(10_001)).await.unwrap();
        store.close((id, 1), closing(JobStatus::Succeeded), at(10_003)).await.unwrap().unwrap();
        place.check_ledger().await;
        place.tamper(&format!("DELETE FROM steps WHERE job_id = '{id}'; DELETE FROM jobs WHERE id = '{id}'"));
        let found = store.audit().await.unwrap();
        assert!(!found.is_sound());
        assert_eq!(found, Audit { lost: vec![id.to_string()], ..Audit::default() }, "{old} was removed");
    }
}
