use eyebolt_types::ImageFormat;
use memchr::memmem;

use super::{foreign, markup};
use crate::ImageError;

/// Bytes from the start in which readers look for the header of a PDF.
const PDF_HEAD: usize = 1024;

/// Refuses a file that, as a whole, is something else as well.
pub(crate) fn refuse_second_nature(bytes: &[u8], format: ImageFormat) -> Result<(), ImageError> {
    let polyglot = |also: &str| Err(ImageError::Polyglot { format, also: also.to_owned() });
    if foreign::ends_as_zip(bytes) {
        return polyglot("a ZIP archive");
    }
    if memmem::find(&bytes[..bytes.len().min(PDF_HEAD)], b"%PDF-").is_some() {
        return polyglot("a PDF");
    }
    if markup::holds_php(bytes) {
        return Err(ImageError::ActiveContent { what: "PHP code".to_owned() });
    }
    Ok(())
}

/// Whether the bytes right after the signature, which the format reads as a number, open a script comment: the file
/// can then be run as JavaScript, with the signature as a variable's name.
pub(crate) fn opens_comment(bytes: &[u8], format: ImageFormat) -> bool {
    let at = match format {
        ImageFormat::Bmp => 2,
        ImageFormat::Jpeg | ImageFormat::Webp | ImageFormat::Tiff | ImageFormat::Ico => 4,
        ImageFormat::Gif => 6,
        _ => return false,
    };
    bytes.get(at..at + 4).is_some_and(|next| next.starts_with(b"/*") || next.starts_with(b"=/*"))
}

/// Whether a comment could end here.
pub(crate) fn closes_comment(data: &[u8]) -> bool {
    memmem::find(data, b"*/").is_some()
}
