//! Memory shared with a decoder process: the file at its start, the pixels from the next page on.
//!
//! It is as long as the greatest job from the beginning, and takes no memory where nothing was written. The server
//! never maps it: it writes and reads it like a file, so that nothing the process does can change memory that the
//! server holds a reference to.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

/// Bytes that stay allocated between jobs: fresh pages would cost a small job more time than its copy.
const KEPT_BYTES: u64 = 4 << 20;

const PAGE: usize = 4096;

/// The server's end.
#[derive(Debug)]
pub(super) struct SharedFile {
    file: File,
    length: u64,
}

/// Where the pixels begin behind a file of so many bytes.
pub(super) fn pixels_at(input_bytes: usize) -> usize {
    input_bytes.next_multiple_of(PAGE)
}

impl SharedFile {
    pub(super) fn create(length: u64) -> io::Result<Self> {
        let memory = memfd_create("eyebolt-decode", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, length)?;
        Ok(Self { file: File::from(memory), length })
    }

    /// Another handle, for the process.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }

    /// Puts the file where the process looks for it.
    ///
    /// # Errors
    /// Where it leaves no room for its pixels.
    pub(super) fn write_input(&self, input: &[u8], pixel_bytes: usize) -> io::Result<()> {
        if (pixels_at(input.len()) + pixel_bytes) as u64 > self.length {
            return Err(io::Error::other("a job that is larger than the shared memory"));
        }
        self.file.write_all_at(input, 0)
    }

    /// Copies the pixels out.
    pub(super) fn read_pixels(&mut self, input_bytes: usize, pixel_bytes: usize) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(pixels_at(input_bytes) as u64))?;
        let mut pixels = Vec::new();
        pixels.try_reserve_exact(pixel_bytes).map_err(io::Error::other)?;
        (&self.file).take(pixel_bytes as u64).read_to_end(&mut pixels)?;
        if pixels.len() == pixel_bytes { Ok(pixels) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Gives back the memory of a big job.
    pub(super) fn release(&self, used_bytes: usize) -> io::Result<()> {
        if used_bytes as u64 > KEPT_BYTES {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.file, hole, KEPT_BYTES, self.length - KEPT_BYTES)?;
        }
        Ok(())
    }
}

/// The process's end.
pub(super) struct SharedMap {
    memory: MmapMut,
}

impl SharedMap {
    #[expect(unsafe_code, reason = "the compiler can't know what other processes do to a mapping")]
    pub(super) fn new(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if file.metadata()?.len() < length as u64 {
            return Err(io::Error::other("the shared memory is shorter than announced"));
        }
        // SAFETY: the length was compared with the file's, which the server, the only other holder, never shortens.
        // The server writes only before it sends a job and reads only after its answer, so that nobody else touches
        // the memory while a slice of it is alive here.
        let memory = unsafe { MmapOptions::new().len(length).map_mut(file)? };
        Ok(Self { memory })
    }

    /// The file and the place of the pixels, where they have room.
    pub(super) fn parts(&mut self, input_bytes: usize, pixel_bytes: usize) -> Option<(&[u8], &mut [u8])> {
        let (input, pixels) = self.memory.split_at_mut_checked(pixels_at(input_bytes))?;
        Some((input.get(..input_bytes)?, pixels.get_mut(..pixel_bytes)?))
    }
}
