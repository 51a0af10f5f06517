//! `eyebolt`: the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    eyebolt_server::cli::main()
}
