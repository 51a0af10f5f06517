use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{
        RefOr,
        schema::{Array, ArrayBuilder, Object, Schema, Type},
    },
};

/// `[x, y]` in pixels of the upright image, from its top left corner.
pub type Point = [f32; 2];

/// Four corners, clockwise from the top left of what is enclosed (for text: of the reading direction).
pub type Polygon = [Point; 4];

/// JSON schema of a [`Point`].
pub(crate) fn point_schema() -> Array {
    ArrayBuilder::new().items(Object::with_type(Type::Number)).min_items(Some(2)).max_items(Some(2)).build()
}

/// JSON schema of a [`Polygon`].
pub(crate) fn polygon_schema() -> Array {
    ArrayBuilder::new()
        .items(RefOr::T(Schema::Array(point_schema())))
        .min_items(Some(4))
        .max_items(Some(4))
        .build()
}

/// An upright rectangle in pixels of the upright image (EXIF orientation applied), always inside it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BoundingBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Extent to the right.
    pub width: f32,
    /// Extent downwards.
    pub height: f32,
}

impl BoundingBox {
    /// The box between two corners; the corners may be given in any order.
    pub fn from_corners(a: Point, b: Point) -> Self {
        let (left, right) = (a[0].min(b[0]), a[0].max(b[0]));
        let (top, bottom) = (a[1].min(b[1]), a[1].max(b[1]));
        Self { x: left, y: top, width: right - left, height: bottom - top }
    }

    /// The smallest box around some points. Without a point: an empty box at the origin.
    pub fn around(points: &[Point]) -> Self {
        let Some(&first) = points.first() else { return Self { x: 0.0, y: 0.0, width: 0.0, height: 0.0 } };
        let (low, high) = points.iter().fold((first, first), |(low, high), point| {
            ([low[0].min(point[0]), low[1].min(point[1])], [high[0].max(point[0]), high[1].max(point[1])])
        });
        Self::from_corners(low, high)
    }

    /// The part inside an image of this size.
    #[must_use]
    pub fn clipped(self, width: f32, height: f32) -> Self {
        let left = self.x.clamp(0.0, width);
        let top = self.y.clamp(0.0, height);
        let right = (self.x + self.width).clamp(0.0, width);
        let bottom = (self.y + self.height).clamp(0.0, height);
        Self { x: left, y: top, width: right - left, height: bottom - top }
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width * self.height
    }

    /// Area that lies in both boxes, square pixels.
    pub fn intersection(&self, other: &Self) -> f32 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        width.max(0.0) * height.max(0.0)
    }

    /// Intersection over union with another box, 0–1; 0 where both are empty.
    pub fn iou(&self, other: &Self) -> f32 {
        let both = self.intersection(other);
        let either = self.area() + other.area() - both;
        if either > 0.0 { both / either } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_of_a_box_with_itself_half_and_nothing() {
        let a = BoundingBox::from_corners([0.0, 0.0], [2.0, 2.0]);
        let half = BoundingBox::from_corners([2.0, 2.0], [1.0, 0.0]);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&half), 0.5);
        assert_eq!(a.iou(&BoundingBox::from_corners([3.0, 3.0], [4.0, 4.0])), 0.0);
    }

    #[test]
    fn clipping_keeps_only_what_is_inside() {
        let outside = BoundingBox { x: -5.0, y: 8.0, width: 10.0, height: 10.0 };
        assert_eq!(outside.clipped(10.0, 10.0), BoundingBox { x: 0.0, y: 8.0, width: 5.0, height: 2.0 });
    }
}
