//! Pixels through the front door: what every format and mode becomes.

#![expect(clippy::unwrap_used, reason = "what makes the fixtures is a test too")]

use std::io::Cursor;

use eyebolt_engine::decode::{DecodePlan, decode, plan};
use eyebolt_engine::probe::probe;
use eyebolt_engine::{ImageError, Picture};
use eyebolt_types::{ImageFormat, ImageLimits};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageBuffer, ImageFormat as Encoding, LumaA, Rgb, RgbImage, Rgba};
use proptest::prelude::*;

fn smooth(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 2) as u8, (y * 3) as u8, (x + y) as u8]))
}

fn encode(picture: impl Into<DynamicImage>, encoding: Encoding) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, encoding).unwrap();
    bytes.into_inner()
}

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    let header = probe(bytes, &ImageLimits::default())?;
    decode(bytes, &header, &plan(&header, None))
}

fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

#[test]
fn gives_the_pixels_of_lossless_formats() {
    let picture = smooth(64, 48);
    let expected = Picture::full(64, 48, picture.clone().into_raw());
    for encoding in
        [Encoding::Png, Encoding::WebP, Encoding::Tiff, Encoding::Bmp, Encoding::Pnm, Encoding::Qoi]
    {
        let read = read(&encode(picture.clone(), encoding)).unwrap();
        assert!(read.pixels == expected.pixels, "{encoding:?}");
        assert_eq!((read.width, read.height), (64, 48));
    }
}

#[test]
fn narrows_16_bits_and_lays_alpha_on_white() {
    let deep = ImageBuffer::from_pixel(32, 32, Rgb([65535_u16, 32896, 0]));
    assert_eq!(read(&encode(deep, Encoding::Png)).unwrap().pixels[..3], [255, 128, 0]);
    let clear = ImageBuffer::from_pixel(32, 32, Rgba([10_u8, 20, 30, 0]));
    assert_eq!(read(&encode(clear, Encoding::Png)).unwrap().pixels[..3], [255, 255, 255]);
    let half = ImageBuffer::from_pixel(32, 32, LumaA([0_u8, 128]));
    assert_eq!(read(&encode(half, Encoding::Png)).unwrap().pixels[..3], [127, 127, 127]);
    let both = ImageBuffer::from_pixel(32, 32, Rgba([65535_u16, 0, 0, 32896]));
    assert_eq!(read(&encode(both, Encoding::Png)).unwrap().pixels[..3], [255, 127, 127]);
}

/// A JPEG with an orientation in its EXIF block.
fn turned_jpeg(picture: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(picture).unwrap();
    let mut exif = *b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0";
    exif[29] = orientation;
    bytes.splice(2..2, exif);
    bytes
}

#[test]
fn stands_jpegs_upright_at_every_scale() {
    let stored = smooth(64, 48);
    let whole = DynamicImage::from(stored.clone());
    for (orientation, upright) in [
        (1, whole.clone()),
        (2, whole.fliph()),
        (3, whole.rotate180()),
        (4, whole.flipv()),
        (5, whole.rotate90().fliph()),
        (6, whole.rotate90()),
        (7, whole.rotate270().fliph()),
        (8, whole.rotate270()),
    ] {
        let bytes = turned_jpeg(&stored, orientation);
        let header = probe(&bytes, &ImageLimits::default()).unwrap();
        for (wanted, scale) in [(None, 1), (Some(32), 2), (Some(16), 4)] {
            let plan = plan(&header, wanted);
            assert_eq!(plan.scale, scale);
            let small = upright.resize_exact(plan.width, plan.height, image::imageops::FilterType::Triangle);
            let read = decode(&bytes, &header, &plan).unwrap();
            assert_eq!((read.full_width, read.full_height), (upright.width(), upright.height()));
            let difference = mean_difference(&read.pixels, small.to_rgb8().as_raw());
            assert!(difference < 6.0, "orientation {orientation}, scale 1/{scale}: {difference}");
        }
    }
}

#[test]
fn plans_the_smallest_scale_that_keeps_enough() {
    let bytes = turned_jpeg(&smooth(640, 480), 6);
    let header = probe(&bytes, &ImageLimits::default()).unwrap();
    let scales: Vec<_> = [None, Some(640), Some(321), Some(320), Some(160), Some(80), Some(1), Some(9999)]
        .map(|wanted| plan(&header, wanted).scale)
        .into();
    assert_eq!(scales, [1, 1, 1, 2, 4, 8, 8, 1]);
    let half = plan(&header, Some(320));
    let expected = DecodePlan { width: 240, height: 320, scale: 2, bytes_needed: 240 * 320 * (3 + 6) };
    assert_eq!(half, expected);
}

#[test]
fn refuses_compressed_data_that_ends_early() {
    let mut png = encode(smooth(64, 48), Encoding::Png);
    // The same rows for a picture twice as high.
    png[23] = 96;
    let crc = crc32fast::hash(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    assert!(matches!(read(&png), Err(ImageError::Corrupt { format: ImageFormat::Png, .. })));
    #[cfg(feature = "turbojpeg")]
    {
        let whole = turned_jpeg(&smooth(640, 480), 1);
        let mut cut = whole[..whole.len() / 2].to_vec();
        cut.extend(b"\xff\xd9");
        assert!(matches!(read(&cut), Err(ImageError::Corrupt { format: ImageFormat::Jpeg, .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn survives_damage(
        encoding in prop::sample::select(vec![
            Encoding::Jpeg, Encoding::Png, Encoding::WebP, Encoding::Gif, Encoding::Tiff, Encoding::Bmp, Encoding::Qoi,
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = encode(smooth(64, 48), encoding);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // A picture or a refusal, but never a panic, caught or not.
        let died = matches!(read(&bytes), Err(ImageError::DecoderDied { .. }));
        prop_assert!(!died);
    }
}
