use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Crop, Each};
use crate::{
    BoundingBox, Feature, Point, Polygon, Results,
    geometry::polygon_schema,
    result::{Face, Landmarks},
};

/// Faces that lean by less are left as they are, radians: about three degrees.
const UPRIGHT: f32 = 0.05;

/// A part of the image that a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// The upright box around it, in pixels of the upright image.
    #[serde(rename = "box")]
    pub bounds: BoundingBox,
    /// Its corners, clockwise from its own top left, where it does not stand upright.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = polygon_schema)]
    pub polygon: Option<Polygon>,
}

/// Something that a step found.
struct Thing<'a> {
    label: Option<&'a str>,
    confidence: f32,
    bounds: BoundingBox,
    /// Its own corners, where it may stand askew.
    polygon: Option<Polygon>,
}

impl Feature {
    /// Whether what it finds has a place in the image.
    pub fn has_places(self) -> bool {
        matches!(self, Self::Objects | Self::Faces | Self::Text | Self::Barcodes)
    }
}

impl Each {
    /// The parts of an image of this size for which a step is done; and of how many they are the first ones.
    pub fn regions(&self, (found, size): (&Results, (u32, u32)), crop: Crop) -> (Vec<Region>, usize) {
        let things = things(found, crop.perspective);
        let wanted: Vec<_> = things.iter().filter(|thing| self.wants(thing)).collect();
        let regions =
            wanted.iter().take(self.max_items as usize).map(|thing| thing.region(crop.padding, size));
        (regions.collect(), wanted.len())
    }

    fn wants(&self, thing: &Thing<'_>) -> bool {
        let named =
            |labels: &Vec<String>| thing.label.is_some_and(|label| labels.iter().any(|one| one == label));
        self.labels.as_ref().is_none_or(named)
            && thing.confidence >= self.min_confidence
            && thing.shorter_side() >= self.min_size as f32
    }
}

fn things(found: &Results, perspective: bool) -> Vec<Thing<'_>> {
    let mut things = Vec::new();
    for object in found.objects.iter().flat_map(|found| &found.items) {
        let label = Some(object.label.as_str());
        things.push(Thing { label, confidence: object.confidence, bounds: object.bounds, polygon: None });
    }
    for face in found.faces.iter().flat_map(|found| &found.items) {
        let polygon = if perspective { upright(face) } else { None };
        things.push(Thing { label: None, confidence: face.confidence, bounds: face.bounds, polygon });
    }
    let lines = found.text.iter().flat_map(|found| &found.lines);
    let lines = lines.map(|line| (line.confidence, line.bounds, line.polygon));
    let codes = found.barcodes.iter().flat_map(|found| &found.items);
    let codes = codes.map(|code| (code.confidence, code.bounds, code.polygon));
    for (confidence, bounds, polygon) in lines.chain(codes) {
        let polygon = Some(polygon).filter(|polygon| perspective && is_askew(polygon, &bounds));
        things.push(Thing { label: None, confidence, bounds, polygon });
    }
    things
}

impl Thing<'_> {
    fn shorter_side(&self) -> f32 {
        let Some([a, b, _, d]) = self.polygon else { return self.bounds.width.min(self.bounds.height) };
        distance(a, b).min(distance(a, d))
    }

    fn region(&self, padding: f32, (width, height): (u32, u32)) -> Region {
        let (width, height) = (width as f32, height as f32);
        if let Some(polygon) = self.polygon {
            let polygon = padded(polygon, padding);
            return Region {
                bounds: BoundingBox::around(&polygon).clipped(width, height),
                polygon: Some(polygon),
            };
        }
        let BoundingBox { x, y, width: across, height: down } = self.bounds;
        let (more_x, more_y) = (across * padding, down * padding);
        let bounds =
            BoundingBox::from_corners([x - more_x, y - more_y], [x + across + more_x, y + down + more_y]);
        Region { bounds: bounds.clipped(width, height), polygon: None }
    }
}

/// The box of a face, turned so that its eyes are level; `None` where they nearly are.
fn upright(face: &Face) -> Option<Polygon> {
    let Landmarks { left_eye, right_eye, .. } = face.landmarks;
    let (across, down) = (right_eye[0] - left_eye[0], right_eye[1] - left_eye[1]);
    let angle = down.atan2(across);
    if across.hypot(down) < 1.0 || angle.abs() < UPRIGHT {
        return None;
    }
    let BoundingBox { x, y, width, height } = face.bounds;
    let (sin, cos) = angle.sin_cos();
    let corner = |right: f32, below: f32| -> Point {
        let (u, v) = (right * width / 2.0, below * height / 2.0);
        [x + width / 2.0 + u * cos - v * sin, y + height / 2.0 + u * sin + v * cos]
    };
    Some([corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)])
}

/// Whether a box would not do, and the corners can be straightened: they go round clockwise and bulge everywhere.
fn is_askew(polygon: &Polygon, bounds: &BoundingBox) -> bool {
    let BoundingBox { x, y, width, height } = *bounds;
    let corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
    let off = polygon.iter().zip(corners).any(|(own, corner)| distance(*own, corner) > 1.0);
    let bulges = (0..4).all(|at| {
        let [a, b, c] = [polygon[at], polygon[(at + 1) % 4], polygon[(at + 2) % 4]];
        (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]) >= 1.0
    });
    off && bulges
}

fn padded(polygon: Polygon, padding: f32) -> Polygon {
    let sum = polygon.iter().fold([0.0, 0.0], |sum, corner| [sum[0] + corner[0], sum[1] + corner[1]]);
    let (x, y, more) = (sum[0] / 4.0, sum[1] / 4.0, 1.0 + 2.0 * padding);
    polygon.map(|corner| [x + (corner[0] - x) * more, y + (corner[1] - y) * more])
}

fn distance(a: Point, b: Point) -> f32 {
    (b[0] - a[0]).hypot(b[1] - a[1])
}
