//! TIFF 6.0, section 2: byte orders, directories and entries; the 64-bit extension widens offsets and counts.

use eyebolt_types::ImageFormat;

use super::reader::{Reader, corrupt};
use crate::ImageError;

/// Tags are unique in a directory, and a few hundred are defined.
const MAX_ENTRIES: u64 = 4096;

/// Byte order and width of offsets of a file.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    bytes: &'a [u8],
    little: bool,
    big: bool,
}

/// One directory: its entries as stored, and where the next one stands.
pub(super) struct Directory<'a> {
    rows: &'a [u8],
    row_bytes: usize,
    pub(super) next: u64,
    pub(super) end: usize,
}

impl<'a> Directory<'a> {
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.rows.chunks_exact(self.row_bytes)
    }
}

/// One entry, whose value lies inside the file.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub(super) tag: u16,
    kind: u16,
    pub(super) count: u64,
    pub(super) value: &'a [u8],
    /// Where the value ends in the file; 0 where it stands in the entry.
    pub(super) end: usize,
    layout: Layout<'a>,
}

impl<'a> Layout<'a> {
    /// Reads the file's head; gives the offset of the first directory.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, u64), ImageError> {
        let mut reader = Reader::new(bytes, ImageFormat::Tiff);
        let mark = reader.take(4)?;
        let layout = Self { bytes, little: mark[0] == b'I', big: mark.contains(&b'+') };
        if !layout.big {
            return Ok((layout, layout.number(reader.take(4)?)));
        }
        let widths = reader.take(4)?;
        if layout.number(&widths[..2]) != 8 || widths[2..] != [0, 0] {
            return Err(reader.corrupt("offsets that are not 8 bytes wide"));
        }
        Ok((layout, layout.number(reader.take(8)?)))
    }

    /// A number of up to eight bytes.
    pub(super) fn number(&self, bytes: &[u8]) -> u64 {
        let join = |number, byte: &u8| number << 8 | u64::from(*byte);
        if self.little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) }
    }

    /// Bytes of an offset.
    fn offset_bytes(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    pub(super) fn directory(&self, offset: u64) -> Result<Directory<'a>, ImageError> {
        let mut reader = Reader::at(self.bytes, offset, ImageFormat::Tiff);
        let count = self.number(reader.take(if self.big { 8 } else { 2 })?);
        if count > MAX_ENTRIES {
            return Err(reader.corrupt(format!("a directory of {count} entries")));
        }
        let row_bytes = 4 + 2 * self.offset_bytes();
        let rows = reader.take(count.saturating_mul(row_bytes as u64))?;
        let next = self.number(reader.take(self.offset_bytes() as u64)?);
        Ok(Directory { rows, row_bytes, next, end: reader.position() })
    }

    /// Reads an entry, whose bytes are those of a row of a directory.
    pub(super) fn entry(self, row: &'a [u8]) -> Result<Entry<'a>, ImageError> {
        let (tag, kind) = (self.number(&row[..2]) as u16, self.number(&row[2..4]) as u16);
        let (count, field) = row[4..].split_at(self.offset_bytes());
        let count = self.number(count);
        let Some(width) = type_bytes(kind) else {
            // Readers skip types that they don't know.
            return Ok(Entry { tag, kind, count, value: &[], end: 0, layout: self });
        };
        let length = count.saturating_mul(width);
        if length <= field.len() as u64 {
            return Ok(Entry { tag, kind, count, value: &field[..length as usize], end: 0, layout: self });
        }
        let mut reader = Reader::at(self.bytes, self.number(field), ImageFormat::Tiff);
        let value = reader.take(length).map_err(|_| {
            corrupt(ImageFormat::Tiff, format!("tag {tag} with {count} values, beyond the file"))
        })?;
        Ok(Entry { tag, kind, count, value, end: reader.position(), layout: self })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl<'a> Entry<'a> {
    /// Its values as whole numbers; none for other types.
    pub(super) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> + use<'a> {
        let width = match self.kind {
            1 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => 0,
        };
        let values = if width == 0 { &[] } else { self.value };
        let layout = self.layout;
        values.chunks_exact(width.max(1)).map(move |value| layout.number(value))
    }

    /// The last of them.
    pub(super) fn last_number(&self) -> Option<u64> {
        self.numbers().next_back()
    }

    pub(super) fn layout(&self) -> Layout<'a> {
        self.layout
    }
}

/// Bytes of one value of a type.
fn type_bytes(kind: u16) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16..=18 => Some(8),
        _ => None,
    }
}
