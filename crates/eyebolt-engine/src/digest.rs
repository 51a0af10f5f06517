//! Digests: of bytes, of pixels, and one that near-duplicates share nearly all bits of.

mod content;
mod perceptual;
mod spectrum;

use aws_lc_rs::digest::{Context, SHA256, digest};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

pub use self::{
    content::{ContentDigests, content_digests},
    perceptual::{PerceptualDigest, perceptual_distance},
};
use crate::{Picture, luma};

/// SHA-256 of bytes.
///
/// # Panics
/// Never: the digest has 32 bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// SHA-256 of bytes, hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// BLAKE3 of bytes: the name of a file inside the server, about three times as fast.
pub fn blake3(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// SHA-256, hex, of width and height (32-bit little-endian) and the pixels: equal for files that differ in encoding or
/// metadata alone. `None` for a picture that was decoded at a fraction of its size.
pub fn pixel_digest(picture: &Picture) -> Option<String> {
    if !picture.is_full() {
        return None;
    }
    let mut context = Context::new(&SHA256);
    context.update(&picture.width.to_le_bytes());
    context.update(&picture.height.to_le_bytes());
    context.update(&picture.pixels);
    Some(hex::encode(context.finish()))
}

/// Side of the plane that the perceptual hash looks at.
const SIDE: usize = 32;
/// Frequencies that it keeps in each direction.
const KEPT: usize = 8;

/// A 64-bit perceptual hash: the signs, against their median, of the 8 × 8 lowest frequencies of a 32 × 32 luma plane
/// (Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions*, 2010, section 3.2.1; the constant
/// term is left out). Pictures that a person takes for the same differ in few bits.
pub fn perceptual_hash(picture: &Picture) -> u64 {
    let frequencies = low_frequencies(&small_luma(picture));
    let mut sorted = frequencies;
    sorted[1..].sort_by(f32::total_cmp);
    let median = sorted[1 + (KEPT * KEPT - 1) / 2];
    let bits = frequencies.iter().enumerate().skip(1).filter(|(_, value)| **value > median);
    bits.fold(0, |hash, (index, _)| hash | 1 << index)
}

/// In how many bits two perceptual hashes differ, 0–64.
pub fn distance(a: u64, b: u64) -> u32 {
    (a ^ b).count_ones()
}

fn small_luma(picture: &Picture) -> [f32; SIDE * SIDE] {
    let source = ImageRef::new(picture.width, picture.height, &picture.pixels, PixelType::U8x3)
        .expect("a picture has three bytes for each of its pixels");
    let mut small = Image::new(SIDE as u32, SIDE as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
    Resizer::new().resize(&source, &mut small, &options).expect("both pictures have the same pixel type");
    let mut plane = [0.0; SIDE * SIDE];
    for (value, pixel) in plane.iter_mut().zip(small.buffer().as_chunks::<3>().0) {
        *value = f32::from(luma::luma(*pixel));
    }
    plane
}

/// The lowest coefficients of the two-dimensional DCT-II, unscaled: rows first, then columns.
fn low_frequencies(plane: &[f32; SIDE * SIDE]) -> [f32; KEPT * KEPT] {
    let wave = |frequency: usize, place: usize| {
        let angle = std::f32::consts::PI / SIDE as f32 * (place as f32 + 0.5) * frequency as f32;
        angle.cos()
    };
    let waves: [[f32; SIDE]; KEPT] = std::array::from_fn(|u| std::array::from_fn(|x| wave(u, x)));
    let mut rows = [[0.0; KEPT]; SIDE];
    for (row, line) in rows.iter_mut().zip(plane.chunks_exact(SIDE)) {
        *row = std::array::from_fn(|u| line.iter().zip(&waves[u]).map(|(value, wave)| value * wave).sum());
    }
    std::array::from_fn(|index| {
        let (v, u) = (index / KEPT, index % KEPT);
        rows.iter().zip(&waves[v]).map(|(row, wave)| row[u] * wave).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(shift: u8) -> Picture {
        let (width, height) = (90u32, 60u32);
        let value =
            |x: u32, y: u32| [(x * 2) as u8, (x * y / 24) as u8, (y * 4) as u8 ^ ((x / 15 % 2) as u8 * 96)];
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| value(x, y)));
        Picture::full(width, height, pixels.map(|one| one.saturating_add(shift)).collect())
    }

    #[test]
    fn bytes_have_the_digests_of_their_standards() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            hex::encode(blake3(b"")),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn pixels_tell_size_and_content_apart_and_need_all_pixels() {
        let mut picture = scene(0);
        let digest = pixel_digest(&picture);
        assert_ne!(digest, pixel_digest(&scene(1)));
        (picture.width, picture.height) = (60, 90);
        (picture.full_width, picture.full_height) = (60, 90);
        assert_ne!(digest, pixel_digest(&picture));
        picture.full_width = 120;
        assert_eq!(pixel_digest(&picture), None);
    }

    #[test]
    fn brighter_is_near_and_another_scene_is_far() {
        let hash = perceptual_hash(&scene(0));
        assert!(distance(hash, perceptual_hash(&scene(3))) <= 4);
        let mut mirrored = scene(0);
        mirrored.pixels.reverse();
        assert!(distance(hash, perceptual_hash(&mirrored)) > 16);
    }
}
