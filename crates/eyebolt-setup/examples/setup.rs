//! Runs a setup by hand: `cargo run -p eyebolt-setup --example setup -- --models-dir DIR [--from DIR] [NAME…]`.

use std::process::ExitCode;

use eyebolt_setup::{Options, ProgressDisplay, setup};

fn main() -> ExitCode {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--models-dir" => options.models_dir = arguments.next().unwrap_or_default().into(),
            "--from" => options.from = arguments.next().map(Into::into),
            _ => options.only.push(argument),
        }
    }
    let mut display = ProgressDisplay::new();
    let result = setup(&options, &mut |step| display.show(step));
    display.finish();
    match result {
        Ok(summary) => {
            println!("{summary:#?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
