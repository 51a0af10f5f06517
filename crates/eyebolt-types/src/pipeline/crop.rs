use super::Region;
use crate::Point;

impl Region {
    /// Pixels of the part where it is straightened: as large as its longer sides, and no more than the image has. `None`: it is
    /// cut out as it stands.
    pub fn straightened(&self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        let [a, b, c, d] = self.polygon?;
        let (across, down) = (distance(a, b).max(distance(d, c)), distance(a, d).max(distance(b, c)));
        let (across, down) = (f64::from(across).max(1.0), f64::from(down).max(1.0));
        let most = f64::from(width.max(1)) * f64::from(height.max(1));
        let factor = (most / (across * down)).min(1.0).sqrt();
        let side = |length: f64| ((length * factor).round().max(1.0)).min(most) as u32;
        Some((side(across), side(down)))
    }

    /// The whole pixels of its box: left, top, width, height; at least one.
    pub fn window(&self, (width, height): (u32, u32)) -> [u32; 4] {
        let (right_end, bottom_end) = (width.max(1), height.max(1));
        let left = (self.bounds.x.floor().max(0.0) as u32).min(right_end - 1);
        let top = (self.bounds.y.floor().max(0.0) as u32).min(bottom_end - 1);
        let right = ((self.bounds.x + self.bounds.width).ceil() as u32).clamp(left + 1, right_end);
        let bottom = ((self.bounds.y + self.bounds.height).ceil() as u32).clamp(top + 1, bottom_end);
        [left, top, right - left, bottom - top]
    }
}

fn distance(a: Point, b: Point) -> f32 {
    (b[0] - a[0]).hypot(b[1] - a[1])
}
