//! PNG (third edition, W3C 2025) with its animation chunks: the chunks in their order, each with its checksum.

use super::gate::Gate;
use super::reader::Reader;
use super::{Colour, Header, exif};
use crate::ImageError;
use crate::inspect::Part;

/// What the walk has seen so far.
struct Seen {
    header: Header,
    /// Bytes of pixels that the size calls for, filter bytes included.
    raw_bytes: u64,
    data_bytes: u64,
    has_palette: bool,
    oriented: bool,
}

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(8)?;
    let (kind, data) = chunk(&mut reader)?;
    if &kind != b"IHDR" {
        return Err(reader.corrupt("the first chunk is not IHDR"));
    }
    let mut seen = image_header(data, gate)?;
    loop {
        let (kind, data) = chunk(&mut reader)?;
        match &kind {
            b"IEND" => break,
            b"IDAT" => pixels(data, gate, &mut seen)?,
            b"IHDR" => return Err(reader.corrupt("two IHDR chunks")),
            b"PLTE" => palette(data, gate, &mut seen)?,
            b"tRNS" => transparency(data, gate, &mut seen)?,
            b"acTL" | b"fcTL" | b"fdAT" => animation(kind, data, gate)?,
            b"cHRM" | b"gAMA" | b"sBIT" | b"sRGB" | b"bKGD" | b"hIST" | b"pHYs" | b"tIME" | b"cICP" => {
                gate.count_metadata(data.len() as u64 + 12)?;
            }
            _ => metadata(kind, data, gate, &mut seen)?,
        }
    }
    if seen.data_bytes == 0 {
        return Err(reader.corrupt("no pixels: IDAT is missing"));
    }
    gate.trailer(bytes, reader.position())?;
    Ok(seen.header)
}

/// The next chunk, with its checksum compared; ancillary ones too, since a wrong one means damage or tampering.
fn chunk<'a>(reader: &mut Reader<'a>) -> Result<([u8; 4], &'a [u8]), ImageError> {
    let length = reader.be32()?;
    if length > i32::MAX as u32 {
        return Err(reader.corrupt(format!("a chunk of {length} bytes")));
    }
    let mut ahead = *reader;
    let checked = ahead.take(u64::from(length) + 4)?;
    let crc = ahead.be32()?;
    let (kind, data) = checked.split_at(4);
    let kind = [kind[0], kind[1], kind[2], kind[3]];
    if !kind.iter().all(u8::is_ascii_alphabetic) {
        return Err(reader.corrupt("a chunk whose type is not four letters"));
    }
    if crc32fast::hash(checked) != crc {
        return Err(reader.corrupt(format!("the checksum of chunk {} is wrong", kind.escape_ascii())));
    }
    *reader = ahead;
    Ok((kind, data))
}

