//! Looking closer: a detector with a fixed small input sees more of a large picture in overlapping parts.

use eyebolt_types::{BoundingBox, Detail};

use crate::Picture;

/// Share of a side that a part covers: two parts overlap by a fifth of the side, so that what one cuts the other has
/// whole.
const SHARE: f64 = 0.6;
/// A finding that comes nearer to a cut than this share of the part is likely half a thing.
const MARGIN: f32 = 0.02;

/// One look at the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// Left, top, width and height in pixels of the picture.
    pub(crate) crop: [f64; 4],
    /// Whether it is a part of the picture.
    pub(crate) is_part: bool,
}

impl View {
    pub(crate) fn whole(picture: &Picture) -> Self {
        Self { crop: [0.0, 0.0, f64::from(picture.width), f64::from(picture.height)], is_part: false }
    }

    /// Whether a finding (in pixels of the full image) touches an edge of the part that is no edge of the picture.
    pub(crate) fn cuts(&self, bounds: &BoundingBox, picture: &Picture) -> bool {
        let [left, top, width, height] = self.crop.map(|value| value as f32);
        let (scale_x, scale_y) = (picture.scale_x(), picture.scale_y());
        let touches = |low: f32, high: f32, (start, length, whole): (f32, f32, f32)| {
            let margin = length * MARGIN;
            (start > 0.0 && low < start + margin)
                || (start + length < whole - 1.0 && high > start + length - margin)
        };
        let (x, y) = (bounds.x / scale_x, bounds.y / scale_y);
        touches(x, x + bounds.width / scale_x, (left, width, picture.width as f32))
            || touches(y, y + bounds.height / scale_y, (top, height, picture.height as f32))
    }
}

/// The looks that a detail takes: `low` the whole picture; `standard` two halves of the longer side as well; `high`
/// also four quarters. A picture that is no larger than the model's input is looked at once.
pub(crate) fn views(picture: &Picture, detail: Detail, input_side: u32) -> Vec<View> {
    let whole = View::whole(picture);
    let mut views = vec![whole];
    if detail == Detail::Low || picture.width.max(picture.height) <= input_side {
        return views;
    }
    let [_, _, width, height] = whole.crop;
    let starts = [0.0, 1.0 - SHARE];
    let part = |crop| View { crop, is_part: true };
    if width >= height {
        views.extend(starts.map(|start| part([start * width, 0.0, SHARE * width, height])));
    } else {
        views.extend(starts.map(|start| part([0.0, start * height, width, SHARE * height])));
    }
    if detail == Detail::High {
        let corners = starts.iter().flat_map(|x| starts.map(|y| (*x, y)));
        views.extend(corners.map(|(x, y)| part([x * width, y * height, SHARE * width, SHARE * height])));
    }
    views
}

/// The longer side that the decoded picture needs, so that no part is enlarged, for a side that one look needs.
pub(crate) fn side_for(detail: Detail, side: u32) -> u32 {
    if detail == Detail::Low { side } else { (f64::from(side) / SHARE).ceil() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_picture_and_overlap() {
        let picture = Picture::full(1000, 400, vec![0; 1000 * 400 * 3]);
        assert_eq!(views(&picture, Detail::Low, 300).len(), 1);
        let crops: Vec<_> = views(&picture, Detail::Standard, 300).iter().map(|view| view.crop).collect();
        assert_eq!(crops, [[0.0, 0.0, 1000.0, 400.0], [0.0, 0.0, 600.0, 400.0], [400.0, 0.0, 600.0, 400.0]]);
        assert_eq!(views(&picture, Detail::High, 300).len(), 7);
        assert_eq!(views(&picture, Detail::High, 1000).len(), 1);
    }

    #[test]
    fn only_an_edge_inside_the_picture_cuts() {
        let picture = Picture::full(1000, 400, vec![0; 1000 * 400 * 3]);
        let right = views(&picture, Detail::Standard, 300)[2];
        let at = |x, width| BoundingBox { x, y: 0.0, width, height: 400.0 };
        assert!(right.cuts(&at(401.0, 100.0), &picture));
        assert!(!right.cuts(&at(450.0, 550.0), &picture));
    }
}
