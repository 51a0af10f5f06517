//! ITU-T T.81, B.2.2 (frame header), B.2.4.1 (quantisation tables) and B.2.4.2 (Huffman tables).

use super::gate::Gate;
use crate::ImageError;

/// What a frame header says.
pub(super) struct Frame {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) progressive: bool,
    /// Identifier and quantisation table of each component.
    parts: Vec<(u8, u8)>,
}

impl Frame {
    pub(super) fn read(marker: u8, data: &[u8], gate: &Gate<'_>) -> Result<Self, ImageError> {
        let unsupported = |found: &str| Err(ImageError::UnsupportedFormat { found: found.to_owned() });
        match marker {
            0xc3 | 0xcb => return unsupported("lossless JPEG"),
            0xc5..=0xc7 | 0xcd..=0xcf => return unsupported("hierarchical JPEG"),
            0xc9 | 0xca if !cfg!(feature = "turbojpeg") => return unsupported("arithmetic-coded JPEG"),
            _ => {}
        }
        let &[precision, h1, h0, w1, w0, count, ref parts @ ..] = data else {
            return Err(gate.corrupt("a frame header that is too short"));
        };
        if precision == 12 {
            return unsupported("12-bit JPEG");
        }
        if precision != 8 {
            return Err(gate.corrupt(format!("a precision of {precision} bits")));
        }
        if !matches!(count, 1 | 3 | 4) || parts.len() != usize::from(count) * 3 {
            return Err(gate.corrupt(format!("{count} components in {} bytes", parts.len())));
        }
        let sampling = |nibble: u8| (1..=4).contains(&nibble);
        let mut read = Vec::with_capacity(4);
        for part in parts.chunks_exact(3) {
            if !sampling(part[1] >> 4) || !sampling(part[1] & 15) || part[2] > 3 {
                return Err(gate.corrupt(format!("sampling factors {:#04x}, table {}", part[1], part[2])));
            }
            read.push((part[0], part[2]));
        }
        let progressive = matches!(marker, 0xc2 | 0xca);
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        Ok(Self { width, height, progressive, parts: read })
    }

    pub(super) fn components(&self) -> usize {
        self.parts.len()
    }

    /// Checks a scan header: known components, whose quantisation tables have been defined.
    pub(super) fn check_scan(&self, data: &[u8], tables: &Tables, gate: &Gate<'_>) -> Result<(), ImageError> {
        let count = usize::from(data.first().copied().unwrap_or_default());
        if !(1..=4).contains(&count) || data.len() != 4 + 2 * count {
            return Err(gate.corrupt(format!("a scan of {count} components in {} bytes", data.len())));
        }
        for selector in data[1..=2 * count].chunks_exact(2) {
            let Some(&(_, table)) = self.parts.iter().find(|(id, _)| *id == selector[0]) else {
                return Err(
                    gate.corrupt(format!("a scan of component {}, which the frame lacks", selector[0]))
                );
            };
            if !tables.quantisation[usize::from(table)] {
                return Err(gate.corrupt(format!("quantisation table {table} is missing")));
            }
        }
        Ok(())
    }
}

/// Which tables have been defined.
#[derive(Default)]
pub(super) struct Tables {
    quantisation: [bool; 4],
}

impl Tables {
    /// Checks Huffman tables: counts that fit a code of 16 bits, and as many values as they say.
    pub(super) fn huffman(mut data: &[u8], gate: &Gate<'_>) -> Result<(), ImageError> {
        while let Some((&class, rest)) = data.split_first() {
            let Some((counts, values)) = rest.split_at_checked(16) else {
                return Err(gate.corrupt("a Huffman table that is cut off"));
            };
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            if class >> 4 > 1
                || class & 15 > 3
                || total > 256
                || total > values.len()
                || !is_prefix_code(counts)
            {
                return Err(gate.corrupt(format!("a Huffman table {class:#04x} with {total} codes")));
            }
            data = &values[total..];
        }
        Ok(())
    }

    pub(super) fn quantisation(&mut self, mut data: &[u8], gate: &Gate<'_>) -> Result<(), ImageError> {
        while let Some((&table, rest)) = data.split_first() {
            let length = if table >> 4 == 0 { 64 } else { 128 };
            if table >> 4 > 1 || table & 15 > 3 || rest.len() < length {
                return Err(
                    gate.corrupt(format!("a quantisation table {table:#04x} in {} bytes", rest.len()))
                );
            }
            self.quantisation[usize::from(table & 15)] = true;
            data = &rest[length..];
        }
        Ok(())
    }
}

/// Whether codes of these lengths can be told apart (Kraft's inequality).
fn is_prefix_code(counts: &[u8]) -> bool {
    let mut free = 1_i32;
    counts.iter().all(|&count| {
        free = free * 2 - i32::from(count);
        free >= 0
    })
}
