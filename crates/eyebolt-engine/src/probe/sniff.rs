use eyebolt_types::ImageFormat;

use crate::inspect::foreign_kind;

/// Which image this is by its first bytes, or what it is instead.
pub(super) fn sniff(bytes: &[u8]) -> Result<ImageFormat, &'static str> {
    by_signature(bytes).or_else(|| weak(bytes)).ok_or_else(|| foreign_kind(bytes))
}

fn by_signature(bytes: &[u8]) -> Option<ImageFormat> {
    const SIGNATURES: [(&[u8], ImageFormat); 8] = [
        (b"\xff\xd8", ImageFormat::Jpeg),
        (b"\x89PNG\r\n\x1a\n", ImageFormat::Png),
        (b"GIF87a", ImageFormat::Gif),
        (b"GIF89a", ImageFormat::Gif),
        (b"II*\0", ImageFormat::Tiff),
        (b"MM\0*", ImageFormat::Tiff),
        (b"qoif", ImageFormat::Qoi),
        (b"\0\0\x01\0", ImageFormat::Ico),
    ];
    SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)).map(|&(_, format)| format)
}

/// Signatures that are short or parted, and so need a second look.
fn weak(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::Webp),
        [b'I', b'I', b'+', 0, ..] | [b'M', b'M', 0, b'+', ..] => Some(ImageFormat::Tiff),
        [b'P', b'1'..=b'7', byte, ..] if byte.is_ascii_whitespace() || *byte == b'#' => {
            Some(ImageFormat::Pnm)
        }
        // A cursor differs from an icon in its hot spots alone.
        [0, 0, 2, 0, count, 0, ..] if *count > 0 && bytes.get(9) == Some(&0) => Some(ImageFormat::Ico),
        // The size of the second header is small; in a text that begins with the same two letters it is not.
        [b'B', b'M', ..] if bytes.get(16..18).is_none_or(|high| high == [0, 0]) => Some(ImageFormat::Bmp),
        _ => brand(bytes),
    }
}

/// The brands of ISO 23008-12 (HEIF) and AV1 image files.
fn brand(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    let size = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let brands = bytes.get(8..size.min(bytes.len()).min(256))?;
    // The minor version stands between the major brand and the compatible ones, and is no brand.
    let brands = || brands.chunks_exact(4).enumerate().filter(|(at, _)| *at != 1).map(|(_, brand)| brand);
    if brands().any(|brand| matches!(brand, b"avif" | b"avis")) {
        return Some(ImageFormat::Avif);
    }
    let heic = |brand: &[u8]| {
        matches!(brand, b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1")
    };
    brands().any(heic).then_some(ImageFormat::Heic)
}
