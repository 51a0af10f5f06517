use aws_lc_rs::digest::{SHA256, digest};
use eyebolt_types::id::JobId;

/// Jobs in one band at most.
const SLOTS: i64 = 16;
/// Slots that a job tries.
const TRIES: i64 = 4;

/// The beginning of a job's id as a number: milliseconds since 1970, then what tells jobs of one millisecond apart,
/// nearly always.
pub(super) fn place(job: JobId) -> i64 {
    i64::from_str_radix(&hex_digits(job)[..16], 16).expect("an id begins with a time whose first bit is 0")
}

/// Which slots of a band a job tries: the first one by chance, but always the same.
pub(super) fn slots(job: JobId) -> impl Iterator<Item = i64> {
    let last = hex_digits(job).chars().last().and_then(|digit| digit.to_digit(16));
    let first = i64::from(last.expect("an id ends with a hexadecimal digit"));
    (0..TRIES).map(move |step| (first + step) % SLOTS)
}

fn hex_digits(job: JobId) -> String {
    job.to_string().split_off(JobId::PREFIX.len() + 1)
}

/// The band of a project and mode.
pub(super) fn band((project, mode): (&str, &str), band: u32) -> i64 {
    let name = format!("{project} {mode} {band}");
    let digest = digest(&SHA256, name.as_bytes());
    let (first, _) = digest.as_ref().split_first_chunk::<8>().expect("the digest has 32 bytes");
    i64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_grow_with_age_and_slots_are_all_used() {
        let jobs: Vec<_> = (0..2000).map(|_| JobId::new()).collect();
        assert!(jobs.windows(2).all(|pair| place(pair[0]) <= place(pair[1])));
        let mut slots: Vec<_> = jobs.iter().map(|job| slots(*job).next().unwrap()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
    }

    #[test]
    fn bands_of_projects_and_modes_are_apart() {
        let all =
            [band(("a", "live"), 1), band(("a", "test"), 1), band(("b", "live"), 1), band(("a", "live"), 2)];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(index));
        }
    }
}
