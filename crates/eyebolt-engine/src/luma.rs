//! Brightness of pixels as ITU-R BT.601 weighs it, 0–255.

use crate::Picture;

/// The luma of R G B.
#[inline]
pub(crate) fn luma(pixel: [u8; 3]) -> u8 {
    ((weighted(pixel.map(u32::from)) + 128) >> 8) as u8
}

/// 256 times the luma of R G B sums.
#[inline]
pub(crate) fn weighted([r, g, b]: [u32; 3]) -> u32 {
    77 * r + 150 * g + 29 * b
}

/// The luma of every pixel, rows without padding.
pub(crate) fn plane(picture: &Picture) -> Vec<u8> {
    picture.pixels.as_chunks::<3>().0.iter().map(|&pixel| luma(pixel)).collect()
}
