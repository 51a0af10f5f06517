//! Reading order: columns by recursive cuts along gutters (after the XY-cut of Nagy and Seth, 1984), rows inside a
//! column by overlap, left to right inside a row. Table rows, such as an item and its price, stay together: only what
//! looks like running text on both sides of a gutter counts as columns.

use eyebolt_types::Point;

use super::Quad;

/// A gutter is at least this wide, in line heights. Regions reach a little over the ink, so less than it looks.
const GUTTER: f32 = 0.3;
/// Both sides of a gutter stack at least this many lines.
const STACKED: usize = 3;
/// Running text: half of the lines are at least this many times wider than high. Cells of a table are shorter.
const RUNNING: f32 = 6.0;
/// Of all lines at most this share may cross a gutter, as titles do.
const CROSSING: f32 = 0.34;
/// Gutters tried at each cut, the clearest first.
const TRIES: usize = 8;

/// One line in the upright, straightened page.
#[derive(Debug, Clone, Copy)]
struct Item {
    index: usize,
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
}

impl Item {
    fn middle(&self) -> f32 {
        f32::midpoint(self.top, self.bottom)
    }

    fn height(&self) -> f32 {
        self.bottom - self.top
    }

    /// The share of the lower of two items that stands beside the other, 0–1.
    fn beside(&self, other: &Self) -> f32 {
        let both = self.bottom.min(other.bottom) - self.top.max(other.top);
        both / self.height().min(other.height()).max(f32::EPSILON)
    }

    /// How far two items lie apart horizontally; negative where they overlap.
    fn apart(&self, other: &Self) -> f32 {
        self.left.max(other.left) - self.right.min(other.right)
    }
}

/// The indices of the lines in reading order: rows from top to bottom, each from left to right.
pub(crate) fn rows(lines: &[Quad]) -> Vec<Vec<usize>> {
    let (sin, cos) = tilt(lines).sin_cos();
    let straight = |[x, y]: Point| [x * cos + y * sin, y * cos - x * sin];
    let items = lines.iter().enumerate().map(|(index, line)| item(index, line.map(straight)));
    let mut rows = Vec::new();
    read(items.collect(), &mut rows);
    rows.into_iter().map(|row| row.into_iter().map(|item| item.index).collect()).collect()
}

/// The angle of the page in radians: the median over lines, weighted by length.
fn tilt(lines: &[Quad]) -> f32 {
    let direction = |line: &Quad| {
        let [[x0, y0], [x1, y1], ..] = line.0;
        (x1 - x0, y1 - y0)
    };
    let lying = lines.iter().map(direction).filter(|(x, y)| *x > y.abs());
    let mut angles: Vec<(f32, f32)> = lying.map(|(x, y)| (y.atan2(x), x.hypot(y))).collect();
    angles.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = angles.iter().map(|(_, length)| length).sum::<f32>() / 2.0;
    let mut sum = 0.0;
    let median = angles.iter().find(|(_, length)| {
        sum += length;
        sum >= half
    });
    median.map_or(0.0, |(angle, _)| *angle)
}

fn item(index: usize, line: Quad) -> Item {
    let bounds = line.bounds();
    // The upright box of a line that is less straight than the page would reach into its neighbours.
    let half =
        if line.width() > line.height() { line.height().min(bounds.height) } else { bounds.height } / 2.0;
    let middle = line.centre()[1];
    Item { index, left: bounds.x, right: bounds.x + bounds.width, top: middle - half, bottom: middle + half }
}

fn read(mut items: Vec<Item>, rows: &mut Vec<Vec<Item>>) {
    items.sort_by(|a, b| a.middle().total_cmp(&b.middle()).then(a.left.total_cmp(&b.left)));
    let Some(cut) = gutter(&items) else {
        rows.extend(rows_of(&items));
        return;
    };
    if cut.crossing.is_empty() {
        read(cut.left, rows);
        read(cut.right, rows);
        return;
    }
    let mut beside = [cut.left, cut.right].concat();
    for across in rows_of(&cut.crossing) {
        let middle = across.iter().map(Item::middle).sum::<f32>() / across.len() as f32;
        let (above, below) = beside.into_iter().partition(|item: &Item| item.middle() < middle);
        read(above, rows);
        rows.push(across);
        beside = below;
    }
    read(beside, rows);
}

