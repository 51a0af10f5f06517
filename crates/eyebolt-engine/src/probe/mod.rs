//! What a file says of itself, read without decoding: kind, size, frames, orientation, metadata.
//!
//! Every walk is linear in the file, allocates nothing that grows with the picture, and refuses as early as the
//! bytes allow. What passes here can still be broken inside its compressed data; that is for [`crate::decode`].

mod bmp;
mod exif;
mod gate;
mod gif;
mod header;
mod ico;
mod jpeg;
mod jpeg_tables;
mod png;
mod pnm;
mod pnm_raster;
mod qoi;
mod reader;
mod sniff;
mod tiff;
mod tiff_entry;
mod tiff_page;
mod webp;

use eyebolt_types::{ImageFormat, ImageLimits};

pub use header::{Colour, Header};
pub(crate) use ico::embedded_png;

use crate::{ImageError, inspect};
use gate::Gate;

/// Reads the header of a file and checks its structure, limits and content.
///
/// # Errors
/// Says why the file is refused: not an image that is taken, broken, beyond a limit, or carrying more than a picture.
pub fn probe(bytes: &[u8], limits: &ImageLimits) -> Result<Header, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    let found = bytes.len() as u64;
    if found > limits.max_file_bytes {
        return Err(ImageError::TooManyBytes { limit: limits.max_file_bytes, found });
    }
    inspect::refuse_malware(bytes)?;
    let format = match sniff::sniff(bytes) {
        Ok(format) => format,
        Err(found) => return Err(ImageError::UnsupportedFormat { found: found.to_owned() }),
    };
    let mut gate = Gate::new(format, limits);
    let header = walk(bytes, &mut gate)?;
    inspect::refuse_second_nature(bytes, format)?;
    Ok(gate.close(header))
}

/// Walks the container. Each walk ends by handing what follows the picture to [`Gate::trailer`].
fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    match gate.format {
        ImageFormat::Jpeg => jpeg::walk(bytes, gate),
        ImageFormat::Png => png::walk(bytes, gate),
        ImageFormat::Webp => webp::walk(bytes, gate),
        ImageFormat::Gif => gif::walk(bytes, gate),
        ImageFormat::Tiff => tiff::walk(bytes, gate),
        ImageFormat::Bmp => bmp::walk(bytes, gate),
        ImageFormat::Pnm => pnm::walk(bytes, gate),
        ImageFormat::Qoi => qoi::walk(bytes, gate),
        ImageFormat::Ico => ico::walk(bytes, gate),
        // No decoder for these is built in, so nothing but the name can be said.
        ImageFormat::Avif | ImageFormat::Heic => {
            Err(ImageError::UnsupportedFormat { found: gate.format.name().to_uppercase() })
        }
    }
}
