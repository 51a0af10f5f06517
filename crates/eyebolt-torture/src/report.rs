//! The verdict for people and for files.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::Path,
};

use anyhow::Context;

use crate::checker::{Invariant, Verdict};

/// Violations of one invariant that are shown in full; the file has them all.
const SHOWN: usize = 3;
/// Lines of evidence shown with each.
const EVIDENCE: usize = 8;

/// Writes the verdict into a run's folder.
pub(crate) fn write(folder: &Path, verdict: &Verdict) -> anyhow::Result<()> {
    let path = folder.join("verdict.json");
    std::fs::write(&path, serde_json::to_vec_pretty(verdict)?).with_context(|| path.display().to_string())
}

/// As a table and a list.
pub(crate) fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    render(verdict, &mut text).expect("strings take everything");
    text
}

fn render(verdict: &Verdict, out: &mut String) -> fmt::Result {
    for (name, count) in &verdict.counts {
        writeln!(out, "{name:<44}{count:>10}")?;
    }
    let mut by_invariant: BTreeMap<Invariant, Vec<_>> = BTreeMap::new();
    for violation in &verdict.violations {
        by_invariant.entry(violation.invariant).or_default().push(violation);
    }
    for (invariant, violations) in &by_invariant {
        writeln!(out, "\n{invariant}: {} violations", violations.len())?;
        for violation in violations.iter().take(SHOWN) {
            writeln!(out, "  {}", violation.what)?;
            for line in violation.evidence.iter().take(EVIDENCE) {
                writeln!(out, "    {line}")?;
            }
        }
    }
    if verdict.violations.is_empty() {
        writeln!(out, "\nno violations")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Violation;

    #[test]
    fn a_verdict_names_counts_and_violations() {
        let violation = Violation {
            invariant: Invariant::I2,
            what: "key k of torture: it stands for more than one job".to_owned(),
            evidence: vec!["op 1".to_owned()],
        };
        let verdict = Verdict { violations: vec![violation], counts: vec![("requests".to_owned(), 7)] };
        let expected = format!(
            "{:<44}{:>10}\n\nI2: 1 violations\n  key k of torture: it stands for more than one job\n    op 1\n",
            "requests", 7
        );
        assert_eq!(text(&verdict), expected);
        assert!(text(&Verdict::default()).ends_with("no violations\n"));
    }
}
