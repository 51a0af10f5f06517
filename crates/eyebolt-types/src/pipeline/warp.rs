use crate::{Point, Polygon};

/// Where the pixels of a part that was cut out lie in the image: a projective map (Heckbert, *Fundamentals of Texture
/// Mapping*, 1989).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    /// `x = (a·u + b·v + c) ÷ (g·u + h·v + 1)`, and `y` with `d`, `e`, `f`.
    coefficients: [f64; 8],
    /// Pixels of the part for one of the unit square.
    size: [f64; 2],
}

impl Warp {
    /// Of a part that was cut out as it stands, from this corner on.
    pub fn shift([x, y]: Point) -> Self {
        let coefficients = [1.0, 0.0, x.into(), 0.0, 1.0, y.into(), 0.0, 0.0];
        Self { coefficients, size: [1.0, 1.0] }
    }

    /// Of a part that was straightened to this size. The corners go round clockwise and bulge.
    pub fn of(polygon: &Polygon, (width, height): (u32, u32)) -> Self {
        let [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = polygon.map(|corner| corner.map(f64::from));
        let (sum_x, sum_y) = (x0 - x1 + x2 - x3, y0 - y1 + y2 - y3);
        let (dx1, dx2, dy1, dy2) = (x1 - x2, x3 - x2, y1 - y2, y3 - y2);
        let determinant = dx1 * dy2 - dx2 * dy1;
        let flat = sum_x.abs().max(sum_y.abs()) < 1e-3 || determinant.abs() < 1e-6;
        let (g, h) = if flat {
            (0.0, 0.0)
        } else {
            ((sum_x * dy2 - dx2 * sum_y) / determinant, (dx1 * sum_y - sum_x * dy1) / determinant)
        };
        let x = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0];
        let y = [y1 - y0 + g * y1, y3 - y0 + h * y3, y0];
        let coefficients = [x[0], x[1], x[2], y[0], y[1], y[2], g, h];
        Self { coefficients, size: [f64::from(width.max(1)), f64::from(height.max(1))] }
    }

    /// Where a point of the part lies in the image.
    pub fn point(&self, [u, v]: Point) -> Point {
        let [a, b, c, d, e, f, g, h] = self.coefficients;
        let (u, v) = (f64::from(u) / self.size[0], f64::from(v) / self.size[1]);
        let depth = g * u + h * v + 1.0;
        // A point at the horizon lies nowhere: it is put far away, and clipped with the rest.
        let depth = if depth.abs() < 1e-9 { 1e-9 } else { depth };
        [((a * u + b * v + c) / depth) as f32, ((d * u + e * v + f) / depth) as f32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_go_to_corners_and_the_crossing_of_diagonals_stays_one() {
        let polygon = [[10.0, 10.0], [110.0, 20.0], [90.0, 80.0], [5.0, 60.0]];
        let warp = Warp::of(&polygon, (100, 50));
        for (corner, own) in [[0.0, 0.0], [100.0, 0.0], [100.0, 50.0], [0.0, 50.0]].into_iter().zip(polygon) {
            let placed = warp.point(corner);
            assert!((placed[0] - own[0]).abs() < 1e-3 && (placed[1] - own[1]).abs() < 1e-3, "{placed:?}");
        }
        // On both diagonals of the part, so on both of the image.
        let [x, y] = warp.point([50.0, 25.0]);
        for [from, to] in [[polygon[0], polygon[2]], [polygon[1], polygon[3]]] {
            let off = (to[0] - from[0]) * (y - from[1]) - (to[1] - from[1]) * (x - from[0]);
            assert!(off.abs() < 0.5, "{off}");
        }
    }

    #[test]
    fn a_shift_moves_and_nothing_else() {
        assert_eq!(Warp::shift([7.0, 3.0]).point([1.5, 2.0]), [8.5, 5.0]);
    }
}
