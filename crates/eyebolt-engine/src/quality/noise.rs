use super::plane::Canonical;

/// Side of the blocks, pixels.
const BLOCK: usize = 16;

/// About so many blocks are looked at.
const BLOCKS: usize = 64;

/// The noise is that of the block at this rank, counted from the calmest, 0–1.
const RANK: f32 = 0.1;

/// Standard deviation of the noise, 0–255: the estimator of Immerkær (*Fast Noise Variance Estimation*, CVIU 64,
/// 1996) on blocks spread over the picture at the canonical scale, of which one of the calmest counts, since noise is
/// everywhere and texture is not.
///
/// None where the picture is smaller than a block.
pub(super) fn deviation(canonical: &Canonical<'_>) -> Option<f32> {
    let (columns, rows) = (canonical.width / BLOCK, canonical.height / BLOCK);
    let step = (columns * rows).div_ceil(BLOCKS).max(1);
    let mut found: Vec<f32> = (0..columns * rows)
        .step_by(step)
        .map(|index| block_deviation(canonical, (index % columns * BLOCK, index / columns * BLOCK)))
        .collect();
    found.sort_unstable_by(f32::total_cmp);
    found.get((found.len() as f32 * RANK) as usize).copied()
}

/// Convolves with `1 −2 1, −2 4 −2, 1 −2 1`, which is blind to planes and edges along the axes.
fn block_deviation(canonical: &Canonical<'_>, corner: (usize, usize)) -> f32 {
    let block = canonical.part(corner, (BLOCK, BLOCK)).data;
    let row = |y: usize| std::array::from_fn::<i16, BLOCK, _>(|x| i16::from(block[y * BLOCK + x]));
    let mut sum = 0_u32;
    for y in 1..BLOCK - 1 {
        let (above, here, below) = (row(y - 1), row(y), row(y + 1));
        let across: [i16; BLOCK] = std::array::from_fn(|x| above[x] - 2 * here[x] + below[x]);
        sum += across.windows(3).map(|v| u32::from((v[0] - 2 * v[1] + v[2]).unsigned_abs())).sum::<u32>();
    }
    let count = ((BLOCK - 2) * (BLOCK - 2)) as f32;
    std::f32::consts::FRAC_PI_2.sqrt() / 6.0 * sum as f32 / count
}
