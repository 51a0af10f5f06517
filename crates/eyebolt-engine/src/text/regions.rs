//! From the probability map of a text detector to regions: differentiable binarisation, arXiv 1911.08947, section 3.5.
//!
//! Regions come from runs of pixels joined row by row, so no contour is traced and no mask is drawn.

use std::ops::Range;

use eyebolt_types::Point;

use super::{Quad, rectangle::Rectangle};

/// Regions whose shorter side is below this many map pixels hold no text that could be read.
const MIN_SIDE: f32 = 3.0;

/// When a pixel and when a region counts as text, and how far a region grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DbThresholds {
    /// A pixel is text from this probability on, 0–1.
    pub pixel: f32,
    /// A region counts from this mean probability on, 0–1.
    pub region: f32,
    /// A region grows on each side by area × this ÷ perimeter: the model marks only the core of a line.
    pub unclip_ratio: f32,
}

/// The output of the detector: one probability a pixel, row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbabilityMap<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: &'a [f32],
}

impl ProbabilityMap<'_> {
    fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..(y + 1) * self.width]
    }
}

/// A region with text, in map pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Region {
    /// Its corners; the reading direction is taken to be the one nearest to left to right.
    pub(crate) quad: Quad,
    /// Mean probability inside, before it has grown.
    pub(crate) score: f32,
}

/// The regions of a map, in no particular order.
pub(crate) fn find(map: ProbabilityMap<'_>, thresholds: DbThresholds) -> Vec<Region> {
    let mut runs = Runs::of(map, thresholds.pixel);
    runs.components().filter_map(|component| region(map, thresholds, component)).collect()
}

fn region(map: ProbabilityMap<'_>, thresholds: DbThresholds, component: &[Run]) -> Option<Region> {
    let rectangle = Rectangle::around(&outline(component))?;
    if rectangle.shorter_side() < MIN_SIDE {
        return None;
    }
    let score = mean_inside(map, &rectangle.corners());
    (score >= thresholds.region)
        .then(|| Region { quad: Quad(rectangle.grown(thresholds.unclip_ratio).corners()), score })
}

/// Outer corners of the first and last pixel of each row, ordered by y, then x.
fn outline(component: &[Run]) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(component.len() * 4);
    for row in component.chunk_by(|a, b| a.row == b.row) {
        let left = row.iter().map(|run| run.start).min().unwrap_or(0) as f32;
        let right = row.iter().map(|run| run.end).max().unwrap_or(0) as f32;
        let y = row[0].row as f32;
        points.extend([[left, y], [right, y], [left, y + 1.0], [right, y + 1.0]]);
    }
    points.sort_by(|a, b| a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0])));
    points
}

/// Mean of the map over the pixels whose centre lies inside a convex shape; 0 where there is none.
fn mean_inside(map: ProbabilityMap<'_>, corners: &[Point; 4]) -> f32 {
    let (low, high) =
        corners.iter().fold((f32::MAX, f32::MIN), |(low, high), p| (low.min(p[1]), high.max(p[1])));
    let (mut sum, mut count) = (0.0, 0);
    for y in (low.floor().max(0.0) as usize)..(high.ceil().max(0.0) as usize).min(map.height) {
        let covered = &map.row(y)[span(corners, y as f32 + 0.5, map.width)];
        sum += covered.iter().sum::<f32>();
        count += covered.len();
    }
    if count == 0 { 0.0 } else { sum / count as f32 }
}

/// The columns below `width` whose pixel centres lie inside a convex shape at height `y`.
fn span(corners: &[Point; 4], y: f32, width: usize) -> Range<usize> {
    let (mut left, mut right) = (f32::MAX, f32::MIN);
    for (index, a) in corners.iter().enumerate() {
        let b = corners[(index + 1) % 4];
        if (a[1] <= y) != (b[1] <= y) {
            let x = a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
            (left, right) = (left.min(x), right.max(x));
        }
    }
    if left > right {
        return 0..0;
    }
    let start = ((left - 0.5).ceil().max(0.0) as usize).min(width);
    start..((right - 0.5).floor() as isize + 1).clamp(start as isize, width as isize) as usize
}

/// Text pixels `start..end` of one row.
#[derive(Debug, Clone, Copy)]
struct Run {
    row: usize,
    start: usize,
    end: usize,
    /// Index of a run of the same component; the root names itself.
    parent: usize,
}

/// All runs of a map, a forest of components.
struct Runs(Vec<Run>);

impl Runs {
    fn of(map: ProbabilityMap<'_>, threshold: f32) -> Self {
        let mut runs = Self(Vec::new());
        let mut above = 0..0;
        for row in 0..map.height {
            let first = runs.0.len();
            runs.push_row(row, map.row(row), threshold);
            runs.join_rows(above, first);
            above = first..runs.0.len();
        }
        runs
    }

