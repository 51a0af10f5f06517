//! Draws what was found onto the picture, for people.

use ab_glyph::{Font, FontRef, PxScale};
use eyebolt_types::{BoundingBox, Point, Polygon, Results};
use image::{Rgb, RgbImage};
use imageproc::{
    drawing::{draw_filled_circle_mut, draw_filled_rect_mut, draw_polygon_mut, draw_text_mut, text_size},
    point::Point as Pixel,
    rect::Rect,
};

use crate::Picture;

const OBJECT: Rgb<u8> = Rgb([230, 85, 13]);
const FACE: Rgb<u8> = Rgb([31, 119, 180]);
const TEXT: Rgb<u8> = Rgb([44, 140, 44]);
const BARCODE: Rgb<u8> = Rgb([148, 60, 189]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

/// Draws boxes, landmarks, lines of text and codes, each feature in its colour. Letters that the font lacks are drawn
/// as boxes. `results` are in pixels of the full image, whatever size the picture has.
///
/// # Panics
/// Never: a picture fits its size, and the font is part of the program.
pub fn draw(picture: Picture, results: &Results) -> Picture {
    let (scale_x, scale_y) = (picture.scale_x(), picture.scale_y());
    let (full_width, full_height) = (picture.full_width, picture.full_height);
    let (width, height) = (picture.width, picture.height);
    let image = RgbImage::from_raw(width, height, picture.pixels);
    let image = image.expect("a picture has three bytes for each of its pixels");
    let mut pen = Pen::new(image, [1.0 / scale_x, 1.0 / scale_y]);
    for object in results.objects.iter().flat_map(|found| &found.items) {
        pen.frame(&object.bounds, &format!("{} {:.0} %", object.label, object.confidence * 100.0), OBJECT);
    }
    for face in results.faces.iter().flat_map(|found| &found.items) {
        pen.frame(&face.bounds, &format!("face {:.0} %", face.confidence * 100.0), FACE);
        let marks = &face.landmarks;
        for mark in [marks.left_eye, marks.right_eye, marks.nose, marks.mouth_left, marks.mouth_right] {
            pen.dot(mark, FACE);
        }
    }
    for line in results.text.iter().flat_map(|read| &read.lines) {
        pen.outline(&line.polygon, &line.text, TEXT);
    }
    for code in results.barcodes.iter().flat_map(|read| &read.items) {
        pen.outline(&code.polygon, &format!("{} {}", code.format, code.text), BARCODE);
    }
    Picture { width, height, full_width, full_height, pixels: pen.image.into_raw() }
}

/// The picture as a PNG file.
///
/// # Panics
/// Never: writing to memory does not fail, and a picture fits its size.
pub fn to_png(picture: &Picture) -> Vec<u8> {
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&picture.pixels, picture.width, picture.height, ExtendedColorType::Rgb8)
        .expect("a picture has three bytes for each of its pixels");
    bytes
}

struct Pen {
    image: RgbImage,
    scale: Point,
    /// Width of a line, pixels.
    line: i32,
    font: FontRef<'static>,
    letters: PxScale,
}

impl Pen {
    fn new(image: RgbImage, scale: Point) -> Self {
        let side = image.width().max(image.height()) as f32;
        let font = FontRef::try_from_slice(dejavu::sans::regular()).expect("the font is part of the program");
        Self {
            image,
            scale,
            line: (side / 500.0).round().clamp(1.0, 12.0) as i32,
            font,
            letters: PxScale::from((side / 45.0).clamp(11.0, 96.0)),
        }
    }

    fn pixel(&self, point: Point) -> Pixel<i32> {
        Pixel::new((point[0] * self.scale[0]) as i32, (point[1] * self.scale[1]) as i32)
    }

    fn frame(&mut self, bounds: &BoundingBox, label: &str, colour: Rgb<u8>) {
        let (right, bottom) = (bounds.x + bounds.width, bounds.y + bounds.height);
        let corners = [[bounds.x, bounds.y], [right, bounds.y], [right, bottom], [bounds.x, bottom]];
        self.outline(&corners, label, colour);
    }

