//! Greedy decoding of connectionist temporal classification: the best class of each step, repeats joined, blanks
//! dropped (Graves et al. 2006, section 3.2).

/// Class that stands for "no new character here".
const BLANK: usize = 0;

/// One character: its class, the step where it begins, its highest probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Emission {
    pub(crate) class: usize,
    pub(crate) step: usize,
    pub(crate) probability: f32,
}

/// Decodes `steps × classes` probabilities, row-major.
pub(crate) fn decode(probabilities: &[f32], classes: usize) -> Vec<Emission> {
    let mut emissions: Vec<Emission> = Vec::new();
    let mut last = BLANK;
    for (step, row) in probabilities.chunks_exact(classes).enumerate() {
        let (class, probability) = highest(row);
        if class == last && class != BLANK {
            if let Some(emission) = emissions.last_mut() {
                emission.probability = emission.probability.max(probability);
            }
        } else if class != BLANK {
            emissions.push(Emission { class, step, probability });
        }
        last = class;
    }
    emissions
}

/// Index and value of the greatest number: first the value in lanes, which the compiler turns into vector
/// instructions, then its place.
fn highest(row: &[f32]) -> (usize, f32) {
    const LANES: usize = 32;
    let mut lanes = [f32::MIN; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let best = lanes.iter().chain(chunks.remainder()).fold(f32::MIN, |best, &value| best.max(value));
    (row.iter().position(|&value| value == best).unwrap_or(BLANK), best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(best: &[(usize, f32)], classes: usize) -> Vec<f32> {
        best.iter()
            .flat_map(|&(class, probability)| {
                let mut row = vec![(1.0 - probability) / classes as f32; classes];
                row[class] = probability;
                row
            })
            .collect()
    }

    fn emission(class: usize, step: usize, probability: f32) -> Emission {
        Emission { class, step, probability }
    }

    #[test]
    fn repeats_are_one_character_unless_a_blank_stands_between() {
        let rows = steps(&[(0, 0.9), (3, 0.6), (3, 0.8), (0, 0.7), (3, 0.5), (1, 0.9), (0, 1.0)], 5);
        assert_eq!(decode(&rows, 5), [emission(3, 1, 0.8), emission(3, 4, 0.5), emission(1, 5, 0.9)]);
    }

    #[test]
    fn nothing_but_blanks_is_nothing() {
        assert_eq!(decode(&steps(&[(0, 0.9); 4], 70), 70), []);
        assert_eq!(decode(&[], 70), []);
    }

    #[test]
    fn the_greatest_is_found_at_any_place() {
        for class in 1..100 {
            assert_eq!(decode(&steps(&[(class, 0.9)], 100), 100), [emission(class, 0, 0.9)]);
        }
    }

    #[test]
    fn rows_without_numbers_are_blank() {
        assert_eq!(decode(&[f32::NAN; 80], 40), []);
    }
}
