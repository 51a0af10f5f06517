//! Takes single files out of wheels (zip) and npm packages (gzipped tar), within bounds.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::GzDecoder;

use crate::{catalogue::Member, digest::sha256};

/// Longest unpacked tar stream that is read: several times the largest pinned package.
const MAX_TAR_BYTES: u64 = 512 * 1024 * 1024;

/// The members' contents, each checked against its pinned size and digest. The error is a sentence part.
pub(crate) fn extract<'a>(
    path: &Path,
    members: &[&'a Member],
) -> Result<HashMap<&'a Member, Vec<u8>>, String> {
    let file = BufReader::new(File::open(path).map_err(|error| error.to_string())?);
    let is_zip = path.extension().is_some_and(|extension| extension == "whl" || extension == "zip");
    if is_zip { from_zip(file, members) } else { from_tar(file, members) }
}

fn from_zip<'a>(
    file: BufReader<File>,
    members: &[&'a Member],
) -> Result<HashMap<&'a Member, Vec<u8>>, String> {
    let mut zip = zip::ZipArchive::new(file).map_err(|error| error.to_string())?;
    let mut contents = HashMap::new();
    for &member in members {
        let mut entry = zip.by_name(&member.path).map_err(|error| format!("{}: {error}", member.path))?;
        contents.insert(member, read_checked(&mut entry, member)?);
    }
    Ok(contents)
}

fn from_tar<'a>(
    file: BufReader<File>,
    members: &[&'a Member],
) -> Result<HashMap<&'a Member, Vec<u8>>, String> {
    let mut tar = tar::Archive::new(GzDecoder::new(file).take(MAX_TAR_BYTES));
    let mut contents = HashMap::new();
    let text = |error: io::Error| error.to_string();
    for entry in tar.entries().map_err(text)? {
        let mut entry = entry.map_err(text)?;
        let path = entry.path().map_err(text)?.into_owned();
        let wanted = members.iter().copied().find(|member| Path::new(&member.path) == path);
        if let Some(member) = wanted {
            contents.insert(member, read_checked(&mut entry, member)?);
        }
        if contents.len() == members.len() {
            break;
        }
    }
    let missing = members.iter().find(|member| !contents.contains_key(*member));
    missing.map_or(Ok(contents), |member| Err(format!("it has no {}", member.path)))
}

/// Reads no more than one byte beyond the pinned size, whatever the archive says.
fn read_checked(stream: &mut dyn Read, member: &Member) -> Result<Vec<u8>, String> {
    let Member { path, bytes, sha256: expected, .. } = member;
    let mut content = Vec::new();
    stream.take(bytes + 1).read_to_end(&mut content).map_err(|error| format!("{path}: {error}"))?;
    if content.len() as u64 != *bytes {
        return Err(format!("{path} does not have the pinned size of {bytes} bytes"));
    }
    let found = sha256(&content);
    if found != *expected {
        return Err(format!("{path} has the sha256 {found} instead of {expected}"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn member(path: &str, bytes: u64, content: &[u8]) -> Member {
        Member { archive: String::new(), path: path.to_owned(), bytes, sha256: sha256(content) }
    }

    fn zip_of(content: &[u8]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        zip.start_file("file", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap().into_inner()
    }

    fn tar_of(content: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, "file", content).unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn extracted(name: &str, archive: &[u8], member: &Member) -> Result<Vec<u8>, String> {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, archive).unwrap();
        extract(&path, &[member]).map(|mut contents| contents.remove(member).unwrap())
    }

    #[test]
    fn a_member_comes_out_whole_or_not_at_all() {
        for (name, archive) in [("a.whl", zip_of(b"12345")), ("a.tgz", tar_of(b"12345"))] {
            let refusal = |member: &Member| extracted(name, &archive, member).unwrap_err();
            assert_eq!(extracted(name, &archive, &member("file", 5, b"12345")).unwrap(), b"12345");
            let longer = "file does not have the pinned size of 4 bytes";
            assert_eq!(refusal(&member("file", 4, b"1234")), longer);
            let shorter = "file does not have the pinned size of 6 bytes";
            assert_eq!(refusal(&member("file", 6, b"123456")), shorter);
            assert!(refusal(&member("file", 5, b"abcde")).starts_with("file has the sha256 "));
            assert!(refusal(&member("other", 5, b"12345")).contains("other"));
        }
    }

    #[test]
    fn a_member_that_unpacks_to_much_more_is_cut_off() {
        let bomb = zip_of(&vec![0; 50_000_000]);
        assert!(bomb.len() < 100_000);
        let refused = extracted("a.whl", &bomb, &member("file", 10, b"0123456789")).unwrap_err();
        assert_eq!(refused, "file does not have the pinned size of 10 bytes");
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(place in 0_usize..200, byte: u8, cut: bool) {
            for (name, mut archive) in [("a.whl", zip_of(b"12345")), ("a.tgz", tar_of(b"12345"))] {
                let place = place % archive.len();
                archive[place] = byte;
                if cut {
                    archive.truncate(place);
                }
                if let Ok(content) = extracted(name, &archive, &member("file", 5, b"12345")) {
                    prop_assert_eq!(content, b"12345");
                }
            }
        }
    }
}