    fn outline(&mut self, polygon: &Polygon, label: &str, colour: Rgb<u8>) {
        for side in 0..4 {
            self.stroke(polygon[side], polygon[(side + 1) % 4], colour);
        }
        self.label(polygon, label, colour);
    }

    /// A line as a filled polygon, so that it has a width.
    fn stroke(&mut self, from: Point, to: Point, colour: Rgb<u8>) {
        let (a, b) = (self.pixel(from), self.pixel(to));
        let (dx, dy) = ((b.x - a.x) as f32, (b.y - a.y) as f32);
        let length = dx.hypot(dy);
        if length < 1.0 {
            return;
        }
        let half = self.line as f32 / 2.0;
        let (x, y) = ((-dy / length * half).round() as i32, (dx / length * half).round() as i32);
        let corners = [(a.x + x, a.y + y), (b.x + x, b.y + y), (b.x - x, b.y - y), (a.x - x, a.y - y)];
        let mut corners: Vec<_> = corners.into_iter().map(|(x, y)| Pixel::new(x, y)).collect();
        corners.dedup();
        if corners.first() == corners.last() {
            corners.pop();
        }
        if corners.len() > 1 {
            draw_polygon_mut(&mut self.image, &corners, colour);
        }
    }

    fn dot(&mut self, at: Point, colour: Rgb<u8>) {
        let at = self.pixel(at);
        draw_filled_circle_mut(&mut self.image, (at.x, at.y), self.line * 2, colour);
    }

    /// White letters on the colour, above the shape where there is room.
    fn label(&mut self, polygon: &Polygon, text: &str, colour: Rgb<u8>) {
        let text: String = text.chars().filter(|one| !one.is_control()).take(60).collect();
        if text.is_empty() {
            return;
        }
        let (width, height) = text_size(self.letters, &self.font, &text);
        let height = height.max(self.font.height_unscaled().min(self.letters.y) as u32);
        let left = polygon.iter().map(|point| self.pixel(*point).x).min().unwrap_or_default().max(0);
        let top = polygon.iter().map(|point| self.pixel(*point).y).min().unwrap_or_default();
        let top = (top - height as i32 - self.line).max(0);
        let ground = Rect::at(left, top).of_size(width.max(1) + 4, height.max(1) + 4);
        draw_filled_rect_mut(&mut self.image, ground, colour);
        draw_text_mut(&mut self.image, WHITE, left + 2, top, self.letters, &self.font, &text);
    }
}

#[cfg(test)]
mod tests {
    use eyebolt_types::result::{ConfidenceBand, Object, Objects, Text, TextLine};

    use super::*;

    #[test]
    fn what_was_found_is_drawn_and_any_script_is_survived() {
        let bounds = BoundingBox { x: 100.0, y: 100.0, width: 200.0, height: 80.0 };
        let object = Object {
            label: "cat".to_owned(),
            confidence: 0.9,
            confidence_band: ConfidenceBand::High,
            bounds,
        };
        let line = TextLine {
            text: "漢字 ไทย \u{1b}[0m".to_owned(),
            confidence: 0.9,
            confidence_band: ConfidenceBand::High,
            polygon: [[-50.0, 10.0], [350.0, 12.0], [350.0, 40.0], [10.0, 40.0]],
            bounds,
        };
        let results = Results {
            objects: Some(Objects {
                model: String::new(),
                confidence_guide: String::new(),
                items: vec![object],
            }),
            text: Some(Text {
                model: String::new(),
                confidence_guide: String::new(),
                text: String::new(),
                rotation: 0,
                lines: vec![line],
            }),
            ..Results::default()
        };
        let drawn = draw(Picture::full(400, 300, vec![128; 400 * 300 * 3]), &results);
        let at = |x: usize, y: usize| &drawn.pixels[(y * 400 + x) * 3..][..3];
        assert_eq!(at(200, 180), OBJECT.0);
        assert_eq!(at(200, 40), TEXT.0);
        assert_eq!(at(200, 140), [128; 3]);
        assert_eq!(to_png(&drawn)[1..4], *b"PNG");
    }
}
