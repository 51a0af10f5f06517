//! SHA-256, streamed.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// The digest of bytes in memory, hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    text(&digest(&SHA256, bytes))
}

/// The digest of a stream, hex. `read` hears how many bytes have been read so far.
pub(crate) fn sha256_of(mut stream: impl Read, read: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(text(&context.finish())),
            Ok(length) => {
                context.update(&chunk[..length]);
                total += length as u64;
                read(total);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn text(digest: &Digest) -> String {
    hex::encode(digest.as_ref())
}
