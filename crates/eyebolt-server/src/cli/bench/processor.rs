//! Processor time, as Linux counts it. It tells what work costs where rates tell what the neighbours do.

use std::{fs, time::Duration};

/// What one count of the kernel's stands for: the same on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// Of this process and its children (the decoders) so far; nothing on a system without `/proc`.
pub(super) fn of_all() -> Option<Duration> {
    let own = std::process::id();
    let mut total = spent(&fs::read_to_string("/proc/self/stat").ok()?)?.1;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        // A process that ended meanwhile has nothing to read; one that is no number is no process.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((parent, time)) = spent(&stat)
            && parent == own
        {
            total += time;
        }
    }
    Some(total)
}

/// Of the calling thread so far.
pub(super) fn of_thread() -> Option<Duration> {
    spent(&fs::read_to_string("/proc/thread-self/stat").ok()?).map(|(_, time)| time)
}

/// Parent and processor time in a line of `/proc/PID/stat`. The name, the second field, may hold anything.
fn spent(stat: &str) -> Option<(u32, Duration)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    // Counted from the parent on: user time and system time are the 14th and 15th fields of the line.
    let (user, system): (u32, u32) = (fields.nth(9)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((parent, TICK * (user + system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194304 100 0 0 0 12 30 5 6 20 0 1 0 99 1 1";
        assert_eq!(spent(line), Some((3, Duration::from_millis(420))));
        assert_eq!(spent("7 (short) S 3"), None);
    }
}
