//! Any bytes: the header reader answers, and what it lets through keeps to the limits.
#![no_main]

use eyebolt_engine::probe::probe;
use eyebolt_types::ImageLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = ImageLimits::default();
    if let Ok(header) = probe(bytes, &limits) {
        assert!(header.pixels() <= limits.max_pixels);
        assert!(header.width.max(header.height) <= limits.max_side);
        assert!(header.width.min(header.height) >= limits.min_side);
        assert!(header.frames <= limits.max_frames);
        assert!(header.metadata_bytes <= limits.max_metadata_bytes);
    }
});
