//! Bar codes and matrix codes of a picture, with what they say.

#[cfg(not(feature = "zxing"))]
mod rqrr;
mod symbology;
#[cfg(feature = "zxing")]
mod zxing;

#[cfg(not(feature = "zxing"))]
use self::rqrr as reader;
#[cfg(feature = "zxing")]
use self::zxing as reader;

use base64::Engine as _;
use eyebolt_types::{
    BoundingBox, Polygon,
    request::BarcodeParameters,
    result::{Barcode, ConfidenceBand},
};

use crate::{EngineError, Picture, luma};
pub use symbology::formats;

/// The reader, `name@version`: what `model` says in answers.
pub const MODEL: &str = reader::MODEL;

/// Most codes that an answer holds where the request doesn't say.
const MAX_RESULTS: u32 = 100;

/// What is looked at.
struct Scan<'a> {
    luma: &'a [u8],
    width: u32,
    height: u32,
    /// Names of symbologies; None: all.
    #[cfg_attr(not(feature = "zxing"), expect(dead_code, reason = "the other reader knows one symbology"))]
    wanted: Option<&'a [&'static str]>,
}

/// A code in pixels of the view that was scanned.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    format: &'static str,
    text: String,
    bytes: Vec<u8>,
    content: &'static str,
    /// From the code's own top left to its own top right, bottom right, bottom left.
    polygon: Polygon,
}

/// Checks the parameters alone.
///
/// # Errors
/// Where `formats` names a symbology that this build doesn't read.
pub fn check(parameters: &BarcodeParameters) -> Result<(), EngineError> {
    symbology::wanted(parameters).map(|_| ())
}

/// Reads all codes, from top left to bottom right.
///
/// # Errors
/// Where `parameters.formats` names a symbology that this build doesn't read.
pub fn read(picture: &Picture, parameters: &BarcodeParameters) -> Result<Vec<Barcode>, EngineError> {
    let wanted = symbology::wanted(parameters)?;
    let plane = luma::plane(picture);
    let scan = Scan { luma: &plane, width: picture.width, height: picture.height, wanted: wanted.as_deref() };
    let mut found = reader::scan(&scan);
    if let Some(wanted) = &wanted {
        found.retain(|code| wanted.contains(&code.format));
    }
    let mut codes: Vec<_> = found.into_iter().map(|code| placed(code, picture)).collect();
    codes.sort_by(|a, b| a.bounds.y.total_cmp(&b.bounds.y).then(a.bounds.x.total_cmp(&b.bounds.x)));
    codes.truncate(parameters.max_results.unwrap_or(MAX_RESULTS) as usize);
    Ok(codes)
}

/// In pixels of the upright image.
fn placed(code: Found, picture: &Picture) -> Barcode {
    let (x, y) = (picture.scale_x(), picture.scale_y());
    let polygon = clockwise(code.polygon).map(|point| [point[0] * x, point[1] * y]);
    let bounds = BoundingBox::around(&polygon);
    let is_text = code.bytes == code.text.as_bytes();
    Barcode {
        format: code.format.to_owned(),
        text: code.text,
        bytes_base64: (!is_text).then(|| base64::engine::general_purpose::STANDARD.encode(&code.bytes)),
        content: code.content.to_owned(),
        polygon,
        bounds: bounds.clipped(picture.full_width as f32, picture.full_height as f32),
        confidence: 1.0,
        confidence_band: ConfidenceBand::High,
    }
}

/// A mirrored code runs the other way round; its top left stays first.
fn clockwise(polygon: Polygon) -> Polygon {
    let [a, b, c, d] = polygon;
    let twice_the_area = (c[0] - a[0]) * (d[1] - b[1]) - (d[0] - b[0]) * (c[1] - a[1]);
    if twice_the_area < 0.0 { [a, d, c, b] } else { polygon }
}

/// Text as it is, and bytes that are no UTF-8 as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let shown = |byte: &u8| format!("\\x{byte:02X}");
    let chunks = bytes.utf8_chunks();
    chunks
        .map(|chunk| chunk.valid().to_owned() + &chunk.invalid().iter().map(shown).collect::<String>())
        .collect()
}

#[cfg(test)]
mod tests;
