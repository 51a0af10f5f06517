//! Messages between the server and a decoder process: a length of four bytes, then JSON. Pixels go another way.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::DecodePlan;
use crate::ImageError;
use crate::probe::Header;

/// No message comes near; a process that has lost its mind must not make the other one allocate.
const MAX_MESSAGE: usize = 64 << 10;

/// The server's first message: under which limits to work.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Bytes of the shared memory.
    pub(super) shared_bytes: u64,
    /// Bytes that decoding may take besides.
    pub(super) memory_bytes: u64,
}

/// The process's first message: it is ready for jobs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready;

/// One picture to decode. The file stands at the start of the shared memory, the pixels go to [`super::shared`]'s
/// place behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) input_bytes: usize,
    pub(super) header: Header,
    pub(super) plan: DecodePlan,
}

/// How it went.
pub(super) type Outcome = Result<(), ImageError>;

pub(super) fn send<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)
}

pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    serde_json::from_slice(&frame).map_err(io::Error::other)
}
