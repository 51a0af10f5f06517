//! Windows icons and cursors: a directory of pictures, each a PNG or a bitmap without its file header.

use eyebolt_types::ImageFormat;

use super::bmp::Dib;
use super::gate::Gate;
use super::reader::Reader;
use super::{Header, png};
use crate::ImageError;

/// One row of the directory.
struct Entry {
    width: u32,
    height: u32,
    bits: u16,
    length: u32,
    offset: u32,
}

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(4)?;
    let count = reader.le16()?;
    gate.announced_frames(u64::from(count))?;
    let mut best: Option<Entry> = None;
    let mut end = 0;
    for row in 1..=count {
        let entry = Entry::read(&mut reader)?;
        let mut data = Reader::at(bytes, u64::from(entry.offset), gate.format);
        data.take(u64::from(entry.length))?;
        end = end.max(data.position());
        // Among equals the decoder prefers the last row, else the first: this must be the same choice.
        let last = row == count;
        if best.as_ref().is_none_or(|best| entry.score() > best.score() || (last && entry.score() == best.score())) {
            best = Some(entry);
        }
    }
    let Some(best) = best else {
        return Err(reader.corrupt("an empty directory"));
    };
    let picture = &bytes[best.offset as usize..best.offset as usize + best.length as usize];
    let header = picture_header(picture, gate)?;
    if (header.width, header.height) != (best.width, best.height) {
        return Err(gate.corrupt(format!(
            "the directory says {} × {}, the picture {} × {}",
            best.width, best.height, header.width, header.height
        )));
    }
    gate.trailer(bytes, end)?;
    Ok(Header { format: ImageFormat::Ico, ..header })
}

impl Entry {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ImageError> {
        // Sides of one byte: 0 means 256.
        let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
        let (width, height) = (side(reader.u8()?), side(reader.u8()?));
        reader.take(4)?;
        let bits = reader.le16()?;
        let (length, offset) = (reader.le32()?, reader.le32()?);
        Ok(Self { width, height, bits, length, offset })
    }

    fn score(&self) -> (u16, u32) {
        (self.bits, self.width * self.height)
    }
}

fn picture_header(picture: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    if picture.starts_with(b"\x89PNG\r\n\x1a\n") {
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
