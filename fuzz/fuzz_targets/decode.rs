//! Any bytes that the header reader lets through, at full size and scaled. Small limits keep the fuzzer quick.
#![no_main]

use eyebolt_engine::decode::{decode, plan};
use eyebolt_engine::probe::probe;
use eyebolt_types::ImageLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = ImageLimits { max_pixels: 1 << 20, min_side: 1, ..ImageLimits::default() };
    let Ok(header) = probe(bytes, &limits) else { return };
    for wanted in [None, Some(1)] {
        let plan = plan(&header, wanted);
        if let Ok(picture) = decode(bytes, &header, &plan) {
            assert_eq!((picture.width, picture.height), (plan.width, plan.height));
            assert_eq!(picture.pixels.len(), plan.pixel_bytes());
        }
    }
});
