use std::fmt;

/// Decoded pixels: upright, 8-bit RGB, rows without padding.
///
/// A JPEG may have been decoded at a fraction of its size; `width` and `height` then differ from `full_width` and
/// `full_height`, and findings are scaled back by [`Picture::scale_x`] and [`Picture::scale_y`].
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width of `pixels`.
    pub width: u32,
    /// Height of `pixels`.
    pub height: u32,
    /// Width of the upright image as the file has it.
    pub full_width: u32,
    /// Height of the upright image as the file has it.
    pub full_height: u32,
    /// `width × height × 3` bytes, R G B.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A picture at full size.
    ///
    /// # Panics
    /// Where `pixels` is not `width × height × 3` bytes long.
    pub fn full(width: u32, height: u32, pixels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), width as usize * height as usize * 3, "pixels fit the size");
        Self { width, height, full_width: width, full_height: height, pixels }
    }

    /// Pixels of the file for one pixel here, horizontally; 1 at full size.
    pub fn scale_x(&self) -> f32 {
        self.full_width as f32 / self.width as f32
    }

    /// Pixels of the file for one pixel here, vertically; 1 at full size.
    pub fn scale_y(&self) -> f32 {
        self.full_height as f32 / self.height as f32
    }

    /// Whether every pixel of the file is here.
    pub fn is_full(&self) -> bool {
        (self.width, self.height) == (self.full_width, self.full_height)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture {}×{} of {}×{}", self.width, self.height, self.full_width, self.full_height)
    }
}
