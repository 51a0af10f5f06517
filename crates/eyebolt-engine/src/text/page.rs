//! How far a page stands turned: along which side its lines run, and whether they stand on their heads.

use super::Quad;

/// Lines whose longer side is at least this many times the shorter tell which way they run; a single character such
/// as a `1` is not that long.
const LONG: f32 = 2.5;
/// Lines asked before the vote can be clear, and at most.
const FIRST: usize = 3;
const MOST: usize = 9;
/// The vote is clear where the mean probability is this far from even.
const CLEAR: f32 = 0.35;

/// Whether the lines run from top to bottom or bottom to top rather than across, by their summed length.
pub(crate) fn runs_sideways(lines: &[Quad]) -> bool {
    let sum = lines.iter().fold(0.0, |sum, line| {
        let (width, height) = (line.width(), line.height());
        if height >= LONG * width {
            sum + height
        } else if width >= LONG * height {
            sum - width
        } else {
            sum
        }
    });
    sum > 0.0
}

/// The lines that can best tell which way up they stand, the longest first.
pub(crate) fn witnesses(lines: &[Quad], sideways: bool) -> Vec<Quad> {
    let length = |line: &Quad| line.width().max(line.height());
    let along = lines.iter().filter(|line| (line.height() > line.width()) == sideways);
    let mut along: Vec<Quad> = along.copied().collect();
    along.sort_by(|a, b| length(b).total_cmp(&length(a)));
    along.truncate(MOST);
    along
}

/// Whether a character belongs to a script that is also written in columns: Chinese characters and kana.
pub(crate) fn is_ideographic(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// The vote of lines on whether the page stands on its head.
#[derive(Debug, Default)]
pub(crate) struct Vote {
    /// Of the probabilities, each less one half.
    sum: f32,
    count: usize,
}

impl Vote {
    /// Adds one line's probability of standing on its head, 0–1.
    pub(crate) fn add(&mut self, probability: f32) {
        self.sum += probability - 0.5;
        self.count += 1;
    }

    /// Whether further lines could hardly change the outcome: the first ones are sure and agree.
    pub(crate) fn is_clear(&self) -> bool {
        self.count >= FIRST && self.sum.abs() >= CLEAR * self.count as f32
    }

    /// Whether the page stands on its head.
    pub(crate) fn upside_down(&self) -> bool {
        self.sum > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(width: f32, height: f32) -> Quad {
        Quad([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    }

    fn vote(probabilities: &[f32]) -> Vote {
        let mut vote = Vote::default();
        for probability in probabilities {
            vote.add(*probability);
        }
        vote
    }

    #[test]
    fn the_greater_length_of_lines_says_how_they_run() {
        assert!(!runs_sideways(&[]));
        assert!(!runs_sideways(&[line(90.0, 10.0), line(10.0, 80.0)]));
        assert!(runs_sideways(&[line(10.0, 90.0), line(10.0, 80.0), line(100.0, 10.0)]));
    }

    #[test]
    fn single_characters_do_not_turn_a_page() {
        assert!(!runs_sideways(&[line(10.0, 20.0), line(9.0, 20.0), line(20.0, 20.0)]));
    }

    #[test]
    fn witnesses_are_the_longest_lines_of_the_page_s_own_direction() {
        let lines: Vec<Quad> = (1..=12).map(|length| line(length as f32 * 30.0, 10.0)).collect();
        let asked = witnesses(&[&lines[..], &[line(10.0, 999.0)]].concat(), false);
        let lengths: Vec<f32> = asked.iter().map(Quad::width).collect();
        assert_eq!(lengths, [360.0, 330.0, 300.0, 270.0, 240.0, 210.0, 180.0, 150.0, 120.0]);
    }

    #[test]
    fn sure_lines_that_agree_end_the_vote_early() {
        assert!(!vote(&[0.99, 0.98]).is_clear());
        assert!(vote(&[0.99, 0.98, 0.97]).is_clear() && vote(&[0.99, 0.98, 0.97]).upside_down());
        assert!(vote(&[0.01, 0.02, 0.1]).is_clear() && !vote(&[0.01, 0.02, 0.1]).upside_down());
        assert!(!vote(&[0.99, 0.98, 0.1]).is_clear() && vote(&[0.99, 0.98, 0.1]).upside_down());
        assert!(!vote(&[0.6, 0.6, 0.6]).is_clear());
        assert!(!vote(&[]).upside_down());
    }

    #[test]
    fn scripts_written_in_columns() {
        assert!("字かカ".chars().all(is_ideographic));
        assert!(!"aß1Я한".chars().any(is_ideographic));
    }
}
