use eyebolt_types::{BoundingBox, Point};

/// A parallelogram around one line: corners clockwise from the top left of the reading direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quad(pub(crate) [Point; 4]);

impl Quad {
    /// Length along the reading direction.
    pub(crate) fn width(&self) -> f32 {
        f32::midpoint(distance(self.0[0], self.0[1]), distance(self.0[3], self.0[2]))
    }

    /// Extent across the reading direction.
    pub(crate) fn height(&self) -> f32 {
        f32::midpoint(distance(self.0[0], self.0[3]), distance(self.0[1], self.0[2]))
    }

    /// Where the diagonals meet.
    pub(crate) fn centre(&self) -> Point {
        let sum = self.0.iter().fold([0.0, 0.0], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        [sum[0] / 4.0, sum[1] / 4.0]
    }

    /// The same corners, read from a page that stands turned clockwise by `quarters` right angles.
    pub(crate) fn read_turned(mut self, quarters: usize) -> Self {
        self.0.rotate_left(quarters % 4);
        self
    }

    /// The square at the beginning of the reading direction.
    pub(crate) fn first_square(&self) -> Self {
        let part = (self.height() / self.width().max(f32::EPSILON)).min(1.0);
        let along =
            |from: Point, to: Point| [from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part];
        let [a, b, c, d] = self.0;
        Self([a, along(a, b), along(d, c), d])
    }

    /// Each corner moved.
    pub(crate) fn map(self, place: impl Fn(Point) -> Point) -> Self {
        Self(self.0.map(place))
    }

    /// Each corner moved to the nearest point of an image of this size.
    pub(crate) fn clipped(self, width: f32, height: f32) -> Self {
        self.map(|[x, y]| [x.clamp(0.0, width), y.clamp(0.0, height)])
    }

    /// The upright box around it.
    pub(crate) fn bounds(&self) -> BoundingBox {
        BoundingBox::around(&self.0)
    }
}

fn distance(a: Point, b: Point) -> f32 {
    (b[0] - a[0]).hypot(b[1] - a[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Quad = Quad([[1.0, 2.0], [9.0, 2.0], [9.0, 5.0], [1.0, 5.0]]);

    #[test]
    fn extents_follow_the_reading_direction() {
        assert_eq!((WIDE.width(), WIDE.height(), WIDE.centre()), (8.0, 3.0, [5.0, 3.5]));
        let sideways = WIDE.read_turned(1);
        assert_eq!((sideways.width(), sideways.height(), sideways.centre()), (3.0, 8.0, [5.0, 3.5]));
    }

    #[test]
    fn a_page_on_its_side_is_read_from_the_corner_that_was_top_left() {
        // Turned clockwise, the page's own top left corner comes to stand at the top right.
        assert_eq!(WIDE.read_turned(1).0[0], [9.0, 2.0]);
        assert_eq!(WIDE.read_turned(2).0[0], [9.0, 5.0]);
        assert_eq!(WIDE.read_turned(3).0[0], [1.0, 5.0]);
        assert_eq!(WIDE.read_turned(4), WIDE);
    }

    #[test]
    fn the_first_square_is_as_long_as_the_line_is_high() {
        let square = Quad([[1.0, 2.0], [4.0, 2.0], [4.0, 5.0], [1.0, 5.0]]);
        assert_eq!(WIDE.first_square(), square);
        let right_end = Quad([[9.0, 5.0], [6.0, 5.0], [6.0, 2.0], [9.0, 2.0]]);
        assert_eq!(WIDE.read_turned(2).first_square(), right_end);
        assert_eq!(square.read_turned(1).first_square(), square.read_turned(1));
    }

    #[test]
    fn clipping_keeps_corners_inside() {
        let clipped = WIDE.clipped(5.0, 4.0);
        assert_eq!(clipped.bounds(), BoundingBox { x: 1.0, y: 2.0, width: 4.0, height: 2.0 });
    }
}
