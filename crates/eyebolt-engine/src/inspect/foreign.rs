use memchr::memmem;

use super::markup;

/// Signatures at the start of files that are not images, and names for them. Longer ones first where they overlap.
const KINDS: [(&[u8], &str); 42] = [
    (b"%PDF-", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"MSCF", "a CAB archive"),
    (b"\x7fELF", "an ELF executable"),
    (b"MZ", "a Windows executable"),
    (b"\xfe\xed\xfa\xce", "a Mach-O executable"),
    (b"\xfe\xed\xfa\xcf", "a Mach-O executable"),
    (b"\xce\xfa\xed\xfe", "a Mach-O executable"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O executable"),
    (b"\xca\xfe\xba\xbe", "a Java class or Mach-O executable"),
    (b"\0asm", "WebAssembly"),
    (b"dex\n", "an Android executable"),
    (b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut"),
    (b"#!", "a script"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE document"),
    (b"{\\rtf", "RTF"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"DDS ", "a DirectDraw surface"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"farbfeld", "farbfeld"),
    (b"OggS", "Ogg media"),
    (b"fLaC", "FLAC audio"),
    (b"ID3", "MP3 audio"),
    (b"\x1a\x45\xdf\xa3", "Matroska video"),
    (b"RIFF", "RIFF media"),
    (b"FORM", "IFF media"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
];

/// What a file is that is not an image, as well as can be told.
pub(crate) fn foreign_kind(bytes: &[u8]) -> &'static str {
    if let Some((_, name)) = KINDS.iter().find(|(signature, _)| bytes.starts_with(signature)) {
        return name;
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return "MP4 or another ISO media file";
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return "a tar archive";
    }
    text_kind(bytes).unwrap_or("of no known kind")
}

fn text_kind(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some("UTF-16 text");
    }
    let head = &bytes[..bytes.len().min(1024)];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let holds = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    if text.starts_with(b"<") {
        return Some(match () {
            () if holds(b"<?php") => "PHP",
            () if holds(b"<svg") => "SVG",
            () if markup::begins_document(text) => "HTML",
            () => "XML",
        });
    }
    if text.iter().any(|&byte| byte < 0x20 && !byte.is_ascii_whitespace())
        || std::str::from_utf8(text).is_err_and(|e| e.error_len().is_some())
    {
        return None;
    }
    Some(if text.starts_with(b"{") || text.starts_with(b"[") { "JSON" } else { "text" })
}

/// A program or archive that begins right here.
pub(super) fn program(data: &[u8]) -> Option<&'static str> {
    let (signature, name) = KINDS[2..23].iter().find(|(signature, _)| data.starts_with(signature))?;
    match *signature {
        b"MZ" => is_portable_executable(data).then_some(*name),
        b"\x1f\x8b" => (data.get(2) == Some(&8)).then_some(*name),
        b"BZh" => (data.get(4..10) == Some(b"1AY&SY")).then_some(*name),
        b"#!" => (data.get(2) == Some(&b'/')).then_some(*name),
        _ => Some(*name),
    }
}

/// A program somewhere in the data: longer evidence than a signature, since chance brings short ones.
pub(super) fn program_within(data: &[u8]) -> Option<&'static str> {
    let elf = |at: usize| matches!(data.get(at + 4..at + 7), Some([1 | 2, 1 | 2, 1]));
    if memmem::find_iter(data, b"\x7fELF").any(elf) {
        return Some("an ELF executable");
    }
    // Its first byte may have been taken for padding.
    if memmem::find(data, b"asm\x01\0\0\0").is_some() {
        return Some("WebAssembly");
    }
    memmem::find_iter(data, b"MZ")
        .any(|at| is_portable_executable(&data[at..]))
        .then_some("a Windows executable")
}

/// An archive somewhere in the data that its unpacker finds behind any prefix.
pub(super) fn archive_within(data: &[u8]) -> Option<&'static str> {
    const ANYWHERE: [(&[u8], &str); 2] =
        [(b"Rar!\x1a\x07", "a RAR archive"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive")];
    // Version needed to extract is at most 6.3; its upper byte names a system and is low too.
    let local = |at: usize| matches!(data.get(at + 4..at + 6), Some([0..=63, 0..=20]));
    if memmem::find_iter(data, b"PK\x03\x04").any(local) {
        return Some("a ZIP archive");
    }
    ANYWHERE.iter().find(|(signature, _)| memmem::find(data, signature).is_some()).map(|&(_, name)| name)
}

/// A document that its reader finds behind a prefix.
pub(super) fn document_within(data: &[u8]) -> Option<&'static str> {
    memmem::find(data, b"%PDF-").is_some().then_some("a PDF")
}

/// Whether an unpacker takes the file for a ZIP archive: it looks for the end-of-central-directory record in the last
/// 64 KiB (APPNOTE 6.3.10, 4.3.16).
pub(super) fn ends_as_zip(bytes: &[u8]) -> bool {
    const RECORD: usize = 22;
    let start = bytes.len().saturating_sub(RECORD + usize::from(u16::MAX));
    memmem::find_iter(&bytes[start..], b"PK\x05\x06").any(|at| {
        let Some(record) = bytes.get(start + at..start + at + RECORD) else { return false };
        let size = u32::from_le_bytes([record[12], record[13], record[14], record[15]]) as usize;
        let comment = usize::from(u16::from_le_bytes([record[20], record[21]]));
        let directory = (start + at).checked_sub(size).and_then(|from| bytes.get(from..));
        let zip64 = size == u32::MAX as usize && bytes[..start + at].ends_with(b"\x01\0\0\0");
        let listed = directory.is_some_and(|directory| directory.starts_with(b"PK\x01\x02"));
        let empty = record[8..20].iter().all(|&byte| byte == 0);
        start + at + RECORD + comment <= bytes.len() && (listed || zip64 || empty)
    })
}

/// Whether the DOS header points to a PE header.
fn is_portable_executable(data: &[u8]) -> bool {
    data.get(60..64)
        .map(|offset| u32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]) as usize)
        .and_then(|offset| data.get(offset..offset.checked_add(4)?))
        == Some(b"PE\0\0")
}
