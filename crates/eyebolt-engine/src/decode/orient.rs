use eyebolt_types::Orientation;

/// Pixels on a side of the squares that are turned one after the other, so that both pictures stay in the cache.
const TILE: usize = 32;

/// Writes stored pixels of `N` bytes upright and as RGB.
///
/// `stored` holds `width` × `height` pixels, rows without padding; `upright` as many pixels of three bytes.
pub(super) fn paint<const N: usize>(
    stored: &[u8],
    (width, height): (u32, u32),
    orientation: Orientation,
    (upright, colour): (&mut [u8], impl Fn(&[u8; N]) -> [u8; 3]),
) {
    let (width, height) = (width as usize, height as usize);
    let (stored, _) = stored.as_chunks::<N>();
    let (upright, _) = upright.as_chunks_mut::<3>();
    assert!(stored.len() >= width * height && upright.len() == width * height, "both hold every pixel");
    if orientation == Orientation::Upright {
        upright.iter_mut().zip(stored).for_each(|(upright, stored)| *upright = colour(stored));
        return;
    }
    let place = Place::new(orientation, width, height);
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            for y in top..height.min(top + TILE) {
                for x in left..width.min(left + TILE) {
                    upright[place.of(x, y)] = colour(&stored[y * width + x]);
                }
            }
        }
    }
}

/// Where a stored pixel goes: steps through the upright picture for one pixel right and one down.
struct Place {
    start: isize,
    right: isize,
    down: isize,
}

impl Place {
    fn new(orientation: Orientation, width: usize, height: usize) -> Self {
        let (w, h) = (width as isize, height as isize);
        let (start, right, down) = match orientation {
            Orientation::Upright => (0, 1, w),
            Orientation::FlipHorizontal => (w - 1, -1, w),
            Orientation::Rotate180 => (w * h - 1, -1, -w),
            Orientation::FlipVertical => (w * (h - 1), 1, -w),
            // The upright picture is `h` wide from here on.
            Orientation::Transpose => (0, h, 1),
            Orientation::Rotate90 => (h - 1, h, -1),
            Orientation::Transverse => (w * h - 1, -h, -1),
            Orientation::Rotate270 => (h * (w - 1), -h, 1),
        };
        Self { start, right, down }
    }

    fn of(&self, x: usize, y: usize) -> usize {
        (self.start + x as isize * self.right + y as isize * self.down) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pixels in two rows: `1 2 3 / 4 5 6`.
    fn turned(orientation: u16) -> Vec<u8> {
        let mut upright = [0; 18];
        let stored = [1, 2, 3, 4, 5, 6];
        paint(
            &stored,
            (3, 2),
            Orientation::from_exif(orientation),
            (&mut upright, |&[grey]: &[u8; 1]| [grey; 3]),
        );
        upright.iter().step_by(3).copied().collect()
    }

    #[test]
    fn stands_every_orientation_upright() {
        let expected = [
            [1, 2, 3, 4, 5, 6],
            [3, 2, 1, 6, 5, 4],
            [6, 5, 4, 3, 2, 1],
            [4, 5, 6, 1, 2, 3],
            [1, 4, 2, 5, 3, 6],
            [4, 1, 5, 2, 6, 3],
            [6, 3, 5, 2, 4, 1],
            [3, 6, 2, 5, 1, 4],
        ];
        let found: Vec<_> = (1..=8).map(turned).collect();
        assert_eq!(found, expected);
    }
}
