use crate::{Picture, luma::luma};

/// About so many pixels are looked at.
const SAMPLES: usize = 24_576;

/// Share of the pixels left out at either end of a range: dust, dead pixels and JPEG ringing.
/// Small, since the ink of a page with one short line may be a thousandth of its pixels.
const TRIM: f32 = 0.0002;

/// A pixel counts as content where a channel is further than this from the channel's median.
const NEAR_MEDIAN: u8 = 4;

type Histogram = [u32; 256];

/// What light and colour the picture has, 0–255.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposure {
    /// Mean luma.
    pub(super) mean: f32,
    /// Luma of the darkest pixels, after the trim.
    pub(super) darkest: u8,
    /// Luma of the brightest pixels, after the trim.
    pub(super) brightest: u8,
    /// Largest range within one of luma, red, green and blue: pictures may differ in colour alone.
    pub(super) range: u8,
    /// Share of pixels that differ from the background, 0–1.
    pub(super) content: f32,
    /// Share of pixels in the middle half between darkest and brightest, 0–1: next to none in line art and codes.
    pub(super) midtones: f32,
    /// Share of pixels with a luma of at most 2, 0–1.
    pub(super) clipped_dark: f32,
    /// Share of pixels with a luma of at least 253, 0–1.
    pub(super) clipped_bright: f32,
}

impl Exposure {
    /// Looks at full resolution, so that thin strokes aren't greyed by scaling, at every n-th pixel.
    pub(super) fn of(picture: &Picture) -> Self {
        let pixels = picture.pixels.as_chunks::<3>().0;
        let step = sampling_step(pixels.len(), picture.width as usize);
        let mut histograms = [[0_u32; 256]; 4];
        for &pixel in pixels.iter().step_by(step) {
            let [r, g, b] = pixel;
            for (histogram, value) in histograms.iter_mut().zip([luma(pixel), r, g, b]) {
                histogram[usize::from(value)] += 1;
            }
        }
        let count = pixels.len().div_ceil(step).max(1) as f32;
        let range = histograms.iter().map(|channel| ends(channel, count)).map(|(low, high)| high - low).max();
        let content = histograms.iter().map(|channel| away_from_median(channel, count)).fold(0.0, f32::max);
        let light = &histograms[0];
        let (darkest, brightest) = ends(light, count);
        let quarter = (brightest - darkest) / 4;
        let middle = usize::from(darkest + quarter) + 1..usize::from(brightest - quarter);
        let weighted: f64 =
            light.iter().zip(0_u32..).map(|(&n, value)| f64::from(n) * f64::from(value)).sum();
        let share = |values: &[u32]| values.iter().sum::<u32>() as f32 / count;
        Self {
            mean: weighted as f32 / count,
            darkest,
            brightest,
            range: range.unwrap_or(0),
            content,
            midtones: light.get(middle).map_or(0.0, share),
            clipped_dark: share(&light[..=2]),
            clipped_bright: share(&light[253..]),
        }
    }
}

/// A step that shares no factor with the width, so that the samples don't fall into a few columns.
fn sampling_step(pixels: usize, width: usize) -> usize {
    let coprime = |step: &usize| {
        let (mut a, mut b) = (width, *step);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let smallest = (pixels / SAMPLES).max(1);
    (smallest..=smallest + width).find(coprime).unwrap_or(smallest)
}

/// The values between which all but [`TRIM`] of the count at either end lies.
fn ends(histogram: &Histogram, count: f32) -> (u8, u8) {
    let indexed = (0_u8..=255).zip(histogram.iter().copied());
    (reach(indexed.clone(), count * TRIM), reach(indexed.rev(), count * TRIM))
}

/// The value at which the running sum passes a number; 0 where it never does.
fn reach(values: impl Iterator<Item = (u8, u32)>, number: f32) -> u8 {
    let mut passed = 0;
    let mut values = values.skip_while(|&(_, n)| {
        passed += n;
        passed as f32 <= number
    });
    values.next().map_or(0, |(value, _)| value)
}

/// Share of the count that lies more than [`NEAR_MEDIAN`] from the median, 0–1.
fn away_from_median(histogram: &Histogram, count: f32) -> f32 {
    let median = reach((0_u8..=255).zip(histogram.iter().copied()), count / 2.0);
    let near = median.saturating_sub(NEAR_MEDIAN)..=median.saturating_add(NEAR_MEDIAN);
    let near: u32 = near.map(|value| histogram[usize::from(value)]).sum();
    1.0 - near as f32 / count
}
