use eyebolt_types::{
    manifest::Bands,
    result::{ConfidenceBand, TextLine},
};

use super::{Quad, TextFindings, order, reader::ReadLine};
use crate::Picture;

/// The lines in reading order, in pixels of the full image, and their text; `quarters` is how many right angles the
/// page stands turned clockwise.
pub(crate) fn of(picture: &Picture, lines: &[ReadLine], (quarters, bands): (usize, Bands)) -> TextFindings {
    let upright: Vec<Quad> = lines.iter().map(|line| upright(picture, line.quad, quarters)).collect();
    let rows = order::rows(&upright);
    let row_text = |row: &Vec<usize>| {
        let texts: Vec<_> = row.iter().map(|line| lines[*line].reading.text.as_str()).collect();
        texts.join(" ")
    };
    TextFindings {
        text: rows.iter().map(row_text).collect::<Vec<_>>().join("\n"),
        lines: rows.iter().flatten().map(|line| text_line(picture, &lines[*line], bands)).collect(),
        rotation: 0,
    }
}

/// The place of a line on the page turned back upright.
fn upright(picture: &Picture, line: Quad, quarters: usize) -> Quad {
    let (width, height) = (picture.width as f32, picture.height as f32);
    line.map(|[x, y]| match quarters % 4 {
        0 => [x, y],
        1 => [y, width - x],
        2 => [width - x, height - y],
        _ => [height - y, x],
    })
}

fn text_line(picture: &Picture, line: &ReadLine, bands: Bands) -> TextLine {
    let quad = line
        .quad
        .map(|[x, y]| [x * picture.scale_x(), y * picture.scale_y()])
        .clipped(picture.full_width as f32, picture.full_height as f32);
    let confidence = line.reading.confidence;
    TextLine {
        text: line.reading.text.clone(),
        confidence,
        confidence_band: if confidence >= bands.high {
            ConfidenceBand::High
        } else if confidence >= bands.medium {
            ConfidenceBand::Medium
        } else {
            ConfidenceBand::Low
        },
        polygon: quad.0,
        bounds: quad.bounds(),
    }
}

#[cfg(test)]
mod tests {
    use eyebolt_types::BoundingBox;

    use super::*;
    use crate::text::recognise::Reading;

    fn line(text: &str, confidence: f32, corners: [[f32; 2]; 4]) -> ReadLine {
        ReadLine { quad: Quad(corners), reading: Reading { text: text.to_owned(), confidence } }
    }

    fn across(text: &str, left: f32, top: f32) -> ReadLine {
        let (right, bottom) = (left + 30.0, top + 10.0);
        line(text, 0.9, [[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    #[test]
    fn lines_of_a_row_share_a_line_of_text() {
        let picture = Picture::full(100, 50, vec![0; 100 * 50 * 3]);
        let lines = [across("4.80", 60.0, 10.5), across("Tea", 5.0, 30.0), across("Coffee", 5.0, 10.0)];
        let found = of(&picture, &lines, (0, Bands::default()));
        assert_eq!(found.text, "Coffee 4.80\nTea");
        let texts: Vec<_> = found.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["Coffee", "4.80", "Tea"]);
    }

    #[test]
    fn places_are_those_of_the_full_image_and_inside_it() {
        let mut picture = Picture::full(100, 50, vec![0; 100 * 50 * 3]);
        (picture.full_width, picture.full_height) = (200, 150);
        let corners = [[-1.0, 10.0], [60.0, 10.0], [60.0, 20.0], [-1.0, 20.0]];
        let found = of(&picture, &[line("a", 0.6, corners)], (0, Bands::default()));
        let expected = TextLine {
            text: "a".to_owned(),
            confidence: 0.6,
            confidence_band: ConfidenceBand::Medium,
            polygon: [[0.0, 30.0], [120.0, 30.0], [120.0, 60.0], [0.0, 60.0]],
            bounds: BoundingBox { x: 0.0, y: 30.0, width: 120.0, height: 30.0 },
        };
        assert_eq!(found.lines, [expected]);
    }

    #[test]
    fn a_turned_page_is_read_from_its_own_top() {
        // On a page that stands on its right side, the upright page's rows run downwards, the first one at the right.
        let picture = Picture::full(50, 100, vec![0; 50 * 100 * 3]);
        let down = |text: &str, right: f32| {
            line(text, 0.9, [[right, 10.0], [right, 60.0], [right - 10.0, 60.0], [right - 10.0, 10.0]])
        };
        let lines = [down("second", 30.0), down("first", 45.0)];
        assert_eq!(of(&picture, &lines, (1, Bands::default())).text, "first\nsecond");
        assert_eq!(of(&picture, &lines, (3, Bands::default())).text, "second\nfirst");
    }
}
