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

/// `<?php`, or the short form `<?=` around an expression that does something: a server that includes the file runs what
/// follows, wherever it stands. The short form's marks alone prove nothing: pixels bring them by chance.
pub(super) fn holds_php(data: &[u8]) -> bool {
    memchr::memmem::find_iter(data, b"<?").any(|at| {
        let rest = &data[at + 2..];
        let long = starts_with_ignoring_case(rest, b"php") && rest.get(3).is_none_or(u8::is_ascii_whitespace);
        long || rest.strip_prefix(b"=").is_some_and(echoes_code)
    })
}

/// Whether text up to a near `?>` calls a function, runs a command or reads what a request brought.
fn echoes_code(rest: &[u8]) -> bool {
    let near = &rest[..rest.len().min(1024)];
    let Some(end) = memchr::memmem::find(near, b"?>") else { return false };
    let code = near[..end].trim_ascii();
    let text = code.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    let letters_before =
        |at: usize| code[..at].iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let calls = || memchr::memchr_iter(b'(', code).any(|at| letters_before(at) >= 3);
    let reads_request = || {
        memchr::memmem::find_iter(code, b"$_").any(|at| code.get(at + 2).is_some_and(u8::is_ascii_uppercase))
    };
    text && (code.starts_with(b"`") || calls() || reads_request())
}

pub(super) fn starts_with_ignoring_case(data: &[u8], word: &[u8]) -> bool {
    data.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn php_is_told_from_pixels_that_look_like_its_marks() {
        for code in
            ["<?php echo 1;", "x<?= system('id') ?>", "<?=`$_GET[0]`?>", "<?=$_POST['a']?>", "<?= `id` ?>"]
        {
            assert!(holds_php(code.as_bytes()), "{code}");
        }
        for pixels in ["<?=<?==@=>A?@B@?>@", "<?phplike", "<?=A@(B)?>", "<?=", "<?= $a ?>"] {
            assert!(!holds_php(pixels.as_bytes()), "{pixels}");
        }
    }
}
