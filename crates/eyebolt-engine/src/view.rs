//! Parts of a picture, cut out of all its pixels.

use eyebolt_types::pipeline::{Region, Warp};

use crate::{Picture, text::sample};

/// Cuts a part out, straightened where its corners say so; and where its pixels lie in the picture. The picture is at full
/// size.
pub(crate) fn cut(picture: &Picture, region: &Region) -> (Picture, Warp) {
    debug_assert!(picture.is_full(), "parts are cut out of every pixel that there is");
    let size = (picture.width, picture.height);
    let straight = region.straightened(size).zip(region.polygon);
    let Some(((width, height), polygon)) = straight else { return window(picture, region.window(size)) };
    let warp = Warp::of(&polygon, (width, height));
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for row in 0..height {
        for column in 0..width {
            let [x, y] = warp.point([column as f32 + 0.5, row as f32 + 0.5]);
            // Beyond the edge its last pixels go on.
            let (x, y) = (x.clamp(0.0, size.0 as f32), y.clamp(0.0, size.1 as f32));
            pixels.extend(sample(picture, x - 0.5, y - 0.5));
        }
    }
    (Picture::full(width, height, pixels), warp)
}

fn window(picture: &Picture, [left, top, width, height]: [u32; 4]) -> (Picture, Warp) {
    let row_bytes = picture.width as usize * 3;
    let rows = picture.pixels.chunks_exact(row_bytes).skip(top as usize).take(height as usize);
    let columns = left as usize * 3..(left + width) as usize * 3;
    let pixels = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
    (Picture::full(width, height, pixels), Warp::shift([left as f32, top as f32]))
}

#[cfg(test)]
mod tests {
    use eyebolt_types::BoundingBox;

    use super::*;

    /// Every pixel tells its place.
    fn places() -> Picture {
        let pixels = (0..12u8).flat_map(|y| (0..16u8).flat_map(move |x| [x * 10, y * 10, 7]));
        Picture::full(16, 12, pixels.collect())
    }

    #[test]
    fn a_part_that_stands_upright_keeps_its_pixels() {
        let bounds = BoundingBox { x: 3.4, y: 2.0, width: 2.2, height: 1.5 };
        let (part, warp) = cut(&places(), &Region { bounds, polygon: None });
        assert_eq!((part.width, part.height, &part.pixels[..3]), (3, 2, &[30, 20, 7][..]));
        assert_eq!(warp.point([1.0, 1.0]), [4.0, 3.0]);
    }

    #[test]
    fn a_part_on_its_side_is_straightened_and_its_places_lead_back() {
        // Reading direction downwards: the part's own top left is the picture's top right.
        let polygon = [[8.0, 2.0], [8.0, 8.0], [5.0, 8.0], [5.0, 2.0]];
        let (part, warp) =
            cut(&places(), &Region { bounds: BoundingBox::around(&polygon), polygon: Some(polygon) });
        assert_eq!((part.width, part.height), (6, 3));
        assert_eq!(&part.pixels[..6], [70, 20, 7, 70, 30, 7], "the first pixels go down the last column");
        for (at, pixel) in part.pixels.chunks(3).enumerate() {
            let [x, y] = warp.point([(at % 6) as f32 + 0.5, (at / 6) as f32 + 0.5]);
            assert_eq!([pixel[0], pixel[1]], [(x - 0.5) as u8 * 10, (y - 0.5) as u8 * 10]);
        }
    }

    #[test]
    fn a_part_beyond_the_edge_has_pixels_all_the_same() {
        let bounds = BoundingBox { x: 16.0, y: 12.0, width: 0.0, height: 0.0 };
        let (part, _) = cut(&places(), &Region { bounds, polygon: None });
        assert_eq!((part.width, part.height), (1, 1));
        let polygon = [[-40.0, -40.0], [60.0, -40.0], [60.0, 50.0], [-40.0, 50.0]];
        let (part, _) = cut(&places(), &Region { bounds, polygon: Some(polygon) });
        assert!(part.pixels.len() <= 4 * 16 * 12 * 3 && !part.pixels.is_empty());
    }
}
