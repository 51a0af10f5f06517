//! Pixels → input tensor, as a manifest's [`InputSpec`] says.

use eyebolt_types::{
    BoundingBox, Point,
    manifest::{Channels, Fit, InputSpec},
};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};

use crate::Picture;

/// An input tensor, `[1, 3, height, width]`, and where the image lies in it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) shape: [usize; 4],
    pub(crate) data: Vec<f32>,
    pub(crate) placement: Placement,
}

/// Maps places in the model's input back to pixels of the full image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placement {
    /// Input pixels that lie left of and above the image.
    offset: Point,
    /// Pixels of the full image for one input pixel.
    scale: Point,
    /// Size of the full image.
    full: [f32; 2],
}

impl Placement {
    /// The place in the full image, clipped to it.
    pub(crate) fn point(&self, [x, y]: Point) -> Point {
        let back = |value: f32, axis: usize| {
            ((value - self.offset[axis]) * self.scale[axis]).clamp(0.0, self.full[axis])
        };
        [back(x, 0), back(y, 1)]
    }

    /// The box in the full image, clipped to it.
    pub(crate) fn bounds(&self, top_left: Point, bottom_right: Point) -> BoundingBox {
        BoundingBox::from_corners(self.point(top_left), self.point(bottom_right))
    }
}

/// Where the picture goes: the part taken from it, the size it is brought to, and the canvas around that.
struct Layout {
    crop: [f64; 4],
    size: [u32; 2],
    offset: [u32; 2],
    canvas: [u32; 2],
}

/// What of the picture the model sees, and how large where it leaves its size free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Frame {
    /// All of it.
    Whole,
    /// Left, top, width and height in pixels of the picture.
    Crop([f64; 4]),
    /// All of it; the longer side becomes so many pixels where the model's size is free.
    LongSide(u32),
}

/// The longer side where neither model nor frame says one.
const FREE_SIDE: u32 = 640;

/// Fits the picture and lays it out as a tensor.
pub(crate) fn prepare(picture: &Picture, spec: &InputSpec, frame: Frame) -> Prepared {
    let layout = layout(picture, spec, frame);
    let [left, top, crop_width, crop_height] = layout.crop;
    let placement = Placement {
        offset: [
            layout.offset[0] as f32 - left as f32 * layout.size[0] as f32 / crop_width as f32,
            layout.offset[1] as f32 - top as f32 * layout.size[1] as f32 / crop_height as f32,
        ],
        scale: [
            crop_width as f32 / layout.size[0] as f32 * picture.scale_x(),
            crop_height as f32 / layout.size[1] as f32 * picture.scale_y(),
        ],
        full: [picture.full_width as f32, picture.full_height as f32],
    };
    let resized = resize(picture, &layout);
    let pixels = resized.as_deref().unwrap_or(&picture.pixels);
    let shape = [1, 3, layout.canvas[1] as usize, layout.canvas[0] as usize];
    Prepared { shape, data: tensor(pixels, &layout, spec), placement }
}

fn layout(picture: &Picture, spec: &InputSpec, frame: Frame) -> Layout {
    let all = [0.0, 0.0, f64::from(picture.width), f64::from(picture.height)];
    let (whole, free_side) = match frame {
        Frame::Whole => (all, FREE_SIDE),
        Frame::Crop(crop) => (crop, FREE_SIDE),
        Frame::LongSide(side) => (all, side),
    };
    let [left, top, width, height] = whole;
    let canvas = [spec.width, spec.height];
    let fitted = |box_width: f64, box_height: f64| {
        let factor = (box_width / width).min(box_height / height);
        [(width * factor).round().max(1.0) as u32, (height * factor).round().max(1.0) as u32]
    };
    match spec.fit {
        Fit::Stretch => Layout { crop: whole, size: canvas, offset: [0, 0], canvas },
        Fit::LetterboxTopLeft => {
            let size = fitted(f64::from(canvas[0]), f64::from(canvas[1]));
            Layout { crop: whole, size, offset: [0, 0], canvas }
        }
        Fit::LetterboxCentre => {
            let size = fitted(f64::from(canvas[0]), f64::from(canvas[1]));
            let offset = [(canvas[0] - size[0]) / 2, (canvas[1] - size[1]) / 2];
            Layout { crop: whole, size, offset, canvas }
        }
        Fit::CentreCrop => {
            let side = width.min(height) * 224.0 / 256.0;
            let crop = [left + (width - side) / 2.0, top + (height - side) / 2.0, side, side];
            Layout { crop, size: canvas, offset: [0, 0], canvas }
        }
        Fit::Multiple32 => {
            let size = fitted(f64::from(free_side), f64::from(free_side));
            Layout { crop: whole, size, offset: [0, 0], canvas: size.map(|side| side.next_multiple_of(32)) }
        }
    }
}

