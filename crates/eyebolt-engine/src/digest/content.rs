use super::perceptual::PerceptualDigest;
use crate::Picture;

/// What a picture is known by when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigests {
    /// BLAKE3 of size, full size and pixels: equal for files that differ in encoding or metadata alone. A picture that
    /// was decoded at a fraction equals those alone that were decoded at the same one.
    pub pixels: [u8; 32],
    /// Compared with [`super::perceptual_distance`].
    pub perceptual: PerceptualDigest,
}

/// The digests of a decoded picture.
pub fn content_digests(picture: &Picture) -> ContentDigests {
    let mut hasher = blake3::Hasher::new();
    for side in [picture.full_width, picture.full_height, picture.width, picture.height] {
        hasher.update(&side.to_le_bytes());
    }
    hasher.update(&picture.pixels);
    ContentDigests { pixels: *hasher.finalize().as_bytes(), perceptual: PerceptualDigest::of(picture) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::perceptual_distance;

    #[test]
    fn pixels_tell_content_size_and_fraction_apart() {
        let picture = Picture::full(4, 6, (0..72).collect());
        let digest = |picture: &Picture| content_digests(picture).pixels;
        assert_eq!(digest(&picture), digest(&picture.clone()));
        let mut other = picture.clone();
        other.pixels[40] ^= 1;
        let turned = Picture::full(6, 4, picture.pixels.clone());
        let half = Picture { full_width: 8, full_height: 12, ..picture.clone() };
        for other in [other, turned, half] {
            assert_ne!(digest(&picture), digest(&other));
        }
    }

    #[test]
    fn a_picture_decoded_at_a_fraction_is_near_the_whole_one() {
        let value = |x: u32, y: u32| [(x * 3 / 2) as u8, (y * 2) as u8, ((x / 20 + y / 30) % 2 * 200) as u8];
        let pixels = (0..120).flat_map(|y| (0..160).flat_map(move |x| value(x, y)));
        let whole = Picture::full(160, 120, pixels.collect());
        let even = whole.pixels.chunks_exact(480).step_by(2);
        let pixels = even.flat_map(|row| row.as_chunks::<3>().0.iter().step_by(2).flatten()).copied();
        let half =
            Picture { width: 80, height: 60, full_width: 160, full_height: 120, pixels: pixels.collect() };
        let (whole, half) = (content_digests(&whole).perceptual, content_digests(&half).perceptual);
        assert!(perceptual_distance(whole.as_bytes(), half.as_bytes()).is_some());
    }
}
