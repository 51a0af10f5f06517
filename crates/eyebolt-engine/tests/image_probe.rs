//! The header reader through its front door: files made here, sound and hostile.

#![expect(clippy::unwrap_used, reason = "what makes the fixtures is a test too")]

use std::io::Cursor;

use eyebolt_engine::ImageError;
use eyebolt_engine::probe::{Colour, Header, probe};
use eyebolt_types::{ImageFormat, ImageLimits, Orientation};
use image::{DynamicImage, ImageFormat as Encoding, Rgb, RgbImage};
use proptest::prelude::*;

fn limits() -> ImageLimits {
    ImageLimits::default()
}

fn picture(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x * y) as u8])).into()
}

fn file(encoding: Encoding) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture =
        if encoding == Encoding::Ico { picture(64, 48).into_rgba8().into() } else { picture(64, 48) };
    picture.write_to(&mut bytes, encoding).unwrap();
    bytes.into_inner()
}

const ENCODINGS: [(Encoding, ImageFormat); 9] = [
    (Encoding::Jpeg, ImageFormat::Jpeg),
    (Encoding::Png, ImageFormat::Png),
    (Encoding::WebP, ImageFormat::Webp),
    (Encoding::Gif, ImageFormat::Gif),
    (Encoding::Tiff, ImageFormat::Tiff),
    (Encoding::Bmp, ImageFormat::Bmp),
    (Encoding::Pnm, ImageFormat::Pnm),
    (Encoding::Qoi, ImageFormat::Qoi),
    (Encoding::Ico, ImageFormat::Ico),
];

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let checked = [kind, data].concat();
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], &checked, &crc32fast::hash(&checked).to_be_bytes()].concat()
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let ihdr = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IHDR", &ihdr)].concat()
}

/// A sound PNG with a part behind its header.
fn png_with(part: &[u8]) -> Vec<u8> {
    let mut bytes = file(Encoding::Png);
    bytes.splice(33..33, part.iter().copied());
    bytes
}

