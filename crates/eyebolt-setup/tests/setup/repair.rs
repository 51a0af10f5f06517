//! What was there is missing, changed, half done, or being done by somebody else.

use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use crate::workshop::{CAT, Workshop};

/// Gives a file another time of change: a test's own writes can fall into one tick of the clock.
fn touch(path: &Path) {
    let hour_old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(path).unwrap().set_modified(hour_old).unwrap();
}

#[test]
fn a_changed_file_has_its_source_replaced() {
    let shop = Workshop::new();
    shop.run(&shop.given()).0.unwrap();
    let weights = shop.model("models/cat@1/model.onnx");
    let damaged = vec![b'x'; CAT.len()];
    fs::write(&weights, damaged).unwrap();
    touch(&weights);
    assert!(!shop.catalogue.is_complete(&shop.path("models")));

    let (result, events) = shop.run(&shop.given());

    assert_eq!(result.unwrap().installed, ["cat@1"]);
    assert!(events.contains(&"there dog@1 23".to_owned()));
    assert_eq!(fs::read(&weights).unwrap(), CAT);
    assert!(shop.catalogue.is_complete(&shop.path("models")));
}

#[test]
fn a_missing_file_has_its_source_replaced() {
    let shop = Workshop::new();
    shop.run(&shop.given()).0.unwrap();
    fs::remove_file(shop.model("models/dog@1/model.onnx")).unwrap();
    assert_eq!(shop.run(&shop.given()).0.unwrap().installed, ["dog@1"]);
}

#[test]
fn a_file_that_only_looks_new_is_hashed_and_kept() {
    let shop = Workshop::new();
    shop.run(&shop.given()).0.unwrap();
    touch(&shop.model("models/cat@1/model.onnx"));
    assert_eq!(shop.run(&shop.given()).0.unwrap().already_there, ["cat@1", "dog@1"]);
}

#[test]
fn a_lost_or_broken_stamp_costs_no_archive() {
    let shop = Workshop::new();
    shop.run(&shop.given()).0.unwrap();
    fs::write(shop.model("setup.json"), b"{\"models/cat@1/mod").unwrap();
    fs::remove_dir_all(shop.path("archives")).unwrap();
    assert_eq!(shop.run(&shop.given()).0.unwrap().already_there, ["cat@1", "dog@1"]);
    assert!(fs::read_to_string(shop.model("setup.json")).unwrap().ends_with('}'));
}

#[test]
fn a_killed_run_leaves_no_half_model_and_its_rests_are_cleared() {
    let shop = Workshop::new();
    // As a killed run leaves it: the lock file, and files in the scratch only.
    let rest = shop.model(".setup-tmp/part-abc");
    fs::create_dir_all(&rest).unwrap();
    fs::write(rest.join("model.onnx"), &CAT[..5]).unwrap();
    fs::write(shop.model(".setup.lock"), b"").unwrap();
    assert!(!shop.catalogue.is_complete(&shop.path("models")));

    assert_eq!(shop.run(&shop.given()).0.unwrap().installed, ["cat@1", "dog@1"]);

    assert!(!shop.model(".setup-tmp").exists());
    assert_eq!(fs::read(shop.model("models/cat@1/model.onnx")).unwrap(), CAT);
}

#[test]
fn runs_at_the_same_time_do_the_work_once() {
    let shop = Workshop::new();
    let options = shop.given();

    let summaries: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| shop.run(&options).0.unwrap())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });

    let mut installed: Vec<usize> = summaries.iter().map(|summary| summary.installed.len()).collect();
    installed.sort_unstable();
    assert_eq!(installed, [0, 0, 0, 2]);
    assert!(shop.catalogue.is_complete(&shop.path("models")));
}
