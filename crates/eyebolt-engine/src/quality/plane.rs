use crate::{
    Picture,
    luma::{luma, weighted},
};

/// Pictures whose longer side has at least twice as many pixels are looked at scaled down, so that the longer side
/// lies in `BASE..2 * BASE` and measures mean the same at every resolution.
const BASE: u32 = 512;

/// Luma (ITU-R BT.601 weights), 0–255, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) data: Vec<u8>,
}

impl Plane {
    /// Each pixel the mean of a square of `side` pixels; what is left over at the right and bottom is left out.
    pub(super) fn averaged(&self, side: usize) -> Self {
        let (width, height) = (self.width / side, self.height / side);
        let mut data = Vec::with_capacity(width * height);
        let mut sums = vec![0_u32; width];
        for block in self.data.chunks_exact((self.width * side).max(1)).take(height) {
            sums.fill(0);
            for row in block.chunks_exact(self.width) {
                for (sum, cell) in sums.iter_mut().zip(row.chunks_exact(side)) {
                    *sum += cell.iter().map(|&value| u32::from(value)).sum::<u32>();
                }
            }
            data.extend(sums.iter().map(|sum| (sum / (side * side) as u32) as u8));
        }
        Self { width, height, data }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.data.chunks_exact(self.width)
    }
}

/// A picture seen at the canonical scale. Only the parts that are asked for are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canonical<'a> {
    picture: &'a Picture,
    /// Side of the square of pixels whose mean is one pixel here.
    factor: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl<'a> Canonical<'a> {
    pub(super) fn of(picture: &'a Picture) -> Self {
        let wanted = (picture.width.max(picture.height) / BASE).max(1);
        let factor = wanted.min(picture.width).min(picture.height).max(1) as usize;
        let (width, height) = (picture.width as usize / factor, picture.height as usize / factor);
        Self { picture, factor, width, height }
    }

    /// The part of this size at this place; must lie inside.
    pub(super) fn part(&self, (left, top): (usize, usize), (width, height): (usize, usize)) -> Plane {
        let bytes = 3 * self.factor;
        let row = |y: usize| &self.picture_row(y)[left * bytes..][..width * bytes];
        let mut data = Vec::with_capacity(width * height);
        if self.factor == 1 {
            for y in top..top + height {
                data.extend(row(y).as_chunks::<3>().0.iter().map(|&pixel| luma(pixel)));
            }
            return Plane { width, height, data };
        }
        let mut sums = vec![0_u32; width];
        let divisor = (self.factor * self.factor) as u32;
        for y in top..top + height {
            sums.fill(0);
            for y in y * self.factor..(y + 1) * self.factor {
                for (sum, cell) in sums.iter_mut().zip(row(y).chunks_exact(bytes)) {
                    *sum += cell.as_chunks::<3>().0.iter().map(|&pixel| u32::from(luma(pixel))).sum::<u32>();
                }
            }
            data.extend(sums.iter().map(|sum| (sum / divisor) as u8));
        }
        Plane { width, height, data }
    }

    /// All of it, each pixel the mean of a square of `side` canonical pixels; of these, one row of the picture each.
    pub(super) fn coarse(&self, side: usize) -> Plane {
        let (width, height) = (self.width / side, self.height / side);
        let cell = 3 * side * self.factor;
        let divisor = (side * side * self.factor * 256) as u32;
        let mut data = Vec::with_capacity(width * height);
        // Summing whole rows first lets the compiler use vectors; 257 rows would overflow.
        debug_assert!(side <= 257, "sums of {side} bytes fit 16 bits");
        let mut sums = vec![0_u16; width * cell];
        for top in (0..height).map(|y| y * side) {
            sums.fill(0);
            for y in top..top + side {
                for (sum, &byte) in sums.iter_mut().zip(self.picture_row(y * self.factor + self.factor / 2)) {
                    *sum += u16::from(byte);
                }
            }
            data.extend(sums.chunks_exact(cell).map(|cell| {
                let total = cell.as_chunks::<3>().0.iter().fold([0_u32; 3], |total, pixel| {
                    std::array::from_fn(|channel| total[channel] + u32::from(pixel[channel]))
                });
                (weighted(total) / divisor) as u8
            }));
        }
        Plane { width, height, data }
    }

    fn picture_row(&self, y: usize) -> &'a [u8] {
        let stride = self.picture.width as usize * 3;
        &self.picture.pixels[y * stride..][..stride]
    }
}
