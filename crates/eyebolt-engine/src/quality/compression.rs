use crate::{Picture, luma::luma};

/// Side of a JPEG block, pixels.
const BLOCK: usize = 8;

/// About so many rows are looked at.
const ROWS: usize = 32;

/// Steps below this are no sign of anything; keeps the ratio quiet in flat pictures.
const FLOOR: f32 = 0.3;

/// How much larger the steps between columns are at the borders of 8 × 8 blocks than inside them; near 1 for a
/// picture that was never compressed.
///
/// None where the picture is not at full size, where the blocks are no longer 8 pixels wide, or is narrower than
/// two blocks.
pub(super) fn blockiness(picture: &Picture) -> Option<f32> {
    let width = picture.width as usize;
    if !picture.is_full() || width < 2 * BLOCK {
        return None;
    }
    let step = (picture.height as usize / ROWS).max(1);
    let (mut at_borders, mut inside, mut blocks) = (0, 0, 0_u32);
    let mut row = Vec::with_capacity(width);
    for pixels in picture.pixels.chunks_exact(width * 3).step_by(step) {
        row.clear();
        row.extend(pixels.as_chunks::<3>().0.iter().map(|&pixel| luma(pixel)));
        // From the last column of a block to the last of the next: one step over the border, seven inside.
        for columns in row[BLOCK - 1..].windows(BLOCK + 1).step_by(BLOCK) {
            let steps = |pair: &[u8]| u32::from(pair[0].abs_diff(pair[1]));
            at_borders += steps(columns);
            inside += columns[1..].windows(2).map(steps).sum::<u32>();
            blocks += 1;
        }
    }
    let mean = |sum: u32, count: u32| sum as f32 / count.max(1) as f32;
    let inner = (BLOCK - 1) as u32;
    Some((mean(at_borders, blocks) + FLOOR) / (mean(inside, blocks * inner) + FLOOR))
}
