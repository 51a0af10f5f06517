use std::collections::HashSet;

use eyebolt_store::{Signal, Store};
use eyebolt_types::id::JobId;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use crate::place::Place;

/// A second server, and what it hears once it is listening.
async fn other(place: &Place) -> (Store, Receiver<Signal>) {
    let other = place.again();
    let mut hears = other.hear();
    assert_eq!(hears.recv().await, Ok(Signal::Pending), "it may have missed something before");
    (other, hears)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_one_database_hear_each_other_and_not_themselves() {
    let place = Place::postgres();
    let ((near, mut near_hears), (far, mut far_hears)) = (other(&place).await, other(&place).await);
    let (first, second) = (JobId::new(), JobId::new());
    near.tell(Signal::Ended(first));
    assert_eq!(far_hears.recv().await, Ok(Signal::Ended(first)));
    far.tell(Signal::Cancel(second));
    assert_eq!(near_hears.recv().await, Ok(Signal::Cancel(second)), "nothing of its own came before");
    assert_eq!(far_hears.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_one_moment_are_told_together() {
    let place = Place::postgres();
    let ((near, _), (_far, mut far_hears)) = (other(&place).await, other(&place).await);
    let jobs: Vec<_> = (0..500).map(|_| JobId::new()).collect();
    for job in &jobs {
        near.tell(Signal::Pending);
        near.tell(Signal::Ended(*job));
    }
    let (mut ended, mut pending) = (HashSet::new(), 0);
    while ended.len() < jobs.len() {
        match far_hears.recv().await {
            Ok(Signal::Ended(job)) => assert!(ended.insert(job), "it is told once"),
            Ok(Signal::Pending) => pending += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, jobs.into_iter().collect());
    assert!((1..50).contains(&pending), "{pending} of 500");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_one_server_and_nobody_to_tell() {
    let place = Place::sqlite();
    let mut hears = place.store.hear();
    place.store.tell(Signal::Pending);
    assert_eq!(hears.try_recv(), Err(TryRecvError::Empty));
}
