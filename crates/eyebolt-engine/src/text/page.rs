//! How far a page stands turned: along which side its lines run, and whether they stand on their heads.

use super::Quad;

/// Lines whose longer side is at least this many times the shorter tell which way they run.
const LONG: f32 = 2.0;
/// Lines asked at first, and at most where they disagree.
pub(crate) const FIRST: usize = 3;
pub(crate) const MOST: usize = 9;

/// Whether the lines run from top to bottom or bottom to top rather than across, by their summed length.
pub(crate) fn runs_sideways(lines: &[Quad]) -> bool {
    let sum = lines.iter().fold(0.0, |sum, line| {
        let (width, height) = (line.width(), line.height());
        if height >= LONG * width {
            sum + height
        } else if width >= LONG * height {
            sum - width
        } else {
            sum
        }
    });
    sum > 0.0
}

/// The lines that can best tell which way up they stand, the longest first.
pub(crate) fn witnesses(lines: &[Quad], sideways: bool) -> Vec<Quad> {
    let mut along: Vec<Quad> =
        lines.iter().filter(|line| (line.height() > line.width()) == sideways).copied().collect();
    along.sort_by(|a, b| length(b).total_cmp(&length(a)));
    along.truncate(MOST);
    along
}

fn length(line: &Quad) -> f32 {
    line.width().max(line.height())
}

/// The vote of lines on whether the page stands on its head. Each gives the probability for it, the first ones
/// before the others.
#[derive(Debug, Default)]
pub(crate) struct Vote {
    sum: f32,
    count: usize,
}

impl Vote {
    /// Adds one line's probability, 0–1.
    pub(crate) fn add(&mut self, probability: f32) {
        self.sum += probability - 0.5;
        self.count += 1;
    }

    /// Whether further lines could hardly change the outcome: the first ones are sure and agree.
    pub(crate) fn is_clear(&self) -> bool {
        self.count >= FIRST && self.sum.abs() >= 0.35 * self.count as f32
    }

    /// Whether the page stands on its head.
    pub(crate) fn upside_down(&self) -> bool {
        self.sum > 0.0
    }
}
