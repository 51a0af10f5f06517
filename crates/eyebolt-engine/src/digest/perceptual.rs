//! A digest that pictures share nearly which a person takes for the same.

use std::{collections::HashSet, sync::LazyLock};

use super::spectrum::{Frame, LEN, SIDE, Spectrum};
use crate::Picture;

/// Digests of another version are never compared with these.
const VERSION: u8 = 1;
/// Version and aspect, before the coefficients.
const HEAD: usize = 3;
const BYTES: usize = HEAD + LEN - 1;
/// Pictures that vary less than so many levels show nothing to tell them apart by.
const MIN_CONTRAST: f32 = 3.0;
/// Aspects that differ by more are of other pictures: binary logarithm, in thousandths (about 5 %).
const MAX_ASPECT: u32 = 70;
/// From this correlation on, two pictures in the same frame are near; forms filled in otherwise stay below.
const NEAR: f32 = 0.965;
/// The same where one shows a little less at its border: the frames fit less well then, and chance is still far away.
const NEAR_FRAMED: f32 = 0.82;
/// Below it no frame lifts a pair to [`NEAR_FRAMED`].
const HOPELESS: f32 = 0.4;
/// Bands of a digest, and signs in each.
const BANDS: usize = 4;
const BAND_BITS: usize = 22;

/// What is left of a picture to find near-duplicates by: its aspect and the 1023 lowest frequencies of its brightness,
/// a byte each. 1026 bytes, the first one a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerceptualDigest([u8; BYTES]);

impl PerceptualDigest {
    /// The digest of a picture.
    pub fn of(picture: &Picture) -> Self {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        let aspect = (picture.full_width as f32 / picture.full_height as f32).log2();
        bytes[1..HEAD].copy_from_slice(&((aspect * 1000.0).round() as i16).to_le_bytes());
        let spectrum = Spectrum::of(picture);
        for (byte, value) in bytes[HEAD..].iter_mut().zip(&spectrum.0[1..]) {
            *byte = pack(*value) as u8;
        }
        Self(bytes)
    }

    /// Reads bytes of [`PerceptualDigest::as_bytes`]; `None` for another version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().filter(|bytes: &[u8; BYTES]| bytes[0] == VERSION).map(Self)
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What an index finds it by; empty where the picture shows too little to be found.
    pub fn bands(&self) -> Vec<u32> {
        let spectrum = self.spectrum();
        if spectrum.contrast() < MIN_CONTRAST {
            return Vec::new();
        }
        let values = ordered(&spectrum);
        values.chunks_exact(BAND_BITS).enumerate().map(|(band, values)| named(band, signs(values))).collect()
    }

    /// What to ask an index for: [`PerceptualDigest::bands`] of this picture and of the same one with a little more and
    /// a little less border, also where a sign that hangs by a thread is another. At most 48, the likeliest first.
    pub fn probes(&self) -> Vec<u32> {
        let spectrum = self.spectrum();
        if spectrum.contrast() < MIN_CONTRAST {
            return Vec::new();
        }
        let framed = [Frame::Cut2, Frame::Added2].map(|frame| spectrum.framed(frame));
        let mut probes: Vec<(usize, u32)> = Vec::with_capacity(48);
        for view in [&spectrum, &framed[0], &framed[1]] {
            for (band, values) in ordered(view).chunks_exact(BAND_BITS).enumerate() {
                let variants = with_doubts(values).into_iter().enumerate();
                probes.extend(variants.map(|(doubt, bits)| (doubt, named(band, bits))));
            }
        }
        probes.sort_by_key(|(doubt, _)| *doubt);
        let mut seen = HashSet::with_capacity(probes.len());
        probes.into_iter().map(|(_, probe)| probe).filter(|probe| seen.insert(*probe)).collect()
    }

    fn aspect(&self) -> i32 {
        i32::from(i16::from_le_bytes([self.0[1], self.0[2]]))
    }

    fn spectrum(&self) -> Spectrum {
        let mut values = [0.0; LEN];
        for (value, byte) in values[1..].iter_mut().zip(&self.0[HEAD..]) {
            *value = unpack(*byte as i8);
        }
        Spectrum(values)
    }
}

/// How far two near-duplicates are apart, in thousandths of correlation (0–180); `None` where they are none, where one
/// shows too little to tell, or where the bytes are no digests of this version.
pub fn perceptual_distance(one: &[u8], other: &[u8]) -> Option<u32> {
    let (one, other) = (PerceptualDigest::from_bytes(one)?, PerceptualDigest::from_bytes(other)?);
    if one.aspect().abs_diff(other.aspect()) > MAX_ASPECT {
        return None;
    }
    let correlation = likeness(&one.spectrum(), &other.spectrum())?;
    Some(((1.0 - correlation).max(0.0) * 1000.0).round() as u32)
}

/// The correlation of two near-duplicates.
fn likeness(one: &Spectrum, other: &Spectrum) -> Option<f32> {
    if one.contrast().min(other.contrast()) < MIN_CONTRAST {
        return None;
    }
    let plain = one.correlation(other);
    if plain >= NEAR {
        return Some(plain);
    }
    if plain < HOPELESS {
        return None;
    }
    let frames = [Frame::Cut1, Frame::Cut2, Frame::Cut3];
    let tries = frames
        .iter()
        .flat_map(|frame| [one.framed(*frame).correlation(other), other.framed(*frame).correlation(one)]);
    let framed = tries.fold(f32::MIN, f32::max);
    // Where no other frame fits better, the two differ in what they show.
    (framed >= NEAR_FRAMED && framed > plain).then_some(framed)
}

