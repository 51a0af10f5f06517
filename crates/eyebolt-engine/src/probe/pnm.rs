//! Netpbm: PBM, PGM and PPM in text and binary, and PAM. Headers are text with comments.

use super::gate::Gate;
use super::pnm_raster::{self, Raster};
use super::reader::Reader;
use super::{Colour, Header};
use crate::ImageError;
use crate::inspect::Part;

/// A header longer than this is no honest one.
const MAX_HEADER: usize = 4096;

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let mut reader = Reader::new(bytes, gate.format);
    reader.take(1)?;
    let variant = reader.u8()?;
    let raster = if variant == b'7' { pam(&mut reader, gate)? } else { plain(&mut reader, variant, gate)? };
    let (width, height) = gate.size(raster.width, raster.height)?;
    if raster.maximum == 0 || raster.maximum > 65535 {
        return Err(reader.corrupt(format!("a greatest value of {}", raster.maximum)));
    }
    let (colour, alpha) = match raster.depth {
        1 => (Colour::Grey, false),
        2 => (Colour::Grey, true),
        3 => (Colour::Rgb, false),
        4 => (Colour::Rgb, true),
        other => return Err(reader.corrupt(format!("{other} channels"))),
    };
    pnm_raster::step_over(&mut reader, variant, &raster)?;
    gate.trailer(bytes, reader.position())?;
    let mut header = Header::new(gate.format, width, height).with_colour(colour, alpha);
    header.bits = if raster.maximum > 255 { 16 } else { 8 };
    Ok(header)
}

/// `P1` to `P6`: width, height and, but for bitmaps, the greatest value; then one white space.
fn plain(reader: &mut Reader<'_>, variant: u8, gate: &mut Gate<'_>) -> Result<Raster, ImageError> {
    let width = number(token(reader, gate)?, reader)?;
    let height = number(token(reader, gate)?, reader)?;
    let maximum = match variant {
        b'1' | b'4' => 1,
        _ => number(token(reader, gate)?, reader)?,
    };
    let depth = if matches!(variant, b'3' | b'6') { 3 } else { 1 };
    Ok(Raster { width, height, depth, maximum })
}

/// `P7`: lines of a word and a value, up to `ENDHDR`.
fn pam(reader: &mut Reader<'_>, gate: &mut Gate<'_>) -> Result<Raster, ImageError> {
    let mut raster = Raster { width: 0, height: 0, depth: 0, maximum: 0 };
    loop {
        let field = match token(reader, gate)? {
            b"ENDHDR" => return Ok(raster),
            b"WIDTH" => &mut raster.width,
            b"HEIGHT" => &mut raster.height,
            b"DEPTH" => &mut raster.depth,
            b"MAXVAL" => &mut raster.maximum,
            b"TUPLTYPE" => {
                token(reader, gate)?;
                continue;
            }
            _ => return Err(reader.corrupt("an unknown word in the header")),
        };
        *field = number(token(reader, gate)?, reader)?;
    }
}

/// The next word, past white space and comments, with the one white space behind it.
fn token<'a>(reader: &mut Reader<'a>, gate: &mut Gate<'_>) -> Result<&'a [u8], ImageError> {
    loop {
        if reader.position() > MAX_HEADER {
            return Err(reader.corrupt(format!("a header longer than {MAX_HEADER} bytes")));
        }
        match reader.rest().first() {
            Some(b'#') => {
                let comment = memchr::memchr2(b'\n', b'\r', reader.rest()).unwrap_or(reader.left());
                gate.metadata(Part::Comment, &reader.take(comment as u64)?[1..], 1)?;
            }
            Some(byte) if byte.is_ascii_whitespace() => drop(reader.take(1)?),
            _ => break,
        }
    }
    let length =
        reader.rest().iter().take_while(|byte| !byte.is_ascii_whitespace() && **byte != b'#').count();
    let word = reader.take(length as u64)?;
    reader.take(1)?;
    Ok(word)
}

fn number(word: &[u8], reader: &Reader<'_>) -> Result<u64, ImageError> {
    if word.is_empty() || word.len() > 10 || !word.iter().all(u8::is_ascii_digit) {
        return Err(reader.corrupt(format!("a number is expected at byte {}", reader.position())));
    }
    Ok(word.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}
