//! The command line: what it prints, and how it ends.

use std::process::{Command, Stdio};

use crate::{app::TestApp, place::program};

/// Runs a command whose output nobody reads.
async fn unread(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped());
    let output =
        tokio::task::spawn_blocking(move || command.spawn().expect("the program").wait_with_output());
    let output = output.await.expect("no panic").expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_command_whose_reader_has_enough_ends_in_peace() {
    let app = TestApp::start().await;
    let folder = app.folder.path();
    for line in
        ["openapi", "check-config", "project list", "project list --json", "key list acme", "audit --json"]
    {
        let arguments: Vec<_> = line.split(' ').collect();
        assert_eq!(unread(program(folder, &arguments)).await, (Some(0), String::new()), "{line}");
    }
}
