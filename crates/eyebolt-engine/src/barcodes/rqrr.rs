use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Found, Scan};

/// The reader's name and the version of its crate.
pub(super) const MODEL: &str = "rqrr@0.11.0";

/// Reads the QR codes of a view. A panic of the library means that it saw none.
pub(super) fn scan(scan: &Scan<'_>) -> Vec<Found> {
    catch_unwind(AssertUnwindSafe(|| read(scan))).unwrap_or_default()
}

fn read(scan: &Scan<'_>) -> Vec<Found> {
    let (width, height) = (scan.width as usize, scan.height as usize);
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| scan.luma[y * width + x]);
    let grids = image.detect_grids();
    grids.iter().filter_map(found).collect()
}

fn found<G: rqrr::BitGrid>(grid: &rqrr::Grid<G>) -> Option<Found> {
    let mut bytes = Vec::new();
    grid.decode_to(&mut bytes).ok()?;
    let text = super::escaped(&bytes);
    let content = if std::str::from_utf8(&bytes).is_ok() { "text" } else { "binary" };
    let polygon = grid.bounds.map(|point| [point.x as f32, point.y as f32]);
    Some(Found { format: "QRCode", text, bytes, content, polygon })
}
