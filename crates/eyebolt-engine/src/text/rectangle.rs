use eyebolt_types::Point;

/// A rectangle at any angle: a centre, half extents along an axis and across it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rectangle {
    centre: Point,
    /// Unit vector within 45° of left to right.
    axis: Point,
    half: [f32; 2],
}

impl Rectangle {
    /// The rectangle of least area around points ordered by y, then x: one of its sides lies on an edge of the convex
    /// hull (Freeman and Shapira 1975). None without area.
    pub(crate) fn around(points: &[Point]) -> Option<Self> {
        let hull = convex_hull(points);
        let edges = hull.iter().zip(hull.iter().cycle().skip(1));
        edges
            .filter_map(|(a, b)| {
                let length = (b[0] - a[0]).hypot(b[1] - a[1]);
                (length > 0.0).then(|| Self::along([(b[0] - a[0]) / length, (b[1] - a[1]) / length], &hull))
            })
            .min_by(|a, b| a.area().total_cmp(&b.area()))
            .filter(|rectangle| rectangle.area() > 0.0)
    }

    fn along(direction: Point, points: &[Point]) -> Self {
        let axis = nearest_to_rightwards(direction);
        let across = [-axis[1], axis[0]];
        let [(left, right), (top, bottom)] = [axis, across].map(|unit| {
            points.iter().fold((f32::MAX, f32::MIN), |(low, high), point| {
                let along = dot(unit, *point);
                (low.min(along), high.max(along))
            })
        });
        let (x, y) = (f32::midpoint(left, right), f32::midpoint(top, bottom));
        let centre = [axis[0] * x + across[0] * y, axis[1] * x + across[1] * y];
        Self { centre, axis, half: [(right - left) / 2.0, (bottom - top) / 2.0] }
    }

    fn area(&self) -> f32 {
        4.0 * self.half[0] * self.half[1]
    }

    /// Length of the shorter side.
    pub(crate) fn shorter_side(&self) -> f32 {
        2.0 * self.half[0].min(self.half[1])
    }

    /// Each side moved outwards by area × `ratio` ÷ perimeter.
    pub(crate) fn grown(mut self, ratio: f32) -> Self {
        let by = self.area() * ratio / (4.0 * (self.half[0] + self.half[1]));
        self.half = self.half.map(|half| half + by);
        self
    }

    /// Its corners, clockwise from the top left.
    pub(crate) fn corners(&self) -> [Point; 4] {
        let ([x, y], [ax, ay]) = (self.centre, self.axis);
        [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].map(|(along, across)| {
            let (along, across) = (along * self.half[0], across * self.half[1]);
            [x + along * ax - across * ay, y + along * ay + across * ax]
        })
    }
}

/// Of the four directions at right angles, the one within 45° of left to right.
fn nearest_to_rightwards([x, y]: Point) -> Point {
    let [x, y] = if x.abs() >= y.abs() { [x, y] } else { [y, -x] };
    if x < 0.0 { [-x, -y] } else { [x, y] }
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

/// Andrew's monotone chain over points ordered by y, then x.
fn convex_hull(points: &[Point]) -> Vec<Point> {
    let mut hull = half_hull(points.iter());
    hull.pop();
    hull.extend(half_hull(points.iter().rev()));
    hull.pop();
    hull
}

fn half_hull<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<Point> {
    let mut hull: Vec<Point> = Vec::new();
    for &point in points {
        while let [.., a, b] = hull[..]
            && (b[0] - a[0]) * (point[1] - a[1]) <= (b[1] - a[1]) * (point[0] - a[0])
        {
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: [Point; 4], b: [Point; 4]) -> bool {
        a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-3)
    }

    #[test]
    fn an_upright_rectangle_is_found_from_its_points() {
        let points = [[1.0, 2.0], [9.0, 2.0], [4.0, 3.0], [1.0, 6.0], [9.0, 6.0]];
        let found = Rectangle::around(&points).unwrap();
        assert_eq!(found.corners(), [[1.0, 2.0], [9.0, 2.0], [9.0, 6.0], [1.0, 6.0]]);
        assert_eq!(found.shorter_side(), 4.0);
    }

    #[test]
    fn a_tilted_rectangle_begins_at_its_own_top_left() {
        // Width along (4, 3), height along (−3, 4).
        let points = [[3.0, 0.0], [0.0, 4.0], [11.0, 6.0], [8.0, 10.0]];
        let found = Rectangle::around(&points).unwrap();
        assert!(close(found.corners(), [[3.0, 0.0], [11.0, 6.0], [8.0, 10.0], [0.0, 4.0]]), "{found:?}");
    }

    #[test]
    fn growing_moves_each_side_by_area_times_ratio_over_perimeter() {
        let points = [[0.0, 0.0], [30.0, 0.0], [0.0, 10.0], [30.0, 10.0]];
        let grown = Rectangle::around(&points).unwrap().grown(1.6);
        // 300 × 1.6 ÷ 80 = 6.
        assert_eq!(grown.corners(), [[-6.0, -6.0], [36.0, -6.0], [36.0, 16.0], [-6.0, 16.0]]);
    }

    #[test]
    fn without_area_there_is_no_rectangle() {
        assert_eq!(Rectangle::around(&[]), None);
        assert_eq!(Rectangle::around(&[[1.0, 1.0]]), None);
        assert_eq!(Rectangle::around(&[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), None);
    }

    proptest! {
        #[test]
        fn all_points_lie_inside(mut points in prop::collection::vec(prop::array::uniform2(0_u8..100), 3..40)) {
            points.sort_by_key(|[x, y]| (*y, *x));
            let points: Vec<Point> = points.into_iter().map(|point| point.map(f32::from)).collect();
            if let Some(found) = Rectangle::around(&points) {
                let across = [-found.axis[1], found.axis[0]];
                for point in points {
                    let offset = [point[0] - found.centre[0], point[1] - found.centre[1]];
                    prop_assert!(dot(offset, found.axis).abs() <= found.half[0] + 1e-2);
                    prop_assert!(dot(offset, across).abs() <= found.half[1] + 1e-2);
                }
            }
        }
    }
}
