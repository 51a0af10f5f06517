use std::ops::Range;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::Quad;
use crate::Picture;

/// Lines taller than this many times the crop are shrunk before they are straightened, so that nothing aliases.
const SHRINK_FROM: f32 = 1.25;

/// Text of more than 400 letters in one line is a pattern, no text: this many times the height.
const LONGEST: usize = 200;

/// A straightened line: 8-bit RGB, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crop {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

impl Crop {
    /// The line in `quad` (picture pixels) at the given height, as wide as its shape asks for, at least one pixel.
    /// Beyond the picture's edge its last pixels go on. Lines longer than any text are squeezed.
    pub(crate) fn cut(picture: &Picture, quad: &Quad, height: usize) -> Self {
        let (line_width, line_height) = (quad.width().max(1.0), quad.height().max(1.0));
        let width = (line_width * height as f32 / line_height).ceil().max(1.0) as usize;
        let size = (width.min(height * LONGEST), height);
        let factor = height as f32 * SHRINK_FROM / line_height;
        match (factor < 1.0).then(|| shrunk(picture, quad, factor)).flatten() {
            Some((small, quad)) => straightened(&small, &quad, size),
            None => straightened(picture, quad, size),
        }
    }

    /// Turned by 180°.
    pub(crate) fn upside_down(&self) -> Self {
        let pixels = self.pixels.as_chunks::<3>().0.iter().rev().flatten().copied().collect();
        Self { pixels, ..*self }
    }

    /// Stretched or squeezed to another size.
    pub(crate) fn stretched(&self, width: u32, height: u32) -> Self {
        let pixels = resized(&self.pixels, (self.width as u32, self.height as u32), None, (width, height));
        Self { width: width as usize, height: height as usize, pixels }
    }

    /// Some of the columns.
    pub(crate) fn columns(&self, columns: Range<usize>) -> Self {
        let rows = self.pixels.chunks_exact(self.width * 3);
        let pixels = rows.flat_map(|row| &row[columns.start * 3..columns.end * 3]).copied().collect();
        Self { width: columns.len(), height: self.height, pixels }
    }
}

/// The surroundings of the quad scaled by `factor`, averaged over areas; and the quad therein. None where the quad
/// lies outside the picture.
fn shrunk(picture: &Picture, quad: &Quad, factor: f32) -> Option<(Picture, Quad)> {
    let bounds = quad.bounds();
    let (left, top) = (bounds.x.floor().max(0.0), bounds.y.floor().max(0.0));
    let right = (bounds.x + bounds.width).ceil().min(picture.width as f32);
    let bottom = (bounds.y + bounds.height).ceil().min(picture.height as f32);
    let (across, down) = (right - left, bottom - top);
    if across < 1.0 || down < 1.0 {
        return None;
    }
    let size = [across, down].map(|side| (side * factor).ceil().max(1.0) as u32);
    let window = Some([left, top, across, down].map(f64::from));
    let pixels = resized(&picture.pixels, (picture.width, picture.height), window, (size[0], size[1]));
    let scale = [size[0] as f32 / across, size[1] as f32 / down];
    let quad = quad.map(|[x, y]| [(x - left) * scale[0], (y - top) * scale[1]]);
    Some((Picture::full(size[0], size[1], pixels), quad))
}

/// Resamples RGB pixels, or a window (left, top, width, height) inside them. Shrinking averages over areas.
///
/// # Panics
/// Where the pixels don't fit the size, or the window does not lie inside.
pub(crate) fn resized(
    pixels: &[u8],
    size: (u32, u32),
    window: Option<[f64; 4]>,
    wanted: (u32, u32),
) -> Vec<u8> {
    let source = ImageRef::new(size.0, size.1, pixels, PixelType::U8x3)
        .expect("a picture has three bytes for each of its pixels");
    let mut target = Image::new(wanted.0, wanted.1, PixelType::U8x3);
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    let options = match window {
        Some([left, top, width, height]) => options.crop(left, top, width, height),
        None => options,
    };
    Resizer::new()
        .resize(&source, &mut target, &options)
        .expect("source and target have the same pixel type and the window lies inside");
    target.into_vec()
}

/// Samples the parallelogram on a grid of the given size.
fn straightened(picture: &Picture, quad: &Quad, (width, height): (usize, usize)) -> Crop {
    let [origin, right, _, down] = quad.0;
    let along = [(right[0] - origin[0]) / width as f32, (right[1] - origin[1]) / width as f32];
    let across = [(down[0] - origin[0]) / height as f32, (down[1] - origin[1]) / height as f32];
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let row = row as f32 + 0.5;
        let start = [origin[0] + across[0] * row - 0.5, origin[1] + across[1] * row - 0.5];
        for column in 0..width {
            let column = column as f32 + 0.5;
            pixels.extend(sample(picture, start[0] + along[0] * column, start[1] + along[1] * column));
        }
    }
    Crop { width, height, pixels }
}

