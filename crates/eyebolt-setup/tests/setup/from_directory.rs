//! Archives that are on disk already.

use std::fs;

use eyebolt_setup::{Options, Summary};

use crate::workshop::{CAT, DOG, Workshop, sha256};

#[test]
fn everything_for_this_platform_is_installed_once() {
    let shop = Workshop::new();

    let (first, events) = shop.run(&shop.given());

    let expected = Summary {
        installed: vec!["cat@1".to_owned(), "dog@1".to_owned()],
        already_there: vec![],
        skipped: vec!["No fish here: use a cat.".to_owned()],
        bytes: 62,
        models_dir: shop.path("models"),
    };
    assert_eq!(first.unwrap(), expected);
    let expected = [
        "skipped fish@1",
        "verified cat-1.0-py3-none-any.whl",
        "installed cat@1 39",
        "verified dog-2.0.tgz",
        "installed dog@1 23",
    ];
    assert_eq!(events, expected);
    assert_eq!(fs::read(shop.model("models/cat@1/model.onnx")).unwrap(), CAT);
    assert_eq!(fs::read(shop.model("models/cat@1/labels.txt")).unwrap(), b"tabby\nsiamese\n");
    assert_eq!(fs::read(shop.model("models/cat@1/NOTICE")).unwrap(), b"A cat.\n");
    assert_eq!(fs::read(shop.model("models/dog@1/model.onnx")).unwrap(), DOG.concat());
    assert!(shop.catalogue.is_complete(&shop.path("models")));

    let (second, events) = shop.run(&shop.given());

    let second = second.unwrap();
    assert_eq!((second.installed, second.bytes), (vec![], 0));
    assert_eq!(second.already_there, ["cat@1", "dog@1"]);
    assert_eq!(events, ["there cat@1 39", "there dog@1 23", "skipped fish@1"], "no archive is looked at");
}

#[test]
fn only_what_is_named_is_installed() {
    let shop = Workshop::new();
    let only = |name: &str| Options { only: vec![name.to_owned()], ..shop.given() };

    assert_eq!(shop.run(&only("dog")).0.unwrap().installed, ["dog@1"]);
    assert!(!shop.model("models/cat@1").exists());
    assert!(!shop.catalogue.is_complete(&shop.path("models")));
    assert_eq!(shop.run(&only("cat@1")).0.unwrap().installed, ["cat@1"]);

    let unknown = shop.run(&only("cow")).0.unwrap_err();
    assert_eq!(unknown.to_string(), "nothing here is called \"cow\": choose from cat@1, dog@1, fish@1");
    let elsewhere = shop.run(&only("fish")).0.unwrap_err();
    assert_eq!(elsewhere.to_string(), "No fish here: use a cat.");
}

#[test]
fn all_missing_archives_are_named_before_any_work() {
    let shop = Workshop::new();
    fs::remove_file(shop.path("archives/dog-2.0.tgz")).unwrap();
    fs::remove_file(shop.path("archives/cat-1.0-py3-none-any.whl")).unwrap();

    let (result, events) = shop.run(&shop.given());

    let expected = format!(
        "{} lacks cat-1.0-py3-none-any.whl (pip download --no-deps --only-binary :all: --python-version 3.11 \
         -d DIR cat==1.0), dog-2.0.tgz (npm pack --ignore-scripts --pack-destination DIR dog@2.0)",
        shop.path("archives").display()
    );
    assert_eq!(result.unwrap_err().to_string(), expected);
    assert_eq!(events, ["skipped fish@1"]);
}

#[test]
fn an_archive_with_another_digest_is_refused_and_left_alone() {
    let shop = Workshop::new();
    let archive = shop.path("archives/cat-1.0-py3-none-any.whl");
    fs::write(&archive, b"half a").unwrap();

    let refused = shop.run(&shop.given()).0.unwrap_err().to_string();

    assert!(refused.starts_with(&format!(
        "{} is not the pinned archive: sha256 {}",
        archive.display(),
        sha256(b"half a")
    )));
    assert_eq!(fs::read(&archive).unwrap(), b"half a");
    assert!(!shop.model("models").exists());
}

#[test]
fn a_result_with_another_digest_is_not_installed() {
    let shop = Workshop::with_cat(CAT, &sha256(b"another cat"));

    let refused = shop.run(&shop.given()).0.unwrap_err();

    let (found, expected) = (sha256(CAT), sha256(b"another cat"));
    let reason = format!("the result has the sha256 {found} instead of {expected}");
    assert_eq!(refused.to_string(), format!("models/cat@1/model.onnx could not be made: {reason}"));
    assert!(!shop.model("models").exists());
    assert!(!shop.model(".setup-tmp").exists(), "unfinished files go with the run");
}

#[test]
fn a_place_that_is_no_directory_is_named() {
    let shop = Workshop::new();
    fs::write(shop.path("models"), b"in the way").unwrap();
    let refused = shop.run(&shop.given()).0.unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("could not create {}: ", shop.path("models").display())),
        "{refused}"
    );
}
