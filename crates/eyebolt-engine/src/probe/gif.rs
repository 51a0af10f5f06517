//! `GIF89a` specification, sections 17 to 27: blocks up to the trailer.

use super::gate::Gate;
use super::reader::Reader;
use super::{Colour, Header};
use crate::ImageError;
use crate::inspect::Part;

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(6)?;
    let (width, height) = (reader.le16()?, reader.le16()?);
    let (width, height) = gate.size(u64::from(width), u64::from(height))?;
    let flags = reader.u8()?;
    reader.take(2)?;
    let has_palette = take_palette(&mut reader, flags)?;
    // Whether a pixel is transparent shows only with the frames; a decoder gives alpha in any case.
    let mut header = Header::new(gate.format, width, height).with_colour(Colour::Palette, true);
    header.bits = (flags & 7) + 1;
    loop {
        match reader.u8()? {
            0x21 => extension(&mut reader, gate)?,
            0x2c => {
                let interlaced = frame(&mut reader, gate, (width, height), has_palette)?;
                header.progressive |= interlaced && gate.frames() == 1;
            }
            0x3b => break,
            other => return Err(reader.corrupt(format!("an unknown block {other:#04x}"))),
        }
    }
    if gate.frames() == 0 {
        return Err(reader.corrupt("no frame"));
    }
    gate.trailer(bytes, reader.position())?;
    Ok(header)
}

/// Steps over a colour table, where the flags announce one.
fn take_palette(reader: &mut Reader<'_>, flags: u8) -> Result<bool, ImageError> {
    if flags & 0x80 != 0 {
        reader.take(3 << ((flags & 7) + 1))?;
    }
    Ok(flags & 0x80 != 0)
}

/// An image descriptor with its data; gives whether it is interlaced.
fn frame(
    reader: &mut Reader<'_>,
    gate: &mut Gate<'_>,
    (screen_width, screen_height): (u32, u32),
    has_palette: bool,
) -> Result<bool, ImageError> {
    let (left, top) = (u32::from(reader.le16()?), u32::from(reader.le16()?));
    let (width, height) = (u32::from(reader.le16()?), u32::from(reader.le16()?));
    gate.frame(u64::from(width), u64::from(height))?;
    if left + width > screen_width || top + height > screen_height || width == 0 || height == 0 {
        return Err(reader.corrupt(format!(
            "a frame of {width} × {height} at {left}, {top} on a screen of {screen_width} × {screen_height}"
        )));
    }
    let flags = reader.u8()?;
    if !take_palette(reader, flags)? && !has_palette {
        return Err(reader.corrupt("a frame without a colour table"));
    }
    let code_size = reader.u8()?;
    if !(1..=8).contains(&code_size) {
        return Err(reader.corrupt(format!("an LZW code size of {code_size}")));
    }
    let data = sub_blocks(reader, |_| Ok(()))?;
    if data == 0 {
        return Err(reader.corrupt("a frame without data"));
    }
    Ok(flags & 0x40 != 0)
}

fn extension(reader: &mut Reader<'_>, gate: &mut Gate<'_>) -> Result<(), ImageError> {
    match reader.u8()? {
        // Graphic control: timing and transparency.
        0xf9 => sub_blocks(reader, |_| Ok(())).map(drop),
        0xff => {
            let name = reader.u8()?;
            let name = reader.take(u64::from(name))?;
            gate.metadata(Part::Described, name, 3)?;
            sub_blocks(reader, |data| gate.metadata(Part::Described, data, 1)).map(drop)
        }
        _ => {
            gate.count_metadata(3)?;
            sub_blocks(reader, |data| gate.metadata(Part::Comment, data, 1)).map(drop)
        }
    }
}

/// Shows sub-blocks up to the empty one; gives their bytes together.
fn sub_blocks(
    reader: &mut Reader<'_>,
    mut show: impl FnMut(&[u8]) -> Result<(), ImageError>,
) -> Result<usize, ImageError> {
    let mut total = 0;
    loop {
        let length = reader.u8()?;
        if length == 0 {
            return Ok(total);
        }
        show(reader.take(u64::from(length))?)?;
        total += usize::from(length);
    }
}
