use aws_lc_rs::digest::{SHA256, digest};
use eyebolt_types::id::JobId;

/// Jobs in one band at most.
const SLOTS: i64 = 16;
/// Slots that a job tries.
const TRIES: i64 = 4;

/// A job in one number: milliseconds since 1970, then 20 bits of chance from its id. The counter that an id has between
/// the two would be the same for all jobs of a millisecond.
pub(super) fn place(job: JobId) -> i64 {
    let digits = hex_digits(job);
    let number = |digits: &str| i64::from_str_radix(digits, 16).expect("an id is hexadecimal");
    (number(&digits[..12]) << 20) | number(&digits[27..])
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
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn places_grow_with_age_tell_jobs_apart_and_slots_are_all_used() {
        let jobs: Vec<_> = (0..2000).map(|_| JobId::new()).collect();
        assert!(jobs.windows(2).all(|pair| place(pair[0]) >> 20 <= place(pair[1]) >> 20));
        let places: HashSet<_> = jobs.iter().map(|job| place(*job)).collect();
        assert!(places.len() > 1950, "{} places", places.len());
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
