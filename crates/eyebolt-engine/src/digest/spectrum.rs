//! The low frequencies of a picture's brightness, and what they become when its border is cut off.

use std::{f32::consts::PI, sync::LazyLock};

use crate::{Picture, luma};

/// Frequencies in each direction.
pub(super) const SIDE: usize = 32;
/// All of them.
pub(super) const LEN: usize = SIDE * SIDE;
/// Pictures are averaged over squares of pixels until the longer side has no more cells: four to a half-wave of the highest
/// frequency at least.
const CELLS: usize = 256;
/// Rows of each cell that are looked at, at least: of large cells not every row, which would tell nothing more.
const ROWS: usize = 4;

type Matrix = [[f32; SIDE]; SIDE];

/// Coefficients of an orthonormal two-dimensional cosine series over the whole picture, whatever its size: row by row,
/// vertical frequency first. In levels of brightness; the first one is the mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spectrum(pub(super) [f32; LEN]);

impl Spectrum {
    pub(super) fn of(picture: &Picture) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let factor = width.max(height).div_ceil(CELLS).max(1);
        let (columns, rows) = (waves(width, factor), waves(height, factor));
        let mut found = [0.0; LEN];
        let mut line = vec![0_u32; columns.len()];
        for (band, wave) in picture.pixels.chunks(factor * width * 3).zip(&rows) {
            sum_cells(band, (width, factor), &mut line);
            let high = (band.len() / (width * 3)).div_ceil(row_step(factor));
            let along = project(&line, &columns, (width, factor, high));
            for (row, weight) in found.chunks_exact_mut(SIDE).zip(wave) {
                row.iter_mut().zip(&along).for_each(|(sum, value)| *sum += value * weight);
            }
        }
        Self(found)
    }

    /// How much the brightness varies: its standard deviation, levels.
    pub(super) fn contrast(&self) -> f32 {
        self.0[1..].iter().map(|value| value * value).sum::<f32>().sqrt()
    }

    /// Correlation of what varies in both, −1 to 1.
    pub(super) fn correlation(&self, other: &Self) -> f32 {
        let product: f32 = self.0[1..].iter().zip(&other.0[1..]).map(|(a, b)| a * b).sum();
        product / (self.contrast() * other.contrast()).max(f32::EPSILON)
    }

    /// The same picture seen through another frame.
    pub(super) fn framed(&self, frame: Frame) -> Self {
        let matrix = &FRAMES[frame as usize];
        let mut half = [0.0; LEN];
        for (out, row) in half.chunks_exact_mut(SIDE).zip(matrix) {
            for (line, weight) in self.0.chunks_exact(SIDE).zip(row) {
                out.iter_mut().zip(line).for_each(|(sum, value)| *sum += value * weight);
            }
        }
        let mut whole = [0.0; LEN];
        for (out, line) in whole.chunks_exact_mut(SIDE).zip(half.chunks_exact(SIDE)) {
            for (sum, row) in out.iter_mut().zip(matrix) {
                *sum = line.iter().zip(row).map(|(value, weight)| value * weight).sum();
            }
        }
        Self(whole)
    }
}

/// What is cut off at each border, in parts of the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// 1 %.
    Cut1,
    /// 2 %.
    Cut2,
    /// 3 %.
    Cut3,
    /// 2 % are added, in the colour of the border.
    Added2,
}

static FRAMES: LazyLock<[Matrix; 4]> = LazyLock::new(|| [0.01, 0.02, 0.03, -0.02].map(frame_matrix));

/// From coefficients to those behind a frame: the series at places inside the frame, taken apart again.
fn frame_matrix(cut: f32) -> Matrix {
    let place = |index: usize| (index as f32 + 0.5) / SIDE as f32;
    std::array::from_fn(|to| {
        std::array::from_fn(|from| {
            let at = |index| {
                let inside = (cut + place(index) * (1.0 - 2.0 * cut)).clamp(0.0, 1.0);
                wave(to, place(index)) * wave(from, inside)
            };
            (0..SIDE).map(at).sum::<f32>() / SIDE as f32
        })
    })
}

