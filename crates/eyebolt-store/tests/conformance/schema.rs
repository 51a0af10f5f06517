use eyebolt_store::{Location, Store, StoreError};

use crate::place::{Place, at};

fn tampered(statement: &str) -> StoreError {
    let place = Place::sqlite();
    let Location::Sqlite(path) = &place.location else { unreachable!("it is SQLite") };
    rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
    Store::open(&place.location, at(1)).expect_err("a schema that is not ours is refused")
}

#[test]
fn a_newer_schema_is_refused_with_a_remedy() {
    let error = tampered("INSERT INTO schema_migrations VALUES (9999, '9999_later', 'abc', 0)");
    assert!(
        matches!(&error, StoreError::Newer { version: 9999, name, .. } if name == "9999_later"),
        "{error}"
    );
    assert!(error.to_string().contains("run a newer eyebolt"));
}

#[test]
fn a_schema_of_another_build_is_refused() {
    let error = tampered("UPDATE schema_migrations SET checksum = 'other' WHERE version = 2");
    assert!(matches!(error, StoreError::Foreign { version: 2, .. }), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eyebolt.db");
    std::fs::write(&path, b"not a database, but long enough to be read as the header of one".repeat(20))
        .unwrap();
    let error = Store::open(&Location::Sqlite(path), at(0)).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_second_process_is_refused_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let rows = Location::Sqlite(folder.path().join("eyebolt.db"));
    let held = Store::lock(folder.path(), &rows).unwrap();
    assert!(matches!(Store::lock(folder.path(), &rows), Err(StoreError::InUse { .. })));
    drop(held);
    assert!(Store::lock(folder.path(), &rows).is_ok());
}

#[test]
fn a_sqlite_file_is_held_by_one_process_however_it_is_named() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = one.path().join("eyebolt.db");
    let held = Store::lock(one.path(), &Location::Sqlite(file.clone())).unwrap();
    let (link, folder_link) = (two.path().join("link.db"), two.path().join("folder"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::os::unix::fs::symlink(one.path(), &folder_link).unwrap();
    let roundabout = one.path().join("..").join(one.path().file_name().unwrap()).join("eyebolt.db");
    for name in [file.clone(), link.clone(), folder_link.join("eyebolt.db"), roundabout] {
        let refused = Store::lock(two.path(), &Location::Sqlite(name.clone()));
        let Err(StoreError::DatabaseInUse { path }) = refused else { panic!("{name:?}: {refused:?}") };
        assert_eq!(path, file.canonicalize().unwrap().display().to_string());
    }
    assert!(Store::lock(two.path(), &Location::Postgres(String::new())).is_ok(), "the folder itself is free");
    drop(held);
    drop(Store::lock(two.path(), &Location::Sqlite(link)).unwrap());

    // With two names it would have two logs.
    std::fs::hard_link(&file, two.path().join("second.db")).unwrap();
    for name in [file, two.path().join("second.db")] {
        let refused = Store::lock(two.path(), &Location::Sqlite(name)).unwrap_err();
        assert!(refused.to_string().contains("has 2 names (hard links)"), "{refused}");
    }
}

#[test]
fn a_link_that_leads_nowhere_yet_leads_to_the_file_that_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("rows.db"), folder.path().join("link.db"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let _held = Store::lock(folder.path(), &Location::Sqlite(link)).unwrap();
    let other = tempfile::tempdir().unwrap();
    let refused = Store::lock(other.path(), &Location::Sqlite(file));
    assert!(matches!(refused, Err(StoreError::DatabaseInUse { .. })), "{refused:?}");
}

#[test]
fn a_second_process_opens_a_complete_schema_and_makes_none() {
    let place = Place::sqlite();
    assert!(Store::open_complete(&place.location).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eyebolt.db");
    let missing = || Store::open_complete(&Location::Sqlite(path.clone())).err();
    assert!(matches!(missing(), Some(StoreError::Incomplete { there: 0, .. })));
    assert!(!path.exists());
    // A file without a schema.
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(missing(), Some(StoreError::Incomplete { there: 0, .. })));
    let tables: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 0, "nothing was made");
}
