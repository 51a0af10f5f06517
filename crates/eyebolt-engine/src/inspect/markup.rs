use eyebolt_types::ImageFormat;

use super::foreign;
use crate::ImageError;

/// A part of a file that is not pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Free text without a key: a JPEG or GIF comment.
    Comment,
    /// Described data: EXIF, XMP, ICC, IPTC, keyed text. Holds markup in honest files.
    Described,
    /// Anything a decoder skips.
    Unknown,
}

/// Words that begin a document which a browser runs, in lower case.
const DOCUMENTS: [&[u8]; 8] =
    [b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<svg", b"<iframe", b"<?xml-stylesheet"];

/// Refuses a part that a program would run if it came upon it.
pub(crate) fn refuse_active_part(part: Part, data: &[u8], format: ImageFormat) -> Result<(), ImageError> {
    if let Some(also) = foreign::archive_within(data) {
        return Err(ImageError::Polyglot { format, also: also.to_owned() });
    }
    if part == Part::Described {
        return Ok(());
    }
    if begins_document(data) {
        return Err(ImageError::ActiveContent { what: "markup in place of a comment".to_owned() });
    }
    match foreign::program(data) {
        Some(also) => Err(ImageError::Polyglot { format, also: also.to_owned() }),
        None => Ok(()),
    }
}

/// Whether markup begins here, after white space.
pub(super) fn begins_document(data: &[u8]) -> bool {
    let data = data.trim_ascii_start();
    DOCUMENTS.iter().any(|word| starts_with_ignoring_case(data, word))
}

/// Whether markup begins anywhere.
pub(super) fn holds_document(data: &[u8]) -> bool {
    memchr::memchr_iter(b'<', data)
        .any(|at| DOCUMENTS.iter().any(|word| starts_with_ignoring_case(&data[at..], word)))
}

/// Whether text calls functions the way scripts do.
pub(super) fn reads_like_script(data: &[u8]) -> bool {
    const CALLS: [&[u8]; 10] = [
        b"eval(",
        b"alert(",
        b"function(",
        b"function ",
        b"document.",
        b"window.",
        b"fetch(",
        b"require(",
        b"=>{",
        b"importscripts(",
    ];
    // Scripts in trailers are short, and show at once.
    let data = &data[..data.len().min(64 << 10)];
    let text = data.iter().filter(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()).count();
    text == data.len()
        && (0..data.len()).any(|at| CALLS.iter().any(|call| starts_with_ignoring_case(&data[at..], call)))
}

/// `<?php`, or the short form `<?=` with its end near: a server that includes the file runs what follows, wherever
/// it stands.
pub(super) fn holds_php(data: &[u8]) -> bool {
    memchr::memmem::find_iter(data, b"<?").any(|at| {
        let rest = &data[at + 2..];
        let long = starts_with_ignoring_case(rest, b"php") && rest.get(3).is_none_or(u8::is_ascii_whitespace);
        let near = &rest[..rest.len().min(1024)];
        let short = near.first() == Some(&b'=')
            && memchr::memmem::find(near, b"?>").is_some_and(|end| {
                near[..end].iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'))
            });
        long || short
    })
}

pub(super) fn starts_with_ignoring_case(data: &[u8], word: &[u8]) -> bool {
    data.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}