/// Rows of a single column; `items` are ordered by their middle.
fn rows_of(items: &[Item]) -> Vec<Vec<Item>> {
    /// Rows are built from the top, so an item can only belong to one of the last.
    const OPEN: usize = 8;
    let mut rows: Vec<Vec<Item>> = Vec::new();
    for item in items {
        let open = rows.len().saturating_sub(OPEN);
        let fit = |row: &Vec<Item>| {
            let nearest = row.iter().min_by(|a, b| a.apart(item).total_cmp(&b.apart(item)))?;
            let room = nearest.apart(item) > -0.5 * nearest.height().min(item.height());
            Some(nearest.beside(item)).filter(|beside| room && *beside >= 0.5)
        };
        let best = rows[open..].iter().enumerate().filter_map(|(at, row)| Some((at, fit(row)?)));
        match best.max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((at, _)) => rows[open + at].push(*item),
            None => rows.push(vec![*item]),
        }
    }
    for row in &mut rows {
        row.sort_by(|a, b| a.left.total_cmp(&b.left));
    }
    rows
}

/// What a gutter parts.
struct Cut {
    left: Vec<Item>,
    right: Vec<Item>,
    crossing: Vec<Item>,
}

/// The clearest gutter with columns on both sides.
fn gutter(items: &[Item]) -> Option<Cut> {
    let width = median(items.iter().map(Item::height))? * GUTTER;
    candidates(items, width).into_iter().map(|(start, _)| cut(items, start, width)).find(are_columns)
}

/// Where a gutter may begin, with the number of lines that cross it, fewest first.
fn candidates(items: &[Item], width: f32) -> Vec<(f32, usize)> {
    let sorted = |edge: fn(&Item) -> f32| {
        let mut edges: Vec<f32> = items.iter().map(edge).collect();
        edges.sort_by(f32::total_cmp);
        edges
    };
    let (lefts, rights) = (sorted(|item| item.left), sorted(|item| item.right));
    let most = (items.len() as f32 * CROSSING) as usize;
    let crossing = |start: f32| {
        let before = rights.partition_point(|right| *right <= start);
        let behind = items.len() - lefts.partition_point(|left| *left < start + width);
        (before >= STACKED && behind >= STACKED).then(|| items.len() - before - behind)
    };
    let mut found: Vec<(f32, usize)> = rights
        .iter()
        .filter_map(|start| Some((*start, crossing(*start)?)))
        .filter(|(_, crossing)| *crossing <= most)
        .collect();
    found.sort_by_key(|(_, crossing)| *crossing);
    found.truncate(TRIES);
    found
}

fn cut(items: &[Item], start: f32, width: f32) -> Cut {
    let mut cut = Cut { left: Vec::new(), right: Vec::new(), crossing: Vec::new() };
    for item in items {
        let side = if item.right <= start {
            &mut cut.left
        } else if item.left >= start + width {
            &mut cut.right
        } else {
            &mut cut.crossing
        };
        side.push(*item);
    }
    cut
}

/// Whether both sides are stacks of lines that stand beside each other, and either running text or not in step.
fn are_columns(cut: &Cut) -> bool {
    let (left, right) = (rows_of(&cut.left), rows_of(&cut.right));
    let fewer = left.len().min(right.len());
    if fewer < STACKED || shared_height(&cut.left, &cut.right) < 0.5 {
        return false;
    }
    let running = [&cut.left, &cut.right].into_iter().all(|side| {
        let shapes = side.iter().map(|item| (item.right - item.left) / item.height().max(f32::EPSILON));
        median(shapes).is_some_and(|shape| shape >= RUNNING)
    });
    running || in_step(&left, &right) * 2 < fewer
}

/// The share of the lower stack that stands beside the other, 0–1.
fn shared_height(a: &[Item], b: &[Item]) -> f32 {
    let extent = |items: &[Item]| {
        items
            .iter()
            .fold((f32::MAX, f32::MIN), |(top, bottom), item| (top.min(item.top), bottom.max(item.bottom)))
    };
    let (a, b) = (extent(a), extent(b));
    let both = a.1.min(b.1) - a.0.max(b.0);
    both / (a.1 - a.0).min(b.1 - b.0).max(f32::EPSILON)
}

/// How many rows on the left have one on the right at the same height.
fn in_step(left: &[Vec<Item>], right: &[Vec<Item>]) -> usize {
    let beside =
        |a: &Vec<Item>, b: &Vec<Item>| a.last().zip(b.first()).is_some_and(|(a, b)| a.beside(b) >= 0.7);
    left.iter().filter(|a| right.iter().any(|b| beside(a, b))).count()
}

