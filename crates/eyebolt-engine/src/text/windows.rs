//! Cuts very long lines at gaps between words, since the recogniser's time and memory grow faster than the width.

use std::ops::Range;

use super::Crop;

/// No window is wider than this many times the height.
const LONGEST: usize = 66;
/// Cuts lie in this last part of a window.
const SEARCHED: usize = 3;
/// Columns count as gap below this share of the contrast that the searched part has.
const QUIET: f32 = 0.2;
/// A gap at least as wide as the height divided by this parts words.
const WORD_GAP: usize = 6;

/// A part of a line, and whether a word ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) columns: Range<usize>,
    pub(crate) ends_word: bool,
}

/// The windows of a line from left to right; together they cover it.
pub(crate) fn of(crop: &Crop) -> Vec<Window> {
    let longest = crop.height * LONGEST;
    let mut windows = Vec::new();
    let mut start = 0;
    while crop.width - start > longest {
        let end = start + longest;
        let gap = widest_gap(crop, end - longest / SEARCHED..end);
        let cut = gap.start.midpoint(gap.end).max(start + 1);
        windows.push(Window { columns: start..cut, ends_word: gap.len() * WORD_GAP >= crop.height });
        start = cut;
    }
    windows.push(Window { columns: start..crop.width, ends_word: true });
    windows
}

/// The longest run of columns with little contrast.
fn widest_gap(crop: &Crop, searched: Range<usize>) -> Range<usize> {
    let contrasts: Vec<u8> = searched.clone().map(|column| contrast(crop, column)).collect();
    let lowest = f32::from(contrasts.iter().copied().min().unwrap_or(0));
    let highest = f32::from(contrasts.iter().copied().max().unwrap_or(0));
    let limit = lowest + QUIET * (highest - lowest);
    let mut widest = 0..0;
    let mut start = 0;
    for run in contrasts.chunk_by(|a, b| (f32::from(*a) <= limit) == (f32::from(*b) <= limit)) {
        if f32::from(run[0]) <= limit && run.len() > widest.len() {
            widest = start..start + run.len();
        }
        start += run.len();
    }
    searched.start + widest.start..searched.start + widest.end
}

/// Between the brightest and the darkest pixel of a column, by their green.
fn contrast(crop: &Crop, column: usize) -> u8 {
    let greens = crop.pixels.iter().skip(column * 3 + 1).step_by(crop.width * 3);
    let (low, high) = greens.fold((u8::MAX, 0), |(low, high), green| (low.min(*green), high.max(*green)));
    high.saturating_sub(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A white line 4 pixels high with ink in every other row of some columns.
    fn crop(width: usize, inked: impl Fn(usize) -> bool) -> Crop {
        let value = |y: usize, x: usize| if y.is_multiple_of(2) && inked(x) { 0 } else { 255 };
        let places = (0..4).flat_map(|y| (0..width).map(move |x| (y, x)));
        Crop { width, height: 4, pixels: places.flat_map(|(y, x)| [value(y, x); 3]).collect() }
    }

    #[test]
    fn a_line_that_is_short_enough_stays_whole() {
        let whole = Window { columns: 0..264, ends_word: true };
        assert_eq!(of(&crop(264, |_| true)), [whole]);
    }

    #[test]
    fn a_long_line_is_cut_in_the_middle_of_its_widest_gap() {
        let line = crop(300, |column| !(200..210).contains(&column) && !(230..234).contains(&column));
        let windows =
            [Window { columns: 0..205, ends_word: true }, Window { columns: 205..300, ends_word: true }];
        assert_eq!(of(&line), windows);
    }

    proptest! {
        #[test]
        fn windows_cover_the_line(width in 1_usize..2000, step in 1_usize..50) {
            let windows = of(&crop(width, |column| column % step != 0));
            let mut end = 0;
            for window in &windows {
                prop_assert_eq!(window.columns.start, end);
                prop_assert!((1..=264).contains(&window.columns.len()));
                end = window.columns.end;
            }
            prop_assert_eq!(end, width);
        }
    }
}
