//! TIFF 6.0 and its 64-bit extension: the chain of image file directories, each a page.

use super::gate::Gate;
use super::header::Header;
use super::reader::corrupt;
use super::tiff_entry::{Entry, Layout};
use super::tiff_page::Page;
use crate::ImageError;
use crate::inspect::Part;

pub(super) fn walk(bytes: &[u8], gate: &mut Gate<'_>) -> Result<Header, ImageError> {
    let (layout, mut next) = Layout::read(bytes)?;
    // At most `max_frames` long: the gate stops the walk there.
    let mut visited = Vec::new();
    let mut first = None;
    let mut end = 0;
    while next != 0 {
        if visited.contains(&next) {
            return Err(corrupt(gate.format, "its directories form a loop"));
        }
        visited.push(next);
        let directory = layout.directory(next)?;
        let mut page = Page::default();
        for row in directory.rows() {
            let entry = layout.entry(row)?;
            end = end.max(entry.end);
            keep(&mut page, &entry, gate)?;
        }
        end = end.max(directory.end);
        next = directory.next;
        let pixels_end = count(&page, gate, first.is_none())?;
        end = end.max(pixels_end);
        first.get_or_insert(page);
    }
    let Some(page) = first else {
        return Err(corrupt(gate.format, "no directory"));
    };
    let header = page.header(gate)?;
    gate.trailer(bytes, end)?;
    Ok(header)
}

/// Keeps what describes pixels; everything else is metadata.
fn keep<'a>(page: &mut Page<'a>, entry: &Entry<'a>, gate: &mut Gate<'_>) -> Result<(), ImageError> {
    if page.keep(entry) {
        return Ok(());
    }
    gate.metadata(Part::Described, entry.value, 12)
}

/// Holds a page against the limits; gives where its pixels end.
fn count(page: &Page<'_>, gate: &mut Gate<'_>, is_first: bool) -> Result<usize, ImageError> {
    let (width, height) = page.size();
    gate.frame(width, height)?;
    // Later pages are never decoded; they may be thumbnails or masks of any size.
    if !is_first {
        return Ok(page.pixels_end_at_a_glance());
    }
    gate.size(width, height)?;
    page.check_pixels(gate)
}
