use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kind of image file, told by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ImageFormat {
    Jpeg,
    Png,
    Webp,
    Gif,
    Tiff,
    Bmp,
    Avif,
    Heic,
    Pnm,
    Qoi,
    Ico,
}

impl ImageFormat {
    /// Every format that the header reader knows. Whether a decoder is built in is another matter.
    pub const ALL: [Self; 11] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Gif,
        Self::Tiff,
        Self::Bmp,
        Self::Avif,
        Self::Heic,
        Self::Pnm,
        Self::Qoi,
        Self::Ico,
    ];

    /// The name used in answers and docs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Tiff => "tiff",
            Self::Bmp => "bmp",
            Self::Avif => "avif",
            Self::Heic => "heic",
            Self::Pnm => "pnm",
            Self::Qoi => "qoi",
            Self::Ico => "ico",
        }
    }

    /// File name extensions (lower case, no dot) that belong to the format.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Jpeg => &["jpg", "jpeg", "jpe", "jfif", "mpo"],
            Self::Png => &["png", "apng"],
            Self::Webp => &["webp"],
            Self::Gif => &["gif"],
            Self::Tiff => &["tif", "tiff"],
            Self::Bmp => &["bmp", "dib"],
            Self::Avif => &["avif", "avifs"],
            Self::Heic => &["heic", "heif", "hif"],
            Self::Pnm => &["pnm", "pbm", "pgm", "ppm", "pam"],
            Self::Qoi => &["qoi"],
            Self::Ico => &["ico", "cur"],
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the stored pixels must be turned to stand upright: the eight values of the EXIF tag `Orientation`
/// (TIFF 6.0, tag 0x0112).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Orientation {
    #[default]
    Upright = 1,
    FlipHorizontal = 2,
    Rotate180 = 3,
    FlipVertical = 4,
    /// Mirrored at the main diagonal.
    Transpose = 5,
    /// Turn 90° clockwise to stand upright.
    Rotate90 = 6,
    /// Mirrored at the other diagonal.
    Transverse = 7,
    /// Turn 270° clockwise to stand upright.
    Rotate270 = 8,
}

impl Orientation {
    /// From the EXIF value; anything outside 1–8 means upright, as in every viewer.
    pub fn from_exif(value: u16) -> Self {
        match value {
            2 => Self::FlipHorizontal,
            3 => Self::Rotate180,
            4 => Self::FlipVertical,
            5 => Self::Transpose,
            6 => Self::Rotate90,
            7 => Self::Transverse,
            8 => Self::Rotate270,
            _ => Self::Upright,
        }
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        matches!(self, Self::Transpose | Self::Rotate90 | Self::Transverse | Self::Rotate270)
    }
}

/// What an image may be at most (or at least), checked from its header before a pixel is allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImageLimits {
    /// Size of the file, bytes.
    pub max_file_bytes: u64,
    /// Width × height of one frame.
    pub max_pixels: u64,
    /// The longer side, pixels.
    pub max_side: u32,
    /// The shorter side, pixels: below it no model sees anything.
    pub min_side: u32,
    /// Longer side ÷ shorter side.
    pub max_aspect_ratio: f32,
    /// Frames of an animation or pages of a document.
    pub max_frames: u32,
    /// Width × height summed over all frames.
    pub max_animation_pixels: u64,
    /// EXIF, XMP, ICC, text and comments together, after inflation, bytes.
    pub max_metadata_bytes: u64,
    /// Time for decoding one image, seconds.
    pub max_decode_seconds: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_file_bytes: 20 << 20,
            max_pixels: 40_000_000,
            max_side: 16_384,
            min_side: 32,
            max_aspect_ratio: 20.0,
            max_frames: 300,
            max_animation_pixels: 200_000_000,
            max_metadata_bytes: 1 << 20,
            max_decode_seconds: 30,
        }
    }
}