fn median(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut values: Vec<f32> = values.collect();
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f32::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line 10 high.
    fn line(left: f32, top: f32, width: f32) -> Quad {
        let (right, bottom) = (left + width, top + 10.0);
        Quad([[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    /// `count` lines of running text below each other.
    fn stack(left: f32, top: f32, count: usize) -> Vec<Quad> {
        (0..count).map(|row| line(left, top + row as f32 * 14.0, 200.0 - (row % 3) as f32 * 15.0)).collect()
    }

    fn flat(lines: &[Quad]) -> Vec<usize> {
        rows(lines).concat()
    }

    fn in_turn(count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    #[test]
    fn a_receipt_is_read_by_rows() {
        let mut lines = vec![line(60.0, 0.0, 90.0)];
        for (row, width) in [120.0, 60.0, 95.0, 40.0, 130.0].into_iter().enumerate() {
            let top = 30.0 + row as f32 * 14.0;
            lines.extend([line(0.0, top, width), line(180.0, top + 1.5, 25.0)]);
        }
        let pairs = [vec![0], vec![1, 2], vec![3, 4], vec![5, 6], vec![7, 8], vec![9, 10]];
        assert_eq!(rows(&lines), pairs);
    }

    #[test]
    fn a_table_of_several_columns_is_read_by_rows() {
        let cells = (0..8).flat_map(|row| {
            [(0.0, 55.0), (110.0, 20.0), (150.0, 25.0), (200.0, 30.0)]
                .map(|(left, width)| line(left, row as f32 * 16.0, width))
        });
        let expected: Vec<Vec<usize>> = (0..8).map(|row| (row * 4..row * 4 + 4).collect()).collect();
        assert_eq!(rows(&cells.collect::<Vec<_>>()), expected);
    }

    #[test]
    fn columns_of_running_text_are_read_one_after_the_other() {
        let lines = [stack(0.0, 0.0, 9), stack(210.0, 0.0, 9), stack(420.0, 0.0, 7)].concat();
        assert_eq!(flat(&lines), in_turn(25));
    }

    #[test]
    fn titles_part_what_stands_above_and_below() {
        let title = |top: f32| vec![line(20.0, top, 350.0)];
        let lines = [
            title(0.0),
            stack(0.0, 20.0, 5),
            stack(215.0, 20.0, 5),
            title(110.0),
            stack(0.0, 130.0, 6),
            stack(215.0, 130.0, 6),
        ];
        assert_eq!(flat(&lines.concat()), in_turn(24));
    }

    #[test]
    fn blocks_that_are_not_in_step_are_columns_even_if_short() {
        let left = (0..6).map(|row| line(0.0, row as f32 * 14.0, 40.0));
        let right = (0..4).map(|row| line(80.0, 7.0 + row as f32 * 14.0, 45.0));
        assert_eq!(flat(&left.chain(right).collect::<Vec<_>>()), in_turn(10));
    }

    #[test]
    fn a_tilted_page_is_read_like_a_straight_one() {
        let lines: Vec<Quad> =
            (0..12).map(|at| line((at % 2) as f32 * 300.0, (at / 2) as f32 * 14.0, 40.0)).collect();
        for degrees in [-30.0_f32, -6.0, 8.0, 25.0] {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let tilted: Vec<Quad> =
                lines.iter().map(|line| line.map(|[x, y]| [x * cos - y * sin, x * sin + y * cos])).collect();
            assert_eq!(flat(&tilted), in_turn(12), "{degrees}°");
        }
    }

    #[test]
    fn tight_lines_that_overlap_are_no_row() {
        let lines: Vec<Quad> = (0..5).map(|row| line(0.0, row as f32 * 6.0, 150.0)).collect();
        assert_eq!(rows(&lines), (0..5).map(|row| vec![row]).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_and_a_point() {
        assert_eq!(rows(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(rows(&[Quad([[5.0, 5.0]; 4])]), [[0]]);
    }

    proptest! {
        #[test]
        fn every_line_is_read_once(
            places in prop::collection::vec(prop::array::uniform4(0_u8..120), 0..60),
            degrees in -44.0_f32..44.0,
        ) {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let lines: Vec<Quad> = places
                .into_iter()
                .map(|place| {
                    let [left, top, width, height] = place.map(f32::from);
                    let (right, bottom) = (left + width, top + height / 4.0);
                    Quad([[left, top], [right, top], [right, bottom], [left, bottom]])
                        .map(|[x, y]| [x * cos - y * sin, x * sin + y * cos])
                })
                .collect();
            let mut order = flat(&lines);
            order.sort_unstable();
            prop_assert_eq!(order, in_turn(lines.len()));
        }
    }
}
