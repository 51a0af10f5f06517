//! WebP container (RFC 9649), with the headers of VP8 (RFC 6386, 9.1) and of lossless data (RFC 9649, 3.4).

use eyebolt_types::Orientation;

use super::gate::Gate;
use super::reader::Reader;
use super::{Colour, Header, exif};
use crate::ImageError;
use crate::inspect::Part;

/// What the walk has seen so far.
#[derive(Default)]
struct Seen {
    /// From the extended header, where there is one.
    canvas: Option<(u32, u32)>,
    animated: bool,
    /// The still picture.
    picture: Option<Coded>,
    alpha: bool,
    orientation: Option<Orientation>,
}

/// One coded picture.
#[derive(Clone, Copy)]
struct Coded {
    width: u32,
    height: u32,
    alpha: bool,
}

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(4)?;
    let riff = reader.le32()?;
    if u64::from(riff) + 8 > bytes.len() as u64 || riff < 12 {
        return Err(reader.corrupt(format!("{riff} bytes are announced, {} are there", bytes.len() - 8)));
    }
    let mut riff_bytes = Reader::new(&bytes[..riff as usize + 8], gate.format);
    riff_bytes.take(12)?;
    let mut seen = Seen::default();
    // A last odd byte is padding that some writers count.
    while riff_bytes.left() >= 8 {
        let (kind, data) = chunk(&mut riff_bytes)?;
        top_level(kind, data, gate, &mut seen)?;
    }
    gate.trailer(bytes, riff as usize + 8)?;
    finish(&seen, gate)
}

fn chunk<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), ImageError> {
    let kind = reader.take(4)?;
    let length = reader.le32()?;
    let data = reader.take(u64::from(length))?;
    if length % 2 == 1 && reader.left() > 0 {
        reader.take(1)?;
    }
    Ok((kind, data))
}

fn top_level(kind: &[u8], data: &[u8], gate: &mut Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    match kind {
        b"VP8X" => extended(data, gate, seen),
        b"VP8 " | b"VP8L" if seen.picture.is_none() => {
            let coded = coded(kind, data, gate)?;
            // The extended header has been held against the limits already.
            if seen.canvas.is_none() {
                gate.size(u64::from(coded.width), u64::from(coded.height))?;
            }
            seen.picture = Some(coded);
            Ok(())
        }
        b"ANIM" => Ok(()),
        b"ALPH" => {
            seen.alpha = true;
            Ok(())
        }
        b"ANMF" => frame(data, gate, seen),
        b"EXIF" => {
            let tiff = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
            seen.orientation.get_or_insert_with(|| exif::orientation(tiff));
            gate.metadata(Part::Described, data, 8)
        }
        b"ICCP" | b"XMP " => gate.metadata(Part::Described, data, 8),
        _ => gate.metadata(Part::Unknown, data, 8),
    }
}

fn extended(data: &[u8], gate: &Gate<'_>, seen: &mut Seen) -> Result<(), ImageError> {
    let mut reader = Reader::new(data, gate.format);
    let flags = reader.u8()?;
    reader.take(3)?;
    let (width, height) = (reader.le24()? + 1, reader.le24()? + 1);
    if seen.canvas.is_some() || seen.picture.is_some() {
        return Err(gate.corrupt("an extended header that is not the first chunk"));
    }
    seen.canvas = Some(gate.size(u64::from(width), u64::from(height))?);
    seen.animated = flags & 0x02 != 0;
    seen.alpha = flags & 0x10 != 0;
    Ok(())
}

/// A frame of an animation: its place on the canvas and one coded picture of the same size.
fn frame(data: &[u8], gate: &mut Gate<'_>, seen: &Seen) -> Result<(), ImageError> {
    let Some((canvas_width, canvas_height)) = seen.canvas else {
        return Err(gate.corrupt("a frame without an extended header"));
    };
    let mut reader = Reader::new(data, gate.format);
    let (left, top) = (reader.le24()? * 2, reader.le24()? * 2);
    let (width, height) = (reader.le24()? + 1, reader.le24()? + 1);
    reader.take(4)?;
    gate.frame(u64::from(width), u64::from(height))?;
    if left + width > canvas_width || top + height > canvas_height {
        return Err(gate.corrupt(format!(
            "a frame of {width} × {height} at {left}, {top} on {canvas_width} × {canvas_height}"
        )));
    }
    while reader.left() >= 8 {
        let (kind, data) = chunk(&mut reader)?;
        if !matches!(kind, b"VP8 " | b"VP8L") {
            continue;
        }
        let coded = coded(kind, data, gate)?;
        return if (coded.width, coded.height) == (width, height) {
            Ok(())
        } else {
            Err(gate
                .corrupt(format!("a frame of {width} × {height} holds {} × {}", coded.width, coded.height)))
        };
    }
    Err(gate.corrupt("a frame without a picture"))
}

fn coded(kind: &[u8], data: &[u8], gate: &Gate<'_>) -> Result<Coded, ImageError> {
    let mut reader = Reader::new(data, gate.format);
    if kind == b"VP8L" {
        let signature = reader.u8()?;
        let bits = reader.le32()?;
        if signature != 0x2f || bits >> 29 != 0 {
            return Err(gate.corrupt("a lossless picture without its signature"));
        }
        return Ok(Coded {
            width: (bits & 0x3fff) + 1,
            height: (bits >> 14 & 0x3fff) + 1,
            alpha: bits >> 28 & 1 == 1,
        });
    }
    let tag = reader.le24()?;
    let first_partition = u64::from(tag >> 5);
    if tag & 1 != 0 || reader.take(3)? != b"\x9d\x01\x2a" {
        return Err(gate.corrupt("a lossy picture that does not begin with a key frame"));
    }
    let (width, height) = (u32::from(reader.le16()? & 0x3fff), u32::from(reader.le16()? & 0x3fff));
    reader.take(first_partition)?;
    Ok(Coded { width, height, alpha: false })
}

fn finish(seen: &Seen, gate: &Gate<'_>) -> Result<Header, ImageError> {
    let (width, height) = match (seen.canvas, seen.picture) {
        (Some(canvas), _) if seen.animated && gate.frames() > 0 => canvas,
        (Some(canvas), Some(coded)) if canvas == (coded.width, coded.height) => canvas,
        (None, Some(coded)) => (coded.width, coded.height),
        (Some((width, height)), Some(coded)) => {
            return Err(gate.corrupt(format!(
                "a canvas of {width} × {height} holds a picture of {} × {}",
                coded.width, coded.height
            )));
        }
        (_, None) => return Err(gate.corrupt("no picture")),
    };
    let alpha = seen.alpha || seen.picture.is_some_and(|coded| coded.alpha);
    Ok(Header::new(gate.format, width, height)
        .with_colour(Colour::Rgb, alpha)
        .turned(seen.orientation.unwrap_or_default()))
}
