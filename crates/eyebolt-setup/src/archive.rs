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
