//! Package clients: stand-ins written as shell scripts.
#![cfg(unix)]

use std::fs;

use eyebolt_setup::Options;

use crate::workshop::{Workshop, sha256};

/// Copies an archive to where `pip download … -d DIR` and `npm pack … --pack-destination DIR` are asked to.
const COPIES: &str = r#"
echo "$@" >> "$ARCHIVES/../asked"
while [ $# -gt 0 ]; do
    case $1 in -d|--pack-destination) cp "$ARCHIVES"/* "$2";; esac
    shift
done
"#;

/// Brings rubbish: as often as there are files in `rubbish`, then the archive.
const RUBBISH: &str = r#"
echo "$@" >> "$ARCHIVES/../asked"
while [ $# -gt 0 ]; do
    case $1 in -d) to=$2;; esac
    shift
done
first=$(ls "$ARCHIVES/../rubbish" | head -n 1)
if [ -n "$first" ]; then
    mv "$ARCHIVES/../rubbish/$first" "$to/cat-1.0-py3-none-any.whl"
else
    cp "$ARCHIVES"/* "$to"
fi
"#;

fn cat_only(shop: &Workshop) -> Options {
    Options { only: vec!["cat".to_owned()], ..shop.fetching() }
}

fn rubbish(shop: &Workshop, times: usize) {
    fs::create_dir(shop.path("rubbish")).unwrap();
    for time in 0..times {
        fs::write(shop.path("rubbish").join(time.to_string()), b"an error page").unwrap();
    }
}

#[test]
fn clients_are_asked_for_exact_versions() {
    let shop = Workshop::new();
    shop.client("pip", COPIES);
    shop.client("npm", COPIES);

    assert_eq!(shop.run(&shop.fetching()).0.unwrap().installed, ["cat@1", "dog@1"]);

    let asked = fs::read_to_string(shop.path("asked")).unwrap();
    let [pip, npm] = asked.lines().collect::<Vec<_>>()[..] else { panic!("{asked}") };
    assert!(pip.starts_with("download --no-deps --only-binary :all: --python-version 3.11 -d "), "{pip}");
    assert!(pip.ends_with(" cat==1.0"), "{pip}");
    assert!(npm.starts_with("pack --ignore-scripts --pack-destination "), "{npm}");
    assert!(npm.ends_with(" dog@2.0"), "{npm}");
}

#[test]
fn a_client_that_fails_is_quoted() {
    let shop = Workshop::new();
    shop.client("pip", "echo 'WARNING: slow' >&2; echo 'ERROR: the network is unreachable' >&2; exit 1");

    let failed = shop.run(&cat_only(&shop)).0.unwrap_err();

    let expected = "pip could not fetch cat==1.0: WARNING: slow ERROR: the network is unreachable (check the network \
                    and the client's own settings, or fetch cat-1.0-py3-none-any.whl on another machine and run \
                    setup with --from DIR)";
    assert_eq!(failed.to_string(), expected);
}

#[test]
fn a_client_that_brings_nothing_or_says_nothing_is_an_error() {
    let shop = Workshop::new();
    shop.client("pip", "exit 0");
    let failed = shop.run(&cat_only(&shop)).0.unwrap_err().to_string();
    assert!(
        failed.starts_with("pip could not fetch cat==1.0: it brought no cat-1.0-py3-none-any.whl ("),
        "{failed}"
    );
    shop.client("pip", "exit 3");
    let failed = shop.run(&cat_only(&shop)).0.unwrap_err().to_string();
    assert!(failed.starts_with("pip could not fetch cat==1.0: it ended with exit status: 3 ("), "{failed}");
}

#[test]
fn a_client_that_fills_the_disk_is_told_as_a_full_disk() {
    let shop = Workshop::new();
    shop.client("pip", "echo 'OSError: [Errno 28] No space left on device' >&2; exit 2");
    let failed = shop.run(&cat_only(&shop)).0.unwrap_err().to_string();
    assert!(
        failed.starts_with("no space is left at ") && failed.ends_with(": make room and run setup again"),
        "{failed}"
    );
}

#[test]
fn a_long_complaint_is_cut_to_its_end() {
    let shop = Workshop::new();
    shop.client("pip", "for i in $(seq 500); do echo \"wörd $i\" >&2; done; exit 1");
    let failed = shop.run(&cat_only(&shop)).0.unwrap_err().to_string();
    let quoted = failed.split_once(": ").unwrap().1.split_once(" (check").unwrap().0;
    assert!(quoted.starts_with('…') && quoted.ends_with("wörd 500"), "{quoted}");
    assert_eq!(quoted.chars().count(), 401);
}

#[test]
fn the_next_name_of_a_client_is_tried() {
    let shop = Workshop::new();
    // As version managers do for programs that aren't installed.
    shop.client("pip", "exit 127");
    shop.client("python3", COPIES);
    assert_eq!(shop.run(&cat_only(&shop)).0.unwrap().installed, ["cat@1"]);
    assert!(fs::read_to_string(shop.path("asked")).unwrap().starts_with("-m pip download "));
}

#[test]
fn a_missing_client_is_named() {
    let shop = Workshop::new();
    shop.client("python3", "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    let missing = shop.run(&shop.fetching()).0.unwrap_err();
    let expected = "pip (as pip, pip3 or python3 -m pip) is needed to fetch cat==1.0 and was not found: install it, \
                    or fetch cat-1.0-py3-none-any.whl on another machine and run setup with --from DIR";
    assert_eq!(missing.to_string(), expected);
}

#[test]
fn a_wrong_download_is_fetched_once_more() {
    let shop = Workshop::new();
    shop.client("pip", RUBBISH);
    rubbish(&shop, 1);

    let (result, events) = shop.run(&cat_only(&shop));

    assert_eq!(result.unwrap().installed, ["cat@1"]);
    let expected =
        ["again cat-1.0-py3-none-any.whl", "verified cat-1.0-py3-none-any.whl", "installed cat@1 39"];
    assert_eq!(events, expected);
}

#[test]
fn a_download_that_stays_wrong_is_an_error() {
    let shop = Workshop::new();
    shop.client("pip", RUBBISH);
    rubbish(&shop, 3);

    let wrong = shop.run(&cat_only(&shop)).0.unwrap_err().to_string();

    let found = sha256(b"an error page");
    assert!(
        wrong.starts_with(&format!(
            "cat-1.0-py3-none-any.whl arrived wrong twice: sha256 {found} instead of "
        ))
    );
    assert_eq!(fs::read_to_string(shop.path("asked")).unwrap().lines().count(), 2);
    assert!(!shop.model("models").exists());
    assert!(!shop.model(".setup-tmp").exists());
}