/// Steps grow with the value, so that faint frequencies are kept as well as strong ones.
fn pack(value: f32) -> i8 {
    ((8.0 * value.abs().sqrt()).round().min(127.0) * value.signum()) as i8
}

fn unpack(byte: i8) -> f32 {
    let root = f32::from(byte) / 8.0;
    root * root.abs()
}

/// The lowest frequencies, from low to high.
fn ordered(spectrum: &Spectrum) -> [f32; BANDS * BAND_BITS] {
    static ORDER: LazyLock<[usize; BANDS * BAND_BITS]> = LazyLock::new(|| {
        let mut all: Vec<usize> = (1..LEN).collect();
        all.sort_by_key(|index| ((index / SIDE).pow(2) + (index % SIDE).pow(2), *index));
        std::array::from_fn(|place| all[place])
    });
    ORDER.map(|index| spectrum.0[index])
}

fn signs(values: &[f32]) -> u32 {
    values.iter().enumerate().fold(0, |bits, (index, value)| bits | u32::from(*value > 0.0) << index)
}

/// The signs; with the least certain one turned; with the next one turned; with both.
fn with_doubts(values: &[f32]) -> [u32; 4] {
    let bits = signs(values);
    let mut order: [usize; BAND_BITS] = std::array::from_fn(|index| index);
    order.sort_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs()));
    let (first, second) = (1 << order[0], 1 << order[1]);
    [bits, bits ^ first, bits ^ second, bits ^ first ^ second]
}

fn named(band: usize, bits: u32) -> u32 {
    u32::from(VERSION) << 24 | (band as u32) << BAND_BITS | bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(width: u32, height: u32, (dx, gain): (f32, f32)) -> Picture {
        let value = move |x: u32, y: u32| {
            let (x, y) = (x as f32 / width as f32 + dx, y as f32 / height as f32);
            let waves = (9.0 * x + 3.0 * y).sin() + (23.0 * x * y + 1.0).cos() + (31.0 * y - 8.0 * x).sin();
            [(120.0 + gain * 25.0 * waves) as u8; 3]
        };
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| value(x, y)));
        Picture::full(width, height, pixels.collect())
    }

    fn digest(picture: &Picture) -> PerceptualDigest {
        PerceptualDigest::of(picture)
    }

    fn meet(stored: &PerceptualDigest, asked: &PerceptualDigest) -> bool {
        let bands = stored.bands();
        asked.probes().iter().any(|probe| bands.contains(probe))
    }

    #[test]
    fn size_and_brightness_do_not_matter_and_the_scene_does() {
        let one = digest(&scene(300, 200, (0.0, 1.0)));
        for other in [scene(151, 100, (0.0, 1.0)), scene(1200, 800, (0.0, 1.3)), scene(299, 200, (0.0, 0.8))]
        {
            let other = digest(&other);
            assert!(perceptual_distance(one.as_bytes(), other.as_bytes()).is_some_and(|far| far < 10));
            assert!(meet(&one, &other));
        }
        let other = digest(&scene(300, 200, (0.5, 1.0)));
        assert_eq!(perceptual_distance(one.as_bytes(), other.as_bytes()), None);
        let wider = digest(&scene(330, 200, (0.0, 1.0)));
        assert_eq!(perceptual_distance(one.as_bytes(), wider.as_bytes()), None, "another aspect");
    }

    #[test]
    fn a_cut_border_is_near_from_both_sides() {
        let whole = scene(400, 300, (0.0, 1.0));
        let rows = whole.pixels.chunks_exact(1200).skip(6).take(288);
        let cut = Picture::full(384, 288, rows.flat_map(|row| &row[24..1176]).copied().collect());
        let (whole, cut) = (digest(&whole), digest(&cut));
        for (one, other) in [(&whole, &cut), (&cut, &whole)] {
            assert!(perceptual_distance(one.as_bytes(), other.as_bytes()).is_some());
            assert!(meet(one, other));
        }
    }

    #[test]
    fn an_empty_page_is_near_nothing_not_even_itself() {
        let blank = digest(&Picture::full(100, 80, vec![250; 24_000]));
        assert_eq!(perceptual_distance(blank.as_bytes(), blank.as_bytes()), None);
        assert!(blank.bands().is_empty() && blank.probes().is_empty());
    }

    #[test]
    fn another_version_is_never_compared() {
        let one = digest(&scene(64, 64, (0.0, 1.0)));
        let mut later = one.as_bytes().to_vec();
        assert_eq!(perceptual_distance(one.as_bytes(), &later), Some(0));
        later[0] += 1;
        assert_eq!(perceptual_distance(one.as_bytes(), &later), None);
        assert_eq!(PerceptualDigest::from_bytes(&later[..9]), None);
    }

    #[test]
    fn there_are_at_most_48_probes_and_the_plain_bands_are_the_first() {
        let one = digest(&scene(64, 64, (0.0, 1.0)));
        let (bands, probes) = (one.bands(), one.probes());
        assert_eq!(bands.len(), BANDS);
        assert!(probes.len() <= 48);
        assert_eq!(probes[..BANDS], bands[..]);
    }
}
