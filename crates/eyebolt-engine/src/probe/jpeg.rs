//! ITU-T T.81, annex B: the sequence of markers, up to the end-of-image marker.

use eyebolt_types::Orientation;

use super::gate::Gate;
use super::jpeg_tables::{Frame, Tables};
use super::reader::Reader;
use super::{Colour, Header, exif};
use crate::ImageError;
use crate::inspect::Part;

/// Scans that an honest progressive file never reaches (libjpeg writes ten): each costs a pass over the picture.
const MAX_SCANS: u64 = 100;

/// What the walk has seen so far.
#[derive(Default)]
struct Seen {
    frame: Option<Frame>,
    tables: Tables,
    scans: u64,
    orientation: Option<Orientation>,
    adobe_transform: Option<u8>,
}

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(2)?;
    let mut seen = Seen::default();
    loop {
        match next_marker(&mut reader)? {
            0xd9 => break,
            // Restart markers and TEM stand alone; between segments they mean nothing.
            0x01 | 0xd0..=0xd7 => {}
            0xd8 => return Err(reader.corrupt("a second start of image inside the first")),
            marker => segment(marker, &mut reader, gate, &mut seen)?,
        }
    }
    let Some(frame) = seen.frame.take() else {
        return Err(reader.corrupt("no frame header"));
    };
    if seen.scans == 0 {
        return Err(reader.corrupt("no scan"));
    }
    gate.trailer(bytes, reader.position())?;
    Ok(header(&frame, &seen, gate))
}

/// Goes to the next marker. Bytes before it are skipped, as every decoder does; fill bytes are legal (B.1.1.2).
fn next_marker(reader: &mut Reader<'_>) -> Result<u8, ImageError> {
    loop {
        let Some(skip) = memchr::memchr(0xff, reader.rest()) else {
            return Err(reader.corrupt("cut off: no end-of-image marker"));
        };
        reader.take(skip as u64)?;
        let fill = reader.rest().iter().take_while(|&&byte| byte == 0xff).count();
        reader.take(fill as u64)?;
        match reader.u8()? {
            0 => {}
            marker => return Ok(marker),
        }
    }
}

fn segment(
    marker: u8,
    reader: &mut Reader<'_>,
    gate: &mut Gate<'_>,
    seen: &mut Seen,
) -> Result<(), ImageError> {
    let length = reader.be16()?;
    let Some(length) = length.checked_sub(2) else {
        return Err(reader.corrupt(format!("a segment of length {length}")));
    };
    let data = reader.take(u64::from(length))?;
    match marker {
        0xc4 => Tables::huffman(data, gate),
        0xdb => seen.tables.quantisation(data, gate),
        0xcc => Ok(()),
        0xc0..=0xcf => frame(marker, data, gate, seen),
        0xda => scan(data, reader, gate, seen),
        0xdc => Err(reader.corrupt("its height stands after the first scan, which decoders don't take")),
        0xe0..=0xef => application(marker, data, gate, seen),
        0xfe => gate.metadata(Part::Comment, data, 4),
        _ => gate.count_metadata(data.len() as u64 + 4),
    }
}

fn frame(marker: u8, data: &[u8], gate: &mut Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    if seen.frame.is_some() {
        return Err(gate.corrupt("two frame headers"));
    }
    let frame = Frame::read(marker, data, gate)?;
    gate.size(u64::from(frame.width), u64::from(frame.height))?;
    seen.frame = Some(frame);
    Ok(())
}

/// A scan header (B.2.3) and the entropy-coded data behind it, to the next marker that is not a restart.
fn scan(data: &[u8], reader: &mut Reader<'_>, gate: &Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    let Some(frame) = &seen.frame else {
        return Err(reader.corrupt("a scan before the frame header"));
    };
    frame.check_scan(data, &seen.tables, gate)?;
    seen.scans += 1;
    if seen.scans > MAX_SCANS {
        return Err(ImageError::DecompressionBomb {
            what: "scans".to_owned(),
            limit: MAX_SCANS,
            found: seen.scans,
        });
    }
    let rest = reader.rest();
    let marker = |&at: &usize| !matches!(rest.get(at + 1), Some(0 | 0xd0..=0xd7 | 0xff));
    let end = memchr::memchr_iter(0xff, rest).find(marker).unwrap_or(rest.len());
    if end == 0 {
        return Err(reader.corrupt("a scan without data"));
    }
    reader.take(end as u64).map(drop)
}

fn application(marker: u8, data: &[u8], gate: &mut Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    match (marker, data) {
        (0xe1, [b'E', b'x', b'i', b'f', 0, _, tiff @ ..]) => {
            // The first block holds; a second one would only contradict it.
            seen.orientation.get_or_insert_with(|| exif::orientation(tiff));
            gate.metadata(Part::Described, data, 4)
        }
        (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
            seen.adobe_transform = Some(*transform);
            gate.count_metadata(data.len() as u64 + 4)
        }
        _ => gate.metadata(Part::Described, data, 4),
    }
}

fn header(frame: &Frame, seen: &Seen, gate: &Gate<'_>) -> Header {
    let colour = match frame.components() {
        1 => Colour::Grey,
        4 => Colour::Cmyk { inverted: seen.adobe_transform.is_some() },
        _ => Colour::Rgb,
    };
    let mut header = Header::new(gate.format, u32::from(frame.width), u32::from(frame.height))
        .with_colour(colour, false)
        .turned(seen.orientation.unwrap_or_default());
    header.progressive = frame.progressive;
    header
}