/// The cropped part at its new size; `None` where the picture has that size already.
fn resize(picture: &Picture, layout: &Layout) -> Option<Vec<u8>> {
    let [left, top, width, height] = layout.crop;
    let is_whole =
        [left, top, width, height] == [0.0, 0.0, f64::from(picture.width), f64::from(picture.height)];
    if is_whole && layout.size == [picture.width, picture.height] {
        return None;
    }
    let source = ImageRef::new(picture.width, picture.height, &picture.pixels, PixelType::U8x3)
        .expect("a picture has three bytes for each of its pixels");
    let mut target = Image::new(layout.size[0], layout.size[1], PixelType::U8x3);
    // Bilinear with a support that grows with the factor: no aliasing when a photo shrinks to a model's input.
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, width, height)
        .use_alpha(false);
    Resizer::new()
        .resize(&source, &mut target, &options)
        .expect("source and target have the same pixel type and the crop lies inside");
    Some(target.into_vec())
}

fn tensor(pixels: &[u8], layout: &Layout, spec: &InputSpec) -> Vec<f32> {
    let (width, height) = (layout.canvas[0] as usize, layout.canvas[1] as usize);
    let plane = width * height;
    let mut data = Vec::with_capacity(plane * 3);
    for channel in 0..3 {
        data.resize(data.len() + plane, (f32::from(spec.pad) - spec.mean[channel]) * spec.scale[channel]);
    }
    let row_bytes = layout.size[0] as usize * 3;
    for (row, line) in pixels.chunks_exact(row_bytes).enumerate() {
        let start = (row + layout.offset[1] as usize) * width + layout.offset[0] as usize;
        for channel in 0..3 {
            let from = match spec.channels {
                Channels::Rgb => channel,
                Channels::Bgr => 2 - channel,
            };
            let (mean, scale) = (spec.mean[channel], spec.scale[channel]);
            let target = &mut data[channel * plane + start..][..layout.size[0] as usize];
            for (value, pixel) in target.iter_mut().zip(line.chunks_exact(3)) {
                *value = (f32::from(pixel[from]) - mean) * scale;
            }
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(width: u32, height: u32, fit: Fit) -> InputSpec {
        InputSpec { width, height, fit, channels: Channels::Bgr, mean: [1.0; 3], scale: [2.0; 3], pad: 114 }
    }

    #[test]
    fn a_letterbox_keeps_the_ratio_and_maps_back() {
        let picture = Picture::full(100, 50, vec![11; 100 * 50 * 3]);
        let prepared = prepare(&picture, &spec(64, 64, Fit::LetterboxCentre), Frame::Whole);
        assert_eq!(prepared.shape, [1, 3, 64, 64]);
        assert_eq!(prepared.data[0], (114.0 - 1.0) * 2.0);
        assert_eq!(prepared.data[32 * 64 + 32], (11.0 - 1.0) * 2.0);
        assert_eq!(prepared.placement.point([0.0, 16.0]), [0.0, 0.0]);
        assert_eq!(prepared.placement.point([64.0, 48.0]), [100.0, 50.0]);
    }

    #[test]
    fn channels_are_swapped_for_bgr() {
        let picture = Picture::full(1, 1, vec![10, 20, 30]);
        let prepared = prepare(&picture, &spec(1, 1, Fit::Stretch), Frame::Whole);
        assert_eq!(prepared.data, [58.0, 38.0, 18.0]);
    }

    #[test]
    fn a_free_size_is_padded_to_a_multiple_of_32() {
        let picture = Picture::full(100, 50, vec![0; 100 * 50 * 3]);
        let prepared = prepare(&picture, &spec(0, 0, Fit::Multiple32), Frame::LongSide(100));
        assert_eq!(prepared.shape, [1, 3, 64, 128]);
        assert_eq!(prepared.placement.point([100.0, 50.0]), [100.0, 50.0]);
    }

    #[test]
    fn a_centre_crop_maps_its_corner_into_the_image() {
        let picture = Picture::full(512, 256, vec![0; 512 * 256 * 3]);
        let prepared = prepare(&picture, &spec(224, 224, Fit::CentreCrop), Frame::Whole);
        assert_eq!(prepared.placement.point([0.0, 0.0]), [144.0, 16.0]);
    }

    #[test]
    fn a_scaled_picture_maps_to_the_full_image() {
        let mut picture = Picture::full(50, 50, vec![0; 50 * 50 * 3]);
        (picture.full_width, picture.full_height) = (400, 400);
        let prepared = prepare(&picture, &spec(100, 100, Fit::Stretch), Frame::Whole);
        assert_eq!(prepared.placement.point([50.0, 100.0]), [200.0, 400.0]);
    }
}