    fn push_row(&mut self, row: usize, values: &[f32], threshold: f32) {
        let mut x = 0;
        while let Some(ahead) = values[x..].iter().position(|&value| value > threshold) {
            let start = x + ahead;
            let length = values[start..].iter().position(|&value| value <= threshold);
            let end = length.map_or(values.len(), |length| start + length);
            self.0.push(Run { row, start, end, parent: self.0.len() });
            x = end;
        }
    }

    /// Joins the runs from `first` on with those of the row above that they touch, be it by a corner.
    fn join_rows(&mut self, above: Range<usize>, first: usize) {
        let mut upper = above.start;
        for lower in first..self.0.len() {
            while upper < above.end && self.0[upper].end < self.0[lower].start {
                upper += 1;
            }
            let mut touching = upper;
            while touching < above.end && self.0[touching].start <= self.0[lower].end {
                self.join(touching, lower);
                touching += 1;
            }
        }
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)].parent = a.min(b);
    }

    fn root(&mut self, mut run: usize) -> usize {
        while self.0[run].parent != run {
            let above = self.0[self.0[run].parent].parent;
            self.0[run].parent = above;
            run = above;
        }
        run
    }

    /// The runs of each component, from top to bottom.
    fn components(&mut self) -> impl Iterator<Item = &[Run]> {
        for run in 0..self.0.len() {
            self.0[run].parent = self.root(run);
        }
        self.0.sort_by_key(|run| run.parent);
        self.0.chunk_by(|a, b| a.parent == b.parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: DbThresholds = DbThresholds { pixel: 0.3, region: 0.5, unclip_ratio: 0.0 };

    /// Regions of a map with the given probability at each place.
    fn found(width: usize, height: usize, probability: impl Fn(usize, usize) -> f32) -> Vec<Region> {
        let values: Vec<f32> = (0..width * height).map(|at| probability(at % width, at / width)).collect();
        find(ProbabilityMap { width, height, values: &values }, THRESHOLDS)
    }

    fn upright(left: f32, top: f32, right: f32, bottom: f32) -> Quad {
        Quad([[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    #[test]
    fn each_region_is_found_with_its_mean_probability() {
        let regions = found(40, 20, |x, y| match (x, y) {
            (2..12, 3..7) => 0.75,
            (20..40, 10..20) => 1.0,
            _ => 0.0,
        });
        let first = Region { quad: upright(2.0, 3.0, 12.0, 7.0), score: 0.75 };
        let second = Region { quad: upright(20.0, 10.0, 40.0, 20.0), score: 1.0 };
        assert_eq!(regions, [first, second]);
    }

    #[test]
    fn faint_and_thin_regions_are_dropped() {
        let faint =
            found(20, 20, |x, y| if (2..12).contains(&x) && (2..12).contains(&y) { 0.4 } else { 0.0 });
        let thin = found(20, 20, |_, y| if (4..6).contains(&y) { 1.0 } else { 0.0 });
        // Mostly empty inside its rectangle: a frame, no text.
        let frame =
            found(40, 40, |x, y| if [x, y].iter().any(|at| [0, 39].contains(at)) { 1.0 } else { 0.0 });
        assert_eq!([faint, thin, frame].concat(), []);
    }

    #[test]
    fn pixels_that_touch_by_a_corner_or_join_further_down_are_one_region() {
        let corner = found(16, 8, |x, y| if (x < 10) == (y < 4) { 1.0 } else { 0.0 });
        let boxes: Vec<_> = corner.iter().map(|region| region.quad.bounds()).collect();
        assert_eq!(boxes.len(), 1, "{boxes:?}");
        let fork = found(12, 8, |x, y| if x < 10 && (y >= 4 || x % 4 < 2) { 1.0 } else { 0.2 });
        assert_eq!(fork.iter().map(|region| region.quad).collect::<Vec<_>>(), [upright(0.0, 0.0, 10.0, 8.0)]);
    }

    #[test]
    fn a_tilted_line_keeps_its_angle() {
        // A band around y = x ÷ 2, 8 pixels high.
        let regions = found(100, 80, |x, y| {
            let away = y as f32 - 10.0 - x as f32 / 2.0;
            if away.abs() <= 5.0 && (10..90).contains(&x) { 1.0 } else { 0.0 }
        });
        let [region] = regions[..] else { panic!("one region, not {regions:?}") };
        let [[x0, y0], [x1, y1], ..] = region.quad.0;
        assert!(((y1 - y0) / (x1 - x0) - 0.5).abs() < 0.05, "{region:?}");
        assert!((8.0..12.0).contains(&region.quad.height()), "{region:?}");
    }

    #[test]
    fn regions_grow_by_the_unclip_ratio() {
        let values: Vec<f32> =
            (0..600).map(|at| if (5..15).contains(&(at / 30)) { 1.0 } else { 0.0 }).collect();
        let map = ProbabilityMap { width: 30, height: 20, values: &values };
        let regions = find(map, DbThresholds { unclip_ratio: 1.6, ..THRESHOLDS });
        assert_eq!(regions, [Region { quad: upright(-6.0, -1.0, 36.0, 21.0), score: 1.0 }]);
    }
}
