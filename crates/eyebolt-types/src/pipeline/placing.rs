use super::Warp;
use crate::{
    BoundingBox, Point, Results,
    result::{Face, Landmarks},
};

impl Results {
    /// What was found in a part, as it lies in the whole image of this size.
    #[must_use]
    pub fn placed(mut self, warp: &Warp, (width, height): (u32, u32)) -> Self {
        let (width, height) = (width as f32, height as f32);
        let bounds = |bounds: &mut BoundingBox| *bounds = placed_box(bounds, warp).clipped(width, height);
        let point = |point: Point| {
            let [x, y] = warp.point(point);
            [x.clamp(0.0, width), y.clamp(0.0, height)]
        };
        for object in self.objects.iter_mut().flat_map(|found| &mut found.items) {
            bounds(&mut object.bounds);
        }
        for face in self.faces.iter_mut().flat_map(|found| &mut found.items) {
            bounds(&mut face.bounds);
            place_landmarks(face, warp);
        }
        for line in self.text.iter_mut().flat_map(|found| &mut found.lines) {
            line.polygon = line.polygon.map(point);
            line.bounds = BoundingBox::around(&line.polygon);
        }
        for code in self.barcodes.iter_mut().flat_map(|found| &mut found.items) {
            code.polygon = code.polygon.map(point);
            code.bounds = BoundingBox::around(&code.polygon);
        }
        self
    }
}

/// The upright box around what becomes of a box.
fn placed_box(bounds: &BoundingBox, warp: &Warp) -> BoundingBox {
    let BoundingBox { x, y, width, height } = *bounds;
    let corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
    BoundingBox::around(&corners.map(|corner| warp.point(corner)))
}

/// They may lie outside the image, as those of a face at its edge do.
fn place_landmarks(face: &mut Face, warp: &Warp) {
    let Landmarks { left_eye, right_eye, nose, mouth_left, mouth_right } = &mut face.landmarks;
    for mark in [left_eye, right_eye, nose, mouth_left, mouth_right] {
        *mark = warp.point(*mark);
    }
}