/// The colour at a point, pixel centres at whole numbers: bicubic (Keys 1981, a = −0.5).
pub(crate) fn sample(picture: &Picture, x: f32, y: f32) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let weights_x = keys(x - left);
    let mut columns = [0.0; 12];
    for (tap, weight) in keys(y - top).into_iter().enumerate() {
        let pixels = four_pixels(picture, left as isize - 1, top as isize - 1 + tap as isize);
        for (sum, value) in columns.iter_mut().zip(pixels) {
            *sum += weight * f32::from(value);
        }
    }
    std::array::from_fn(|channel| {
        let sum: f32 = (0..4).map(|tap| weights_x[tap] * columns[tap * 3 + channel]).sum();
        (sum + 0.5) as u8
    })
}

/// Four pixels of a row from column `left` on; beyond an edge its last pixel goes on.
fn four_pixels(picture: &Picture, left: isize, row: isize) -> [u8; 12] {
    let (width, height) = (picture.width as isize, picture.height as isize);
    let row = row.clamp(0, height - 1) as usize * width as usize * 3;
    let start = row + left.max(0) as usize * 3;
    if left >= 0
        && left + 4 <= width
        && let Some(pixels) = picture.pixels[start..].first_chunk()
    {
        return *pixels;
    }
    std::array::from_fn(|at| {
        let column = (left + at as isize / 3).clamp(0, width - 1) as usize;
        picture.pixels[row + column * 3 + at % 3]
    })
}

/// Weights of the four pixels around a point that lies `t` (0–1) behind the second.
fn keys(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [-0.5 * t3 + t2 - 0.5 * t, 1.5 * t3 - 2.5 * t2 + 1.0, -1.5 * t3 + 2.0 * t2 + 0.5 * t, 0.5 * t3 - 0.5 * t2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pixel tells its place.
    fn places(width: u32, height: u32) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8 * 10, y as u8 * 10, 7]));
        Picture::full(width, height, pixels.collect())
    }

    fn upright(left: f32, top: f32, right: f32, bottom: f32) -> Quad {
        Quad([[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    #[test]
    fn a_crop_at_its_own_size_keeps_the_pixels() {
        let crop = Crop::cut(&places(8, 6), &upright(2.0, 1.0, 5.0, 3.0), 2);
        let pixels = [20, 10, 7, 30, 10, 7, 40, 10, 7, 20, 20, 7, 30, 20, 7, 40, 20, 7];
        assert_eq!(crop, Crop { width: 3, height: 2, pixels: pixels.to_vec() });
    }

    #[test]
    fn a_turned_line_is_cut_in_its_reading_direction() {
        let line = upright(2.0, 1.0, 4.0, 4.0).read_turned(1);
        let pixels = [30, 10, 7, 30, 20, 7, 30, 30, 7, 20, 10, 7, 20, 20, 7, 20, 30, 7];
        let crop = Crop { width: 3, height: 2, pixels: pixels.to_vec() };
        assert_eq!(Crop::cut(&places(8, 6), &line, 2), crop);
        let upside_down = Crop::cut(&places(8, 6), &line.read_turned(2), 2);
        assert_eq!(crop.upside_down(), upside_down);
    }

    #[test]
    fn edges_go_on_beyond_the_picture() {
        let crop = Crop::cut(&places(3, 2), &upright(-2.0, 0.0, 5.0, 1.0), 1);
        let reds: Vec<u8> = crop.pixels.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(reds, [0, 0, 0, 10, 20, 20, 20]);
        let outside = Crop::cut(&places(3, 20), &upright(9.0, 0.0, 49.0, 100.0), 10);
        assert_eq!((outside.width, outside.pixels[0]), (4, 20));
    }

    #[test]
    fn tall_lines_are_averaged_rather_than_skipped_over() {
        let stripes = (0..400).flat_map(|y| [[0; 3], [255; 3]][y % 2].repeat(400));
        let picture = Picture::full(400, 400, stripes.collect());
        let crop = Crop::cut(&picture, &upright(20.0, 20.0, 380.0, 380.0), 40);
        assert!(crop.pixels.iter().all(|value| (120..=135).contains(value)));
    }

    #[test]
    fn no_line_becomes_endlessly_long() {
        let crop = Crop::cut(&places(20, 2), &upright(0.0, 0.0, 9000.0, 1.0), 4);
        assert_eq!((crop.width, crop.height, crop.pixels.len()), (800, 4, 9600));
    }

    #[test]
    fn columns_and_stretching() {
        let crop = Crop { width: 3, height: 1, pixels: vec![1, 1, 1, 2, 2, 2, 3, 3, 3] };
        assert_eq!(crop.columns(1..3).pixels, [2, 2, 2, 3, 3, 3]);
        assert_eq!(crop.columns(0..1).stretched(2, 2), Crop { width: 2, height: 2, pixels: vec![1; 12] });
    }
}