fn wave(frequency: usize, place: f32) -> f32 {
    let height = if frequency == 0 { 1.0 } else { std::f32::consts::SQRT_2 };
    height * (PI * frequency as f32 * place).cos()
}

/// The integral of each wave over each cell of a side. The last cell may be a smaller one.
fn waves(side: usize, factor: usize) -> Vec<[f32; SIDE]> {
    let edge = |pixel: usize| pixel.min(side) as f32 / side as f32;
    let integral = |frequency: usize, (from, to): (f32, f32)| {
        if frequency == 0 {
            return to - from;
        }
        let rate = PI * frequency as f32;
        std::f32::consts::SQRT_2 * ((rate * to).sin() - (rate * from).sin()) / rate
    };
    let cell = |start| (edge(start), edge(start + factor));
    (0..side).step_by(factor).map(|start| std::array::from_fn(|u| integral(u, cell(start)))).collect()
}

/// Every how many rows of a cell one is looked at.
fn row_step(factor: usize) -> usize {
    (factor / ROWS).max(1)
}

/// 256 times the luma, summed over each cell of one row of cells.
fn sum_cells(band: &[u8], (width, factor): (usize, usize), line: &mut [u32]) {
    line.fill(0);
    for row in band.chunks_exact(width * 3).step_by(row_step(factor)) {
        for (sum, cell) in line.iter_mut().zip(row.chunks(factor * 3)) {
            let colours = cell.as_chunks::<3>().0.iter().fold([0_u32; 3], |total, pixel| {
                std::array::from_fn(|channel| total[channel] + u32::from(pixel[channel]))
            });
            *sum += luma::weighted(colours);
        }
    }
}

/// Coefficients along one row of cells.
fn project(line: &[u32], waves: &[[f32; SIDE]], (width, factor, high): (usize, usize, usize)) -> [f32; SIDE] {
    let mut found = [0.0; SIDE];
    for (index, (sum, wave)) in line.iter().zip(waves).enumerate() {
        let wide = factor.min(width - index * factor);
        let mean = *sum as f32 / (256 * wide * high) as f32;
        found.iter_mut().zip(wave).for_each(|(total, weight)| *total += mean * weight);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waved(width: u32, height: u32, (u, v): (f32, f32)) -> Picture {
        let place = |index: u32, side: u32| (index as f32 + 0.5) / side as f32;
        let value =
            |x, y| 128.0 + 60.0 * (PI * u * place(x, width)).cos() * (PI * v * place(y, height)).cos();
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [value(x, y) as u8; 3]));
        Picture::full(width, height, pixels.collect())
    }

    #[test]
    fn a_wave_is_found_at_its_frequency_at_every_size() {
        for (width, height) in [(64, 48), (301, 200), (1030, 777), (2500, 1900)] {
            let found = Spectrum::of(&waved(width, height, (5.0, 2.0)));
            assert!((found.0[2 * SIDE + 5] - 30.0).abs() < 0.5, "{width}: {}", found.0[2 * SIDE + 5]);
            assert!((found.contrast() - 30.0).abs() < 0.5);
            assert!((found.0[0] - 127.5).abs() < 0.5, "the mean: {}", found.0[0]);
        }
    }

    #[test]
    fn a_frame_shows_what_cutting_shows() {
        let whole = waved(500, 500, (7.0, 4.0));
        let rows = whole.pixels.chunks_exact(1500).skip(10).take(480);
        let cut = Picture::full(480, 480, rows.flat_map(|row| &row[30..1470]).copied().collect());
        let (whole, cut) = (Spectrum::of(&whole), Spectrum::of(&cut));
        assert!(whole.framed(Frame::Cut2).correlation(&cut) > 0.999);
        assert!(whole.correlation(&cut) < 0.99);
        assert!(cut.framed(Frame::Added2).correlation(&whole) > 0.95);
    }
}
