use eyebolt_types::ImageFormat;

use crate::ImageError;

/// The error for a file that contradicts its format.
pub(crate) fn corrupt(format: ImageFormat, what: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format, what: what.into() }
}

/// A place in a file. Every step is checked; stepping over the end means that the file was cut off.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    format: ImageFormat,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], format: ImageFormat) -> Self {
        Self { bytes, at: 0, format }
    }

    /// The same file from another place on, which may lie behind the end.
    pub(super) fn at(bytes: &'a [u8], at: u64, format: ImageFormat) -> Self {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        Self { bytes, at, format }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> ImageError {
        corrupt(self.format, what)
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], ImageError> {
        if count > self.left() as u64 {
            return Err(self.corrupt(format!(
                "cut off at byte {}: {count} more bytes are announced, {} are there",
                self.at,
                self.left()
            )));
        }
        let taken = &self.bytes[self.at..self.at + count as usize];
        self.at += count as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ImageError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn be16(&mut self) -> Result<u16, ImageError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn be32(&mut self) -> Result<u32, ImageError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn le16(&mut self) -> Result<u16, ImageError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A 24-bit number, low byte first.
    pub(super) fn le24(&mut self) -> Result<u32, ImageError> {
        self.array::<3>().map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))
    }

    pub(super) fn le32(&mut self) -> Result<u32, ImageError> {
        self.array().map(u32::from_le_bytes)
    }
}
