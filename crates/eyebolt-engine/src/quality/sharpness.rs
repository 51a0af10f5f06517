use super::plane::{Canonical, Plane};

/// Side of the fine view's pixels, canonical pixels. Coarser than one, so that the softness of ordinary lenses, of
/// scaling and of JPEG is no blur; and noise hides little.
const FINE: usize = 4;

/// Side of the coarse view's pixels, in pixels of the fine view.
const COARSE: usize = 4;

/// The coarse view has at least so many pixels a side; on fewer, blur and smooth content look alike.
const COARSE_SIDE: usize = 16;

/// The steepest share of the pixels of the fine view. An edge covers [`COARSE`] times the share of the coarse view.
const STEEPEST: f32 = 0.004;

/// Below this sum of steps (horizontal and vertical) in the coarse view there is no edge to judge.
const FAINTEST: f32 = 16.0;

/// The steepest steps between neighbours in a view at a quarter of the canonical scale, over those in a view at a
/// quarter of that.
///
/// An ideal edge keeps its step at every scale, so the ratio is near 1; an edge that blur has spread over 16
/// canonical pixels falls towards a quarter. Since only the steepest few count, a sharp subject before a smooth
/// background is sharp. The idea of re-blur metrics (Crété-Roffet et al., *The Blur Effect*, SPIE 6492, 2007), with
/// box filters for their low-pass filter.
///
/// None where the picture is too small or too flat to tell.
pub(super) fn detail_ratio(canonical: &Canonical<'_>) -> Option<f32> {
    let fine = canonical.coarse(FINE);
    let coarse = fine.averaged(COARSE);
    if coarse.width.min(coarse.height) < COARSE_SIDE {
        return None;
    }
    let kept = Steps::of(&coarse).steepest(STEEPEST * COARSE as f32);
    (kept >= FAINTEST).then(|| Steps::of(&fine).steepest(STEEPEST) / kept)
}

/// How often each step between neighbours was seen.
struct Steps {
    right: [u32; 256],
    down: [u32; 256],
}

impl Steps {
    fn of(plane: &Plane) -> Self {
        let (mut right, mut down) = ([0; 256], [0; 256]);
        for (row, below) in plane.rows().zip(plane.rows().skip(1)) {
            for ((&here, &next), &under) in row.iter().zip(&row[1..]).zip(below) {
                right[usize::from(here.abs_diff(next))] += 1;
                down[usize::from(here.abs_diff(under))] += 1;
            }
        }
        Self { right, down }
    }

    /// The sum of the steps, to the right and downwards, that `share` of the pixels reach.
    fn steepest(&self, share: f32) -> f32 {
        [&self.right, &self.down].map(|histogram| reached_by(histogram, share)).iter().sum()
    }
}

/// The largest value that at least `share` of the entries reach.
fn reached_by(histogram: &[u32; 256], share: f32) -> f32 {
    let wanted = (histogram.iter().sum::<u32>() as f32 * share).max(1.0);
    let mut passed = 0;
    let mut falling = (0_u8..=255).zip(histogram).rev();
    let reached = falling.find(|&(_, &n)| {
        passed += n;
        passed as f32 >= wanted
    });
    reached.map_or(0.0, |(value, _)| f32::from(value))
}
