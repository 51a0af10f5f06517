//! Clocks that are set while jobs run.

use std::time::Duration;

use eyebolt_store::{Cancellation, Lease};
use eyebolt_types::Mode;
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    app::{Setup, TestApp},
    database::{Schema, on_both},
    wire::key,
};

fn beating_often(setup: Setup) -> Setup {
    let mut setup = setup;
    setup.rules.jobs.heartbeat = Duration::from_millis(20);
    setup
}

/// Begins a job that waits, and learns its name.
async fn waiting(app: &mut TestApp, name: &'static str) -> String {
    let begun = app.analyze(b"wait", &[key(name), ("Prefer", "respond-async")]).await;
    assert_eq!(begun.status, 202);
    assert_eq!(app.running.recv().await, Some(true));
    begun.job()
}

/// Resolves once the server has looked at its leases since now: it learns there that a job is to be canceled. Whoever asks
/// here is somebody else who tells nobody.
async fn look_at_leases(app: &mut TestApp, sacrifice: &str) {
    let named = (app.project, Mode::Live, sacrifice.parse().unwrap());
    let lease = Lease { owner: "nobody".to_owned(), until: app.clock.now() };
    let canceled = app.store.cancel(named, lease, app.clock.now()).await;
    assert_eq!(canceled, Ok(Cancellation::Requested));
    assert_eq!(app.running.recv().await, Some(false), "it was stopped");
}

/// The job ends as if nothing had been.
async fn assert_ran_once(app: &mut TestApp, job: &str) {
    app.release();
    let ended = app.end_of(job).await;
    assert_eq!((&ended["status"], &ended["steps"][0]["attempt"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(app.running.recv().await, Some(false));
    assert_eq!(app.runs(), 0, "nothing began again");
}

on_both! {
    // Matrix row 26.
    async fn a_clock_that_jumps_by_an_hour_takes_no_job_from_its_worker(setup: Setup) {
        let mut app = TestApp::set_up(beating_often(setup)).await;
        for (hours, names) in [(1, ["a", "b", "c"]), (-1, ["d", "e", "f"])] {
            let job = waiting(&mut app, names[0]).await;
            let others = [waiting(&mut app, names[1]).await, waiting(&mut app, names[2]).await];
            app.clock.advance(SignedDuration::from_hours(hours));
            // Twice: after the first look it has also looked for dead workers.
            for other in &others {
                look_at_leases(&mut app, other).await;
            }
            assert_ran_once(&mut app, &job).await;
            for other in &others {
                assert_eq!(app.end_of(other).await["status"], "canceled");
            }
        }
        app.assert_charged(2).await;
    }
}

// Matrix row 26.
#[tokio::test]
async fn a_server_whose_machine_is_set_an_hour_ahead_takes_no_jobs_from_another() {
    let schema = Schema::new();
    let steady = || Setup { steady: true, ..beating_often(Setup::on(&schema)) };
    let (mut app, mut ahead) = (TestApp::set_up(steady()).await, TestApp::set_up(steady()).await);
    let job = waiting(&mut app, "a").await;
    let others = [waiting(&mut ahead, "b").await, waiting(&mut ahead, "c").await];
    ahead.clock.advance(SignedDuration::from_hours(1));
    for other in &others {
        look_at_leases(&mut ahead, other).await;
    }
    assert_eq!(ahead.runs(), 0, "it took over nothing");
    assert_ran_once(&mut app, &job).await;
    for other in &others {
        assert_eq!(ahead.end_of(other).await["status"], "canceled");
    }
    app.assert_charged(1).await;
}
