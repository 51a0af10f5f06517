//! Windows icons and cursors: a directory of pictures, each a PNG or a bitmap without its file header.

use eyebolt_types::ImageFormat;

use super::bmp::Dib;
use super::gate::Gate;
use super::reader::Reader;
use super::{Header, png};
use crate::ImageError;

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// One row of the directory, with the bytes that it points to.
struct Entry<'a> {
    width: u32,
    height: u32,
    bits: u16,
    picture: &'a [u8],
}

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let (best, end) = directory(bytes, gate.format)?;
    let header = picture_header(best.picture, gate)?;
    if (header.width, header.height) != (best.width, best.height) {
        return Err(gate.corrupt(format!(
            "the directory says {} × {}, the picture {} × {}",
            best.width, best.height, header.width, header.height
        )));
    }
    gate.trailer(bytes, end)?;
    Ok(Header { format: ImageFormat::Ico, ..header })
}

/// The picture to decode, where it is a PNG.
pub(crate) fn embedded_png(bytes: &[u8]) -> Option<&[u8]> {
    let (best, _) = directory(bytes, ImageFormat::Ico).ok()?;
    Some(best.picture).filter(|picture| picture.starts_with(PNG_SIGNATURE))
}

/// Checks the directory; gives the best picture and the end of the last one.
fn directory(bytes: &[u8], format: ImageFormat) -> Result<(Entry<'_>, usize), ImageError> {
    let mut reader = Reader::new(bytes, format);
    reader.take(4)?;
    let count = reader.le16()?;
    let mut best: Option<Entry<'_>> = None;
    let mut end = 0;
    for row in 1..=count {
        let (entry, entry_end) = Entry::read(&mut reader, bytes, format)?;
        end = end.max(entry_end);
        // Among equals `image` prefers the last row, else the first: this must be the same choice.
        let last = row == count;
        if best
            .as_ref()
            .is_none_or(|best| entry.score() > best.score() || (last && entry.score() == best.score()))
        {
            best = Some(entry);
        }
    }
    best.map(|best| (best, end)).ok_or_else(|| reader.corrupt("an empty directory"))
}

impl<'a> Entry<'a> {
    /// Reads a row; gives where its picture ends, too.
    fn read(
        reader: &mut Reader<'a>,
        bytes: &'a [u8],
        format: ImageFormat,
    ) -> Result<(Self, usize), ImageError> {
        // Sides of one byte: 0 means 256.
        let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
        let (width, height) = (side(reader.u8()?), side(reader.u8()?));
        reader.take(4)?;
        let bits = reader.le16()?;
        let (length, offset) = (reader.le32()?, reader.le32()?);
        let mut data = Reader::at(bytes, u64::from(offset), format);
        let picture = data.take(u64::from(length))?;
        Ok((Self { width, height, bits, picture }, data.position()))
    }

    fn score(&self) -> (u16, u32) {
        (self.bits, self.width * self.height)
    }
}

fn picture_header(picture: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    if picture.starts_with(PNG_SIGNATURE) {
        return png::walk(picture, gate);
    }
    let mut reader = Reader::new(picture, gate.format);
    let mut dib = Dib::read(&mut reader, gate)?;
    // The height counts the mask of transparent pixels below the picture.
    dib.height /= 2;
    let size = gate.size(dib.width, dib.height)?;
    dib.check(gate)?;
    reader.take(dib.palette_bytes())?;
    let Some(row) = dib.row_bytes() else {
        return Err(gate.corrupt("a compressed bitmap inside an icon"));
    };
    reader.take(row * dib.height)?;
    let mut header = dib.header(gate, size);
    header = header.clone().with_colour(header.colour, true);
    Ok(header)
}
