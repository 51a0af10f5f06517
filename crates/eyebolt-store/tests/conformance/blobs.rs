use std::{
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use eyebolt_store::{Blobs, Closing, Document, NewJob, StoreError, document_blob, image_blob};
use eyebolt_types::{
    JobStatus, Mode,
    id::{ImageId, JobId, ProjectId},
};

use crate::{
    place::{Place, at, on_both, project},
    sample::{accept, again, claim, closing, ended, job, large_image},
};

/// SHA-256 of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A file that was written so many minutes before the sweep.
fn written(folder: &Path, name: &str, minutes: i64) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"abc").unwrap();
    let seconds = at(-60 * minutes).as_second();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap());
    File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    path
}

#[tokio::test]
async fn a_blob_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::in_folder(&folder.path().join("made/here")).unwrap();
    let name = format!("images/p/live/ba/{ABC}");
    for _ in 0..2 {
        blobs.put(&name, b"abc".as_slice().into()).await.unwrap();
        assert_eq!(blobs.get(&name).await.unwrap(), &b"abc"[..]);
    }
    let again = Blobs::in_folder(&folder.path().join("made/here")).unwrap();
    assert_eq!(again.get(&name).await.unwrap(), &b"abc"[..], "after a restart");
}

#[tokio::test]
async fn a_blob_that_is_gone_or_differs_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::in_folder(folder.path()).unwrap();
    let missing = blobs.get(&format!("documents/j/{ABC}")).await;
    assert!(matches!(&missing, Err(StoreError::Corrupt { what }) if what.contains(ABC)), "{missing:?}");
    let name = format!("documents/k/{ABC}");
    blobs.put(&name, b"abc".as_slice().into()).await.unwrap();
    std::fs::write(folder.path().join(&name), b"abd").unwrap();
    let differs = blobs.get(&name).await;
    assert!(matches!(&differs, Err(StoreError::Corrupt { what }) if what.contains(&name)), "{differs:?}");
    std::fs::write(folder.path().join(&name), b"ab").unwrap();
    assert!(matches!(blobs.get(&name).await, Err(StoreError::Corrupt { .. })), "cut short");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_orphans_are_swept_and_all_else_is_kept() {
    let place = Place::sqlite();
    let (store, folder) = (&place.store, place.blobs());
    let blobs = Blobs::in_folder(&folder).unwrap();
    let project = project(store).await.id;
    let (image, removed) = (large_image(1), ImageId::new());
    let known = image.id;
    accept(store, NewJob { image, ..job(project, "image") }).await;
    let id = ended(store, project, ("document", closing(JobStatus::Failed))).await;
    let document = document_blob(id, &hex::decode(ABC).unwrap());
    let end = Closing { document: Document::Blob(document.clone()), ..closing(JobStatus::Succeeded) };
    store.retry((project, Mode::Live, id), again(900), at(4)).await.unwrap();
    claim(store, crate::sample::lease("w", 60), 10, at(5)).await.unwrap();
    store.close((id, 2), end, at(6)).await.unwrap().unwrap();

    let live = (project, Mode::Live);
    let former =
        |mode: Mode, digest| format!("images/{project}/{}/no/{}", mode.name(), hex::encode([digest; 32]));
    let kept = [
        written(&folder, &image_blob(live, known, &[1; 32]), 1000),
        written(&folder, &former(Mode::Live, 1), 1000),
        written(&folder, &document, 1000),
        written(&folder, &image_blob(live, removed, &[2; 32]), 59),
        written(&folder, &document_blob(id, b"young"), 59),
        written(&folder, "notes/of/somebody", 1000),
    ];
    let orphans = [
        written(&folder, &image_blob(live, removed, &[1; 32]), 61),
        written(&folder, &former(Mode::Live, 3), 61),
        written(&folder, &former(Mode::Test, 1), 61),
        written(&folder, &document_blob(id, b"earlier"), 61),
        written(&folder, &document_blob(JobId::new(), b"other"), 61),
        written(&folder, &format!("documents/{id}/{ABC}"), 61),
    ];
    assert_eq!(blobs.sweep(store, at(0)).await, Ok(orphans.len()));
    assert!(orphans.iter().all(|path| !path.exists()));
    assert!(kept.iter().all(|path| path.exists()));
    assert_eq!(blobs.sweep(store, at(0)).await, Ok(0));
    place.check_ledger().await;
}

#[tokio::test]
async fn an_image_is_found_under_the_name_that_it_had_before() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::in_folder(folder.path()).unwrap();
    let (whose, digest) = ((ProjectId::new(), Mode::Live), hex::decode(ABC).unwrap());
    let read = async |image: ImageId| blobs.image(whose, (image, &digest)).await;
    let (image, another) = (ImageId::new(), ImageId::new());
    assert!(matches!(read(image).await, Err(StoreError::Corrupt { .. })));
    blobs.put(&image_blob(whose, image, &digest), b"abc".as_slice().into()).await.unwrap();
    assert_eq!(read(image).await.unwrap(), &b"abc"[..]);
    assert!(read(another).await.is_err(), "another image's file is not its own");
    blobs.put(&format!("images/{}/live/ba/{ABC}", whose.0), b"abc".as_slice().into()).await.unwrap();
    assert_eq!(read(another).await.unwrap(), &b"abc"[..]);
}

#[tokio::test]
async fn blobs_that_are_gone_are_removed_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::in_folder(folder.path()).unwrap();
    let names = [format!("documents/x/{ABC}"), format!("images/p/live/ba/{ABC}")];
    blobs.put(&names[1], b"abc".as_slice().into()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(blobs.remove(&names).await, Ok(()));
        assert!(blobs.get(&names[1]).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_orphans_than_are_compared_at_once_are_swept_in_one_go() {
    let place = Place::sqlite();
    let folder = place.blobs();
    let blobs = Blobs::in_folder(&folder).unwrap();
    for index in 0..1001 {
        written(&folder, &format!("documents/job_{index}/x"), 61);
    }
    assert_eq!(blobs.sweep(&place.store, at(0)).await, Ok(1001));
    assert_eq!(blobs.sweep(&place.store, at(0)).await, Ok(0));
}

on_both! {
    async fn rows_tell_which_blobs_they_name(place: &Place) {
        let store = &place.store;
        let project = project(store).await.id;
        let image = large_image(7);
        let known = image_blob((project, Mode::Live), image.id, &[7; 32]);
        accept(store, NewJob { image, ..job(project, "image") }).await;
        let document = "documents/job/digest".to_owned();
        let end = Closing { document: Document::Blob(document.clone()), ..closing(JobStatus::Succeeded) };
        let id = ended(store, project, ("document", end)).await;
        let unknown = [image_blob((project, Mode::Live), ImageId::new(), &[7; 32]), format!("documents/{id}/other")];
        let foreign = ["images/p/live/no/hex", "else", "a/b/c"].map(str::to_owned);
        let asked = [&[known], &foreign[..], &unknown[..]].concat();
        assert_eq!(store.unknown_blobs(asked).await, Ok(unknown.to_vec()));
    }
}