fn image_header(data: &[u8], gate: &mut Gate<'_>) -> Result<Seen, ImageError> {
    let &[w3, w2, w1, w0, h3, h2, h1, h0, depth, kind, compression, filter, interlace] = data else {
        return Err(gate.corrupt(format!("IHDR of {} bytes", data.len())));
    };
    let (width, height) = (u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
    if width.max(height) > i32::MAX as u32 {
        return Err(gate.corrupt(format!("a size of {width} × {height} pixels")));
    }
    let (width, height) = gate.size(u64::from(width), u64::from(height))?;
    let (colour, has_alpha, samples) = match (kind, depth) {
        (0, 1 | 2 | 4 | 8 | 16) => (Colour::Grey, false, 1),
        (2, 8 | 16) => (Colour::Rgb, false, 3),
        (3, 1 | 2 | 4 | 8) => (Colour::Palette, false, 1),
        (4, 8 | 16) => (Colour::Grey, true, 2),
        (6, 8 | 16) => (Colour::Rgb, true, 4),
        _ => return Err(gate.corrupt(format!("colour type {kind} with {depth} bits"))),
    };
    if (compression, filter) != (0, 0) || interlace > 1 {
        return Err(gate.corrupt("an unknown compression, filter or interlace method"));
    }
    let mut header = Header::new(gate.format, width, height).with_colour(colour, has_alpha);
    header.bits = depth;
    header.progressive = interlace == 1;
    let bits = u64::from(width) * u64::from(depth) * samples;
    // Interlacing adds seven passes' filter bytes and paddings; twice the rows bounds them.
    let raw_bytes =
        (bits.div_ceil(8) + 1) * u64::from(height) + u64::from(interlace) * u64::from(height) * 16;
    Ok(Seen { header, raw_bytes, data_bytes: 0, has_palette: false, oriented: false })
}

/// Pixels that are compressed to more than they could ever need hide something or inflate without an end.
fn pixels(data: &[u8], gate: &Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    if seen.header.colour == Colour::Palette && !seen.has_palette {
        return Err(gate.corrupt("a palette image without PLTE"));
    }
    seen.data_bytes += data.len() as u64;
    // Deflate's stored blocks add 5 bytes each; an encoder that flushes after every few bytes may double the data.
    let limit = seen.raw_bytes * 2 + 4096;
    if seen.data_bytes > limit {
        let found = seen.data_bytes;
        return Err(ImageError::DecompressionBomb {
            what: "bytes of compressed pixels".to_owned(),
            limit,
            found,
        });
    }
    Ok(())
}

fn palette(data: &[u8], gate: &Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    if data.is_empty() || data.len() > 768 || !data.len().is_multiple_of(3) {
        return Err(gate.corrupt(format!("a palette of {} bytes", data.len())));
    }
    seen.has_palette = true;
    Ok(())
}

fn transparency(data: &[u8], gate: &Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    if data.len() > 256 {
        return Err(gate.corrupt(format!("transparency of {} bytes", data.len())));
    }
    if !seen.header.has_alpha {
        let header = seen.header.clone();
        let colour = header.colour;
        seen.header = header.with_colour(colour, true);
    }
    Ok(())
}

/// Counts frames by their control chunks and by what the animation announces.
fn animation(kind: [u8; 4], data: &[u8], gate: &mut Gate<'_>) -> Result<(), ImageError> {
    let mut reader = Reader::new(data, gate.format);
    match &kind {
        b"acTL" => gate.announced_frames(u64::from(reader.be32()?)),
        b"fcTL" => {
            reader.take(4)?;
            let (width, height) = (reader.be32()?, reader.be32()?);
            gate.frame(u64::from(width), u64::from(height))
        }
        _ => Ok(()),
    }
}

fn metadata(kind: [u8; 4], data: &[u8], gate: &mut Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    let described = matches!(&kind, b"tEXt" | b"zTXt" | b"iTXt" | b"eXIf" | b"iCCP" | b"sPLT");
    // Bit 5 of the first letter: decoders must not pass over what they don't know (5.4).
    if !described && kind[0].is_ascii_uppercase() {
        return Err(gate.corrupt(format!("an unknown critical chunk {}", kind.escape_ascii())));
    }
    gate.metadata(if described { Part::Described } else { Part::Unknown }, data, 12)?;
    match &kind {
        b"eXIf" if !seen.oriented => {
            let tiff = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
            seen.header = seen.header.clone().turned(exif::orientation(tiff));
            seen.oriented = true;
            Ok(())
        }
        b"zTXt" | b"iCCP" => {
            after_zeros(data, 1).map_or(Ok(()), |rest| gate.inflated_metadata(&rest[1.min(rest.len())..]))
        }
        b"iTXt" => match after_zeros(data, 1) {
            Some([1, _, rest @ ..]) => {
                after_zeros(rest, 2).map_or(Ok(()), |text| gate.inflated_metadata(text))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What stands behind so many zero bytes.
fn after_zeros(data: &[u8], count: usize) -> Option<&[u8]> {
    let at = memchr::memchr_iter(0, data).nth(count - 1)?;
    Some(&data[at + 1..])
}
