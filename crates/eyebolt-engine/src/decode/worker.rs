//! The decoder process: takes one picture after the other from the server that started it.
//!
//! It may not take more memory than it was told, leaves no core dump, ends when the server ends, and leaves it to
//! the server to react to a terminal's or a supervisor's signals.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::channel::{self, Job, Ready, Terms};
use super::shared::SharedMap;
use super::{DecodePlan, decode_into};
use crate::ImageError;
use crate::probe::Header;

/// Address space that libraries, stacks and the allocator take besides the memory for decoding.
const SLACK_BYTES: u64 = 64 << 20;

/// The life of a decoder process, for the `main` of an executable that a [`super::pool::DecodePool`] starts.
///
/// Standard input is the socket to the server, standard output the shared memory. Ends when the server does.
pub fn decode_worker_main() -> ExitCode {
    serve(decode_into)
}

/// The same with another way to decode; tests put one that fails here.
pub fn serve(decode: impl Fn(&[u8], &Header, &DecodePlan, &mut [u8]) -> Result<(), ImageError>) -> ExitCode {
    match run(&decode) {
        // The server is gone or wants no more.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decode worker: {error}");
            ExitCode::FAILURE
        }
        Ok(never) => match never {},
    }
}

fn run(
    decode: &impl Fn(&[u8], &Header, &DecodePlan, &mut [u8]) -> Result<(), ImageError>,
) -> io::Result<std::convert::Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ignored))?;
    }
    let mut server = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let memory = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Whatever prints from here on must not write into the shared memory.
    rustix::stdio::dup2_stdout(io::stderr())?;
    let terms: Terms = channel::receive(&mut server)?;
    let mut map = SharedMap::new(&memory, terms.shared_bytes)?;
    limit(terms.memory_bytes)?;
    channel::send(&mut server, &Ready)?;
    loop {
        let Job { input_bytes, header, plan } = channel::receive(&mut server)?;
        let outcome = match map.parts(input_bytes, plan.pixel_bytes()) {
            Some((input, pixels)) => decode(input, &header, &plan, pixels),
            None => return Err(io::Error::other("a job that is larger than the shared memory")),
        };
        channel::send(&mut server, &outcome)?;
    }
}

/// Limits the address space to what is taken now and so much more.
fn limit(memory_bytes: u64) -> io::Result<()> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .ok_or_else(|| io::Error::other("no size in /proc/self/statm"))?;
    let now = pages * rustix::param::page_size() as u64;
    let at_most = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::As, at_most(now + memory_bytes + SLACK_BYTES))?;
    setrlimit(Resource::Core, at_most(0))?;
    Ok(())
}
