//! The data folder: of one server alone, and open to the command line beside it.

use std::{
    path::Path,
    process::{Command, Output},
};

use eyebolt_server::{
    Place,
    access::AccessSettings,
    place::{PlaceError, StorageSettings},
};
use eyebolt_types::Clock;
use serde_json::Value;

use crate::{
    app::TestApp,
    wire::{FORM, bearer, form},
};

/// The program in a data folder.
pub(crate) fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eyebolt"));
    let variables = std::env::vars().filter(|(name, _)| !name.starts_with("EYEBOLT_"));
    command.env_clear().envs(variables).env("EYEBOLT_DATA_DIR", folder).current_dir(folder).args(arguments);
    command
}

/// Runs the program in a data folder.
pub(crate) async fn eyebolt(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = program(folder, arguments);
    tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.expect("no panic")
}

async fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = eyebolt(folder, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

fn storage(folder: &Path) -> StorageSettings {
    StorageSettings { data_dir: folder.to_owned(), ..StorageSettings::default() }
}

async fn open(folder: &Path, access: &AccessSettings) -> Result<(), PlaceError> {
    Place::open(&storage(folder), access, &Clock::system()).await.map(drop)
}

/// The status that an analysis with this key gets.
async fn analyze(app: &TestApp, key: &Value) -> u16 {
    let (name, value) = bearer(key.as_str().expect("a secret"));
    let body = form(&[("name=\"image\"", b"cat")]);
    app.ask("POST /v1/analyze?features=objects", &[FORM, (name, &value)], &body).await.status
}

#[tokio::test]
async fn the_command_line_makes_and_ends_keys_beside_a_running_server() {
    let app = TestApp::start().await;
    let folder = app.folder.path();
    let made = json(folder, &["project", "create", "shop", "--mode", "test", "--json"]).await;
    assert!(made["project"].as_str().is_some_and(|id| id.starts_with("proj_")), "{made}");
    assert!(made["key"].as_str().is_some_and(|key| key.starts_with("eb_test_")), "{made}");
    assert_eq!(analyze(&app, &made["key"]).await, 200);

    let create = ["key", "create", "shop", "--scopes", "read", "--expires", "90d", "--json"];
    let reader = json(folder, &create).await;
    assert_eq!(reader["scopes"], serde_json::json!(["read"]));
    assert_eq!(analyze(&app, &reader["key"]).await, 403);

    let id = made["key_id"].as_str().expect("an id");
    let rotated = json(folder, &["key", "rotate", id, "--overlap", "1h", "--json"]).await;
    assert_eq!(analyze(&app, &rotated["key"]).await, 200);
    let revoked = json(folder, &["key", "revoke", id, "--json"]).await;
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    app.clock.advance(jiff::SignedDuration::from_secs(1));
    assert_eq!(analyze(&app, &made["key"]).await, 401);
    let keys = json(folder, &["key", "list", "shop", "--json"]).await;
    assert_eq!(keys["data"].as_array().map(Vec::len), Some(3));

    let again = eyebolt(folder, &["project", "create", "shop"]).await;
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("of this name already"));
}

#[tokio::test]
async fn of_the_commands_on_projects_and_keys_only_create_makes_a_place_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("made/here");
    let asked = async |line: &str| {
        let mut command = program(folder.path(), &line.split(' ').collect::<Vec<_>>());
        command.env("EYEBOLT_DATA_DIR", "made/here");
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let output = output.expect("the program runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout)
    };
    for line in
        ["project list", "project set shop --plan default", "key create shop", "key list shop", "audit"]
    {
        let (success, told, _) = asked(line).await;
        let named = format!("{} is no data folder", data.display());
        assert!(!success && told.contains(&named) && told.contains("EYEBOLT_DATA_DIR"), "{line}: {told}");
        assert!(!folder.path().join("made").exists(), "{line}");
    }
    let (_, told, printed) = asked("project create shop --json").await;
    assert_eq!(told, format!("new data folder {}\n", data.display()));
    let made: Value = serde_json::from_slice(&printed).expect("one line of JSON");
    let (success, told, printed) = asked("project list").await;
    assert!(success && told.is_empty() && String::from_utf8_lossy(&printed).ends_with("shop\n"), "{told}");
    let (_, told, _) = asked("project create other").await;
    assert_eq!(told, "", "it is new once");
    assert!(made["key"].as_str().is_some_and(|key| key.starts_with("eb_live_")), "{made}");
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!((mode(&data), mode(&data.join("key-hash.secret"))), (0o700, 0o600));
}

#[tokio::test]
async fn a_second_server_is_refused_the_folder() {
    let app = TestApp::start().await;
    let refused = open(app.folder.path(), &AccessSettings::default()).await.unwrap_err();
    assert!(refused.to_string().contains("another server works in this data folder"), "{refused}");
}

#[tokio::test]
async fn a_second_server_is_refused_the_sqlite_file_of_the_first_and_the_command_line_is_not() {
    let app = TestApp::start().await;
    let file = app.folder.path().join("eyebolt.db");
    let (other, access) = (tempfile::tempdir().expect("a folder"), AccessSettings::default());
    let link = other.path().join("link.db");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    for path in [&file, &link] {
        let storage = StorageSettings {
            data_dir: other.path().to_owned(),
            database_url: format!("sqlite:{}", path.display()).as_str().into(),
        };
        let refused = Place::open(&storage, &access, &Clock::system()).await.map(drop).unwrap_err();
        let (told, named) = (refused.to_string(), file.canonicalize().expect("a file").display().to_string());
        assert!(told.starts_with(&named) && told.contains("works with this SQLite file"), "{told}");
    }
    assert!(!other.path().join("key-hash.secret").exists(), "nothing was made");
    json(app.folder.path(), &["project", "create", "beside", "--json"]).await;
    assert_eq!(app.ask("GET /readyz", &[], b"").await.status, 200);
}

#[tokio::test]
async fn another_key_secret_is_noticed_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, access) = (folder.path(), AccessSettings::default());
    open(path, &access).await.expect("a new place");
    open(path, &access).await.expect("the same secret");
    let set = AccessSettings { key_secret: "a secret of the settings".into(), ..AccessSettings::default() };
    assert!(matches!(open(path, &set).await, Err(PlaceError::OtherSecret { .. })));
    let file = path.join("key-hash.secret");
    std::fs::rename(&file, path.join("kept")).expect("the secret is lost");
    let lost = open(path, &access).await.unwrap_err();
    assert!(lost.to_string().contains("put back"), "{lost}");
    assert!(!file.exists(), "no wrong secret takes its place");
    std::fs::write(&file, b"short").expect("a broken one");
    assert!(matches!(open(path, &access).await, Err(PlaceError::SecretFile { .. })));
    std::fs::rename(path.join("kept"), &file).expect("the secret is back");
    open(path, &access).await.expect("as it was");
}

#[tokio::test]
async fn a_schema_is_not_made_while_another_process_holds_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let rows = eyebolt_store::Location::Postgres(String::new());
    let held = eyebolt_store::Store::lock(path, &rows).expect("a free folder");
    let refused = Place::open_beside(&storage(path), &AccessSettings::default(), &Clock::system()).await;
    assert!(matches!(refused, Err(PlaceError::NotReady(_))));
    assert!(!path.join("eyebolt.db").exists() && !path.join("key-hash.secret").exists());
    drop(held);
    let made = Place::open_beside(&storage(path), &AccessSettings::default(), &Clock::system()).await;
    assert!(made.is_ok());
}
