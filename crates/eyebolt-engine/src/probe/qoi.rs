//! QOI specification 1.0: a header, chunks that name so many pixels, an end marker.

use super::gate::Gate;
use super::reader::Reader;
use super::{Colour, Header};
use crate::ImageError;

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(4)?;
    let (width, height) = (reader.be32()?, reader.be32()?);
    let (width, height) = gate.size(u64::from(width), u64::from(height))?;
    let (channels, space) = (reader.u8()?, reader.u8()?);
    if !matches!(channels, 3 | 4) || space > 1 {
        return Err(reader.corrupt(format!("{channels} channels in colour space {space}")));
    }
    let mut missing = u64::from(width) * u64::from(height);
    while missing > 0 {
        let (pixels, more) = match reader.u8()? {
            0xfe => (1, 3),
            0xff => (1, 4),
            0x80..=0xbf => (1, 1),
            run @ 0xc0.. => (u64::from(run & 0x3f) + 1, 0),
            _ => (1, 0),
        };
        reader.take(more)?;
        missing = missing.saturating_sub(pixels);
    }
    if reader.take(8)? != b"\0\0\0\0\0\0\0\x01" {
        return Err(reader.corrupt("no end marker behind the last pixel"));
    }
    gate.trailer(bytes, reader.position())?;
    Ok(Header::new(gate.format, width, height).with_colour(Colour::Rgb, channels == 4))
}
