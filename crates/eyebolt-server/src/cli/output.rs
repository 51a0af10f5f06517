//! Standard output, whose reader may have had enough: `eyebolt openapi | head -1`.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use anyhow::Context;
use thiserror::Error;

/// Nobody reads any more. Whoever did has what they wanted, so the command ends, and did not fail.
#[derive(Debug, Error)]
#[error("nobody reads the output any more")]
pub(super) struct NobodyReads;

/// Writes a line.
pub(super) fn line(text: impl Display) -> anyhow::Result<()> {
    written(writeln!(io::stdout(), "{text}"))
}

/// Writes lines that have their ends already.
pub(super) fn lines(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    written(io::stdout().write_all(bytes))
}

fn written(done: io::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        done => done.context("standard output can't be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        let closed = written(Err(ErrorKind::BrokenPipe.into())).context("in the middle").unwrap_err();
        assert!(closed.is::<NobodyReads>());
        let full = written(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(!full.is::<NobodyReads>() && format!("{full:#}").contains("can't be written: "), "{full:#}");
    }
}
