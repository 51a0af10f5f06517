use eyebolt_types::ImageFormat;

use super::{foreign, markup};
use crate::ImageError;

/// What is left after the padding that cameras and editors leave behind a picture.
pub(crate) fn without_padding(trailer: &[u8]) -> &[u8] {
    let padding = |byte: &u8| matches!(byte, 0 | 0xff) || byte.is_ascii_whitespace();
    let start = trailer.iter().position(|byte| !padding(byte)).unwrap_or(trailer.len());
    // A marker begins with 0xff itself.
    let start = if start > 0 && trailer[start - 1] == 0xff { start - 1 } else { start };
    let rest = &trailer[start..];
    if rest.iter().all(padding) { &[] } else { rest }
}

/// Refuses a trailer that a program would run, unpack or show.
pub(crate) fn refuse_active_trailer(trailer: &[u8], format: ImageFormat) -> Result<(), ImageError> {
    let also = foreign::program(trailer)
        .or_else(|| foreign::program_within(trailer))
        .or_else(|| foreign::archive_within(trailer))
        .or_else(|| foreign::document_within(trailer))
        .or_else(|| markup::holds_document(trailer).then_some("HTML"))
        .or_else(|| markup::holds_php(trailer).then_some("PHP"))
        .or_else(|| markup::reads_like_script(trailer).then_some("a script"));
    match also {
        Some(also) => Err(ImageError::Polyglot { format, also: also.to_owned() }),
        None => Ok(()),
    }
}

/// Whether a trailer is another picture (Multi-Picture Format, CIPA DC-007) or the clip of a motion photo.
pub(crate) fn is_media(trailer: &[u8]) -> bool {
    trailer.starts_with(b"\xff\xd8\xff") || trailer.get(4..8) == Some(b"ftyp")
}
