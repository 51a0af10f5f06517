//! Reads the image corpus: `manifest.json` beside the files. Shared by the examples.

use std::{io::Cursor, path::Path};

use eyebolt_engine::Picture;
use image::{DynamicImage, ImageDecoder as _, ImageReader, RgbaImage};
use serde_json::Value;

/// The rows of the manifest.
pub(crate) fn rows(corpus: &Path) -> Vec<Value> {
    let text = std::fs::read(corpus.join("manifest.json")).expect("CORPUS_DIR holds manifest.json");
    let mut manifest: Value = serde_json::from_slice(&text).expect("manifest.json is JSON");
    serde_json::from_value(manifest["files"].take()).expect("manifest.json has a list of files")
}

/// The first frame, upright, laid over white. None where the `image` crate can't decode it.
pub(crate) fn decode(corpus: &Path, row: &Value) -> Option<Picture> {
    let bytes = std::fs::read(corpus.join(row["path"].as_str()?)).ok()?;
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().ok()?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(200 << 20);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > 40_000_000 {
        return None;
    }
    let orientation = decoder.orientation().ok()?;
    let mut image = DynamicImage::from_decoder(decoder).ok()?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let pixels =
        if image.color().has_alpha() { over_white(&image.to_rgba8()) } else { image.to_rgb8().into_raw() };
    Some(Picture::full(width, height, pixels))
}

fn over_white(image: &RgbaImage) -> Vec<u8> {
    let blend = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    image.pixels().flat_map(|pixel| [0, 1, 2].map(|channel| blend(pixel.0[channel], pixel.0[3]))).collect()
}

/// A string member, or nothing.
pub(crate) fn text<'a>(row: &'a Value, pointer: &str) -> &'a str {
    row.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