fn jpeg_with(marker: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = file(Encoding::Jpeg);
    let length = (data.len() as u16 + 2).to_be_bytes();
    bytes.splice(2..2, [&[0xff, marker][..], &length, data].concat());
    bytes
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn reads_the_size_of_every_format() {
    for (encoding, format) in ENCODINGS {
        let header = probe(&file(encoding), &limits()).unwrap();
        assert_eq!((header.format, header.width, header.height, header.frames), (format, 64, 48, 1));
    }
}

#[test]
fn describes_a_jpeg() {
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let header = probe(&jpeg_with(0xe1, exif), &limits()).unwrap();
    let expected = Header {
        format: ImageFormat::Jpeg,
        width: 48,
        height: 64,
        stored_width: 64,
        stored_height: 48,
        frames: 1,
        orientation: Orientation::Rotate90,
        bits: 8,
        channels: 3,
        colour: Colour::Rgb,
        progressive: false,
        has_alpha: false,
        // The encoder's own JFIF segment of 18 bytes stands behind.
        metadata_bytes: exif.len() as u64 + 4 + 18,
    };
    assert_eq!(header, expected);
}

#[test]
fn refuses_every_truncation_as_corrupt() {
    for (encoding, format) in ENCODINGS {
        let bytes = file(encoding);
        // Up to the signature, other formats share the first bytes.
        for end in (12..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            match probe(&bytes[..end], &limits()) {
                Err(ImageError::Corrupt { format: named, .. }) => assert_eq!(named, format),
                other => panic!("{format} cut to {end} of {} bytes: {other:?}", bytes.len()),
            }
        }
    }
}

#[test]
fn says_what_a_file_is_that_is_no_image() {
    for (bytes, found) in [
        (b"%PDF-1.7\n".as_slice(), "a PDF"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b"\x7fELF\x02\x01\x01", "an ELF executable"),
        (b"\x1f\x8b\x08\0", "gzip data"),
        (b"<?xml version=\"1.0\"?><svg/>", "SVG"),
        (b"  <!DOCTYPE html><p>", "HTML"),
        (b"<?php echo 1;", "PHP"),
        (b"{\"a\": 1}", "JSON"),
        (b"hello", "text"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41", "MP4 or another ISO media file"),
        (b"\0\0\0\x14ftypheic\0\0\0\0mif1", "HEIC"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0avif", "AVIF"),
        (b"\x03\x99\x12\xfa", "of no known kind"),
    ] {
        let error = ImageError::UnsupportedFormat { found: found.to_owned() };
        assert_eq!(probe(bytes, &limits()), Err(error));
    }
    assert_eq!(probe(b"", &limits()), Err(ImageError::Empty));
}

#[test]
fn holds_the_size_against_the_limits() {
    let refusal = |width, height| probe(&png_header(width, height), &limits()).unwrap_err();
    let (width, height) = (30_000, 30_000);
    assert_eq!(refusal(30_000, 30_000), ImageError::TooManyPixels { limit: 40_000_000, width, height });
    let (width, height) = (20_000, 1_000);
    assert_eq!(refusal(20_000, 1_000), ImageError::SideTooLong { limit: 16_384, width, height });
    let (width, height) = (1_000, 31);
    assert_eq!(refusal(1_000, 31), ImageError::TooSmall { limit: 32, width, height });
    let (width, height) = (32, 641);
    assert_eq!(refusal(32, 641), ImageError::BadAspectRatio { limit: 20.0, width, height });
    let few = ImageLimits { max_file_bytes: 10, ..limits() };
    assert_eq!(probe(b"GIF89a.....", &few), Err(ImageError::TooManyBytes { limit: 10, found: 11 }));
}

#[test]
fn counts_metadata_after_inflation() {
    let zeros = zlib(&vec![0; 3 << 20]);
    let bomb = png_with(&chunk(b"zTXt", &[b"Comment\0\0", zeros.as_slice()].concat()));
    assert!(matches!(probe(&bomb, &limits()), Err(ImageError::DecompressionBomb { limit: 1_048_576, .. })));
    let international = png_with(&chunk(b"iTXt", &[b"Title\0\x01\0en\0\0", zeros.as_slice()].concat()));
    assert!(matches!(probe(&international, &limits()), Err(ImageError::DecompressionBomb { .. })));
    let flood = png_with(&chunk(b"tEXt", b"a\0b").repeat(100_000));
    assert!(matches!(probe(&flood, &limits()), Err(ImageError::TooManyMetadata { limit: 1_048_576, .. })));
    let profile = png_with(&chunk(b"iCCP", &[b"icc\0\0", zlib(&[0; 1000]).as_slice()].concat()));
    assert!(probe(&profile, &limits()).unwrap().metadata_bytes >= 1000);
}

#[test]
fn refuses_pixels_that_are_compressed_beyond_reason() {
    let pixels = chunk(b"IDAT", &zlib(&vec![0; 40 << 20]));
    let bytes = [png_header(64, 64), pixels, chunk(b"IEND", b"")].concat();
    assert!(matches!(probe(&bytes, &limits()), Err(ImageError::DecompressionBomb { .. })));
}

#[test]
fn counts_frames_and_their_pixels() {
    let control = |width: u32, height: u32| {
        chunk(b"fcTL", &[&[0; 4][..], &width.to_be_bytes(), &height.to_be_bytes(), &[0; 14]].concat())
    };
    let many = png_with(&control(64, 48).repeat(301));
    assert_eq!(probe(&many, &limits()), Err(ImageError::TooManyFrames { limit: 300, found: 301 }));
    let announced = png_with(&chunk(b"acTL", &[0, 0, 2, 0, 0, 0, 0, 0]));
    assert_eq!(probe(&announced, &limits()), Err(ImageError::TooManyFrames { limit: 300, found: 512 }));
    let large = png_with(&control(6000, 6000).repeat(6));
    assert!(matches!(
        probe(&large, &limits()),
        Err(ImageError::DecompressionBomb { limit: 200_000_000, found: 216_000_000, .. })
    ));
}

#[test]
fn limits_the_scans_of_a_jpeg() {
    let mut bytes = file(Encoding::Jpeg);
    let scan = memchr::memmem::find(&bytes, b"\xff\xda").unwrap();
    let scans = bytes[scan..bytes.len() - 2].repeat(100);
    bytes.splice(scan..scan, scans);
    assert!(matches!(
        probe(&bytes, &limits()),
        Err(ImageError::DecompressionBomb { limit: 100, found: 101, .. })
    ));
}

#[test]
fn refuses_what_other_programs_would_run() {
    let archive = b"PK\x03\x04\x14\0\0\0\0\0".as_slice();
    let trailers = [archive, b"<script>", b"%PDF-1.4", b"Rar!\x1a\x07\0", b"#!/bin/sh\n", b";alert(1)//"];
    for trailer in trailers {
        for (encoding, format) in ENCODINGS {
            let bytes = [file(encoding).as_slice(), trailer].concat();
            match probe(&bytes, &limits()) {
                Err(ImageError::Polyglot { format: named, .. }) => assert_eq!(named, format),
                other => panic!("{format} with {}: {other:?}", trailer.escape_ascii()),
            }
        }
    }
    let php = png_with(&chunk(b"tEXt", b"Comment\0<?php system($_GET[0]); ?>"));
    assert!(matches!(probe(&php, &limits()), Err(ImageError::ActiveContent { .. })));
    let page = jpeg_with(0xfe, b" <HTML><script>");
    assert!(matches!(probe(&page, &limits()), Err(ImageError::ActiveContent { .. })));
    let document = jpeg_with(0xfe, b"%PDF-1.4 1 0 obj");
    assert!(matches!(probe(&document, &limits()), Err(ImageError::Polyglot { .. })));
    let mut script = [file(Encoding::Bmp).as_slice(), b"*/=1;"].concat();
    script[2..4].copy_from_slice(b"/*");
    assert!(matches!(probe(&script, &limits()), Err(ImageError::Polyglot { .. })));
}

#[test]
fn refuses_the_test_string_of_scanners() {
    let string = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"].concat();
    for bytes in [string.clone().into_bytes(), jpeg_with(0xfe, string.as_bytes())] {
        assert!(matches!(probe(&bytes, &limits()), Err(ImageError::Malware { .. })));
    }
}

#[test]
fn takes_what_cameras_and_editors_leave_behind() {
    let second = file(Encoding::Jpeg);
    for trailer in [&[0; 64][..], b"\n", b"\xff\xff", &second, b"\0\0\0\x18ftypmp42\0\0\0\0"] {
        let bytes = [file(Encoding::Jpeg).as_slice(), trailer].concat();
        assert!(probe(&bytes, &limits()).is_ok(), "{}", trailer[..4.min(trailer.len())].escape_ascii());
    }
    // Markup in described metadata is what people write there; it is never served.
    assert!(probe(&png_with(&chunk(b"iTXt", b"Title\0\0\0en\0\0<script>")), &limits()).is_ok());
}

#[test]
fn finds_loops_of_directories() {
    let mut bytes = file(Encoding::Tiff);
    let first = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes(bytes[first..first + 2].try_into().unwrap()));
    let next = first + 2 + 12 * entries;
    bytes[next..next + 4].copy_from_slice(&(first as u32).to_le_bytes());
    let what = "its directories form a loop".to_owned();
    assert_eq!(probe(&bytes, &limits()), Err(ImageError::Corrupt { format: ImageFormat::Tiff, what }));
}

#[test]
fn refuses_an_empty_picture_beyond_the_file() {
    let row =
        [[0, 0, 0, 0, 1, 0, 32, 0].as_slice(), &0_u32.to_le_bytes(), &0x7fff_0000_u32.to_le_bytes()].concat();
    let bytes = [b"\0\0\x01\0\x01\0".as_slice(), &row].concat();
    assert!(matches!(probe(&bytes, &limits()), Err(ImageError::Corrupt { format: ImageFormat::Ico, .. })));
}

proptest! {
    #[test]
    fn survives_damage(
        encoding in 0..ENCODINGS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = file(ENCODINGS[encoding].0);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Any answer will do but a panic; a header must keep to the limits.
        if let Ok(header) = probe(&bytes, &limits()) {
            prop_assert!(header.pixels() <= limits().max_pixels);
        }
    }
}
