//! One decoder process, as the server sees it.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::DecodePlan;
use super::channel::{self, Job, Outcome, Ready, Terms};
use super::shared::{SharedFile, pixels_at};
use crate::probe::Header;

/// How long a process may take to come up, loading included.
const STARTUP: Duration = Duration::from_secs(30);

/// How to start a process.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) shared_bytes: u64,
    pub(super) memory_bytes: u64,
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    socket: UnixStream,
    shared: SharedFile,
}

/// Why a job has no outcome. The process is of no more use then.
#[derive(Debug)]
pub(super) enum Lost {
    TimedOut,
    Died,
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            _ => Self::Died,
        }
    }
}

impl Process {
    /// Starts a process and waits until it is ready.
    ///
    /// Its environment is empty: the server's may hold secrets. Its group is its own, so that a terminal's interrupt
    /// reaches the server alone. It is killed when the calling thread ends.
    pub(super) fn start(recipe: &Recipe) -> io::Result<Self> {
        let (mut socket, theirs) = UnixStream::pair()?;
        let shared = SharedFile::create(recipe.shared_bytes)?;
        let child = Command::new(&recipe.program)
            .args(&recipe.arguments)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(shared.handle()?))
            .spawn()?;
        let terms = Terms { shared_bytes: recipe.shared_bytes, memory_bytes: recipe.memory_bytes };
        channel::send(&mut socket, &terms)?;
        let mut process = Self { child, socket, shared };
        let Ready = channel::receive(&mut process.until(Instant::now() + STARTUP))?;
        Ok(process)
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets it decode a file, in at most so much time.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        (header, plan): (&Header, &DecodePlan),
        at_most: Duration,
    ) -> Result<Result<Vec<u8>, crate::ImageError>, Lost> {
        let deadline = Instant::now() + at_most;
        let pixel_bytes = plan.pixel_bytes();
        self.shared.write_input(bytes, pixel_bytes)?;
        let job = Job { input_bytes: bytes.len(), header: header.clone(), plan: *plan };
        channel::send(&mut self.socket, &job)?;
        let outcome: Outcome = channel::receive(&mut self.until(deadline))?;
        let answer = match outcome {
            Ok(()) => Ok(self.shared.read_pixels(bytes.len(), pixel_bytes)?),
            Err(error) => Err(error),
        };
        self.shared.release(pixels_at(bytes.len()) + pixel_bytes)?;
        Ok(answer)
    }

    /// The socket, to be read until a point in time.
    fn until(&mut self, deadline: Instant) -> Until<'_> {
        Until { socket: &mut self.socket, deadline }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a socket until a point in time, however the bytes trickle in.
struct Until<'a> {
    socket: &'a mut UnixStream,
    deadline: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        self.socket.read(buffer)
    }
}
