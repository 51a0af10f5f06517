use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use super::Quad;
use crate::Picture;

/// Lines taller than this many times the crop are shrunk before they are straightened, so that nothing aliases.
const SHRINK_FROM: f32 = 1.25;

/// A straightened line: 8-bit RGB, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crop {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

impl Crop {
    /// The line in `quad` (picture pixels) at the given height, as wide as its shape asks for, at least one pixel.
    /// Beyond the picture's edge its last pixels go on.
    pub(crate) fn cut(picture: &Picture, quad: &Quad, height: usize) -> Self {
        let (line_width, line_height) = (quad.width().max(1.0), quad.height().max(1.0));
        let width = (line_width * height as f32 / line_height).ceil().max(1.0) as usize;
        let size = (width, height);
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
    pub(crate) fn stretched(&self, width: u32, height: u32) -> Vec<u8> {
        resized(&self.pixels, (self.width as u32, self.height as u32), None, (width, height)).unwrap_or_default()
    }

    /// The columns `start..end`.
    pub(crate) fn columns(&self, start: usize, end: usize) -> Self {
        let rows = self.pixels.chunks_exact(self.width * 3);
        let pixels = rows.flat_map(|row| &row[start * 3..end * 3]).copied().collect();
        Self { width: end - start, height: self.height, pixels }
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
    let pixels = resized(&picture.pixels, (picture.width, picture.height), window, (size[0], size[1]))?;
    let scale = [size[0] as f32 / across, size[1] as f32 / down];
    let quad = quad.map(|[x, y]| [(x - left) * scale[0], (y - top) * scale[1]]);
    Some((Picture::full(size[0], size[1], pixels), quad))
}

/// Resamples RGB pixels, or a window (left, top, width, height) of them. Shrinking averages over areas.
pub(crate) fn resized(
    pixels: &[u8],
    size: (u32, u32),
    window: Option<[f64; 4]>,
    wanted: (u32, u32),
) -> Option<Vec<u8>> {
    let source = ImageRef::new(size.0, size.1, pixels, PixelType::U8x3).ok()?;
    let mut target = Image::new(wanted.0, wanted.1, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let options = match window {
        Some([left, top, width, height]) => options.crop(left, top, width, height),
        None => options,
    };
    Resizer::new().resize(&source, &mut target, &options).ok()?;
    Some(target.into_vec())
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
fn sample(picture: &Picture, x: f32, y: f32) -> [u8; 3] {
    let (width, height) = (picture.width as isize, picture.height as isize);
    let (left, top) = (x.floor(), y.floor());
    let (weights_x, weights_y) = (keys(x - left), keys(y - top));
    let columns: [usize; 4] =
        std::array::from_fn(|tap| (left as isize - 1 + tap as isize).clamp(0, width - 1) as usize * 3);
    let mut sum = [0.0; 3];
    for (tap, weight_y) in weights_y.iter().enumerate() {
        let row = (top as isize - 1 + tap as isize).clamp(0, height - 1) as usize * width as usize * 3;
        for (column, weight_x) in columns.iter().zip(weights_x) {
            let pixel = &picture.pixels[row + column..row + column + 3];
            for (sum, &value) in sum.iter_mut().zip(pixel) {
                *sum += weight_x * weight_y * f32::from(value);
            }
        }
    }
    sum.map(|value| (value + 0.5) as u8)
}

/// Weights of the four pixels around a point that lies `t` (0–1) behind the second.
fn keys(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    ]
}
