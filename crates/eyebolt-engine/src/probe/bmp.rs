//! Windows bitmaps: BITMAPFILEHEADER, then BITMAPCOREHEADER (OS/2) or one of the BITMAPINFOHEADER family.

use super::gate::Gate;
use super::reader::Reader;
use super::{Colour, Header};
use crate::ImageError;

/// What the second header says.
pub(super) struct Dib {
    /// Its own length, bytes.
    pub(super) length: u32,
    pub(super) width: u64,
    pub(super) height: u64,
    pub(super) bits: u16,
    pub(super) compression: u32,
    /// Bytes of pixels that it announces; 0 where it leaves them to arithmetic.
    pub(super) image_bytes: u32,
    pub(super) used_colours: u32,
}

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(10)?;
    let offset = reader.le32()?;
    let dib = Dib::read(&mut reader, gate)?;
    let (width, height) = gate.size(dib.width, dib.height)?;
    dib.check(gate)?;
    let palette_end = 14 + u64::from(dib.length) + dib.palette_bytes();
    // Some writers place the pixels into an oversized palette; nothing may place them into the headers.
    if u64::from(offset) < 14 + u64::from(dib.length) {
        return Err(gate.corrupt(format!("pixels at byte {offset}, inside the headers")));
    }
    Reader::new(bytes, gate.format).take(palette_end.min(u64::from(offset)))?;
    let mut pixels = Reader::at(bytes, u64::from(offset), gate.format);
    if u64::from(offset) >= bytes.len() as u64 {
        return Err(gate.corrupt(format!("pixels at byte {offset} of {}", bytes.len())));
    }
    match dib.row_bytes() {
        Some(row) => drop(pixels.take(row * dib.height)?),
        // Run lengths: the file ends where the header says, or else where it ends.
        None => drop(pixels.take(match dib.image_bytes {
            0 => pixels.left() as u64,
            announced => u64::from(announced),
        })?),
    }
    gate.trailer(bytes, pixels.position().max(profile_end(bytes, &dib)))?;
    Ok(dib.header(gate, (width, height)))
}

/// Where the colour profile of a BITMAPV5HEADER ends: it follows the pixels.
fn profile_end(bytes: &[u8], dib: &Dib) -> usize {
    let field = |at: usize| {
        bytes.get(at..at + 4).map(|field| u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
    };
    match (dib.length, field(14 + 112), field(14 + 116)) {
        (124, Some(start), Some(length)) if start > 0 => {
            (14 + start as usize + length as usize).min(bytes.len())
        }
        _ => 0,
    }
}

impl Dib {
    pub(super) fn read(reader: &mut Reader<'_>, gate: &Gate<'_>) -> Result<Self, ImageError> {
        let length = reader.le32()?;
        if length == 12 {
            let (width, height) = (u64::from(reader.le16()?), u64::from(reader.le16()?));
            reader.take(2)?;
            let bits = reader.le16()?;
            return Ok(Self { length, width, height, bits, compression: 0, image_bytes: 0, used_colours: 0 });
        }
        if !matches!(length, 16 | 40 | 52 | 56 | 64 | 108 | 124) {
            return Err(gate.corrupt(format!("a header of {length} bytes")));
        }
        let width = reader.le32()?;
        // Negative: rows run from the top down.
        let height = reader.le32()? as i32;
        reader.take(2)?;
        let bits = reader.le16()?;
        let mut dib = Self {
            length,
            width: u64::from(width),
            height: u64::from(height.unsigned_abs()),
            bits,
            compression: 0,
            image_bytes: 0,
            used_colours: 0,
        };
        if length > 16 {
            dib.compression = reader.le32()?;
            dib.image_bytes = reader.le32()?;
            reader.take(8)?;
            dib.used_colours = reader.le32()?;
            reader.take(u64::from(length) - 36)?;
        }
        Ok(dib)
    }

    /// Checks that depth and compression go together.
    pub(super) fn check(&self, gate: &Gate<'_>) -> Result<(), ImageError> {
        let fits = match self.compression {
            0 => matches!(self.bits, 1 | 2 | 4 | 8 | 16 | 24 | 32),
            1 => self.bits == 8,
            2 => self.bits == 4,
            3 | 6 => matches!(self.bits, 16 | 32),
            4 | 5 => {
                let found = "a JPEG or PNG inside a BMP".to_owned();
                return Err(ImageError::UnsupportedFormat { found });
            }
            _ => false,
        };
        let colours = self.bits > 8 || u64::from(self.used_colours) <= 1 << self.bits;
        if fits && colours {
            return Ok(());
        }
        Err(gate.corrupt(format!(
            "{} bits and {} colours with compression {}",
            self.bits, self.used_colours, self.compression
        )))
    }

    /// Bytes of the colour table or of the bit masks behind the header.
    pub(super) fn palette_bytes(&self) -> u64 {
        let entry = if self.length == 12 { 3 } else { 4 };
        match (self.bits, self.compression, self.length) {
            (1..=8, ..) if self.used_colours == 0 => entry << self.bits,
            (1..=8, ..) => entry * u64::from(self.used_colours),
            (_, 3, 40) => 12,
            (_, 6, 40) => 16,
            _ => 0,
        }
    }

    /// Bytes of a row, padded to a multiple of four; none where rows are compressed.
    pub(super) fn row_bytes(&self) -> Option<u64> {
        matches!(self.compression, 0 | 3 | 6).then(|| (self.width * u64::from(self.bits)).div_ceil(32) * 4)
    }

    pub(super) fn header(&self, gate: &Gate<'_>, (width, height): (u32, u32)) -> Header {
        let colour = if self.bits <= 8 { Colour::Palette } else { Colour::Rgb };
        let alpha = self.bits == 32 || (self.bits == 16 && self.compression != 0);
        let mut header = Header::new(gate.format, width, height).with_colour(colour, alpha);
        header.bits = self.bits.min(8) as u8;
        header
    }
}
