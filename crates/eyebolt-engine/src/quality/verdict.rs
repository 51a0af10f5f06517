use eyebolt_types::{
    ErrorCode,
    result::{QualityVerdict, Verdict},
};

use super::Measures;

/// Where a measure stops passing, and where it fails; the reasons stand in `docs/quality-gate.md`.
#[derive(Clone, Copy)]
enum Bound {
    /// Below `warn` is doubtful, below `fail` is garbage.
    AtLeast { warn: f32, fail: f32 },
    /// Above `warn` is doubtful, above `fail` is garbage.
    AtMost { warn: f32, fail: f32 },
}

/// The shorter side. No model sees anything below 32 pixels, the default of `min_side`.
const RESOLUTION: Bound = Bound::AtLeast { warn: 128.0, fail: 32.0 };
/// Below 0.58 no detail is left that is finer than a sixtieth of the frame.
const SHARPNESS: Bound = Bound::AtLeast { warn: 0.8, fail: 0.58 };
/// Light of the brightest pixels: below 40 there are only shadows.
const HIGHLIGHTS: Bound = Bound::AtLeast { warn: 80.0, fail: 40.0 };
/// Light of the darkest pixels: above 175 all is washed out, as no ink on paper is.
const SHADOWS: Bound = Bound::AtMost { warn: 130.0, fail: 175.0 };
/// Range of light or of a colour: below 16 nothing can be told apart.
const CONTRAST: Bound = Bound::AtLeast { warn: 64.0, fail: 16.0 };
/// Share that is no background: less than 3 in 10 000 is dust on a blank page.
const CONTENT: Bound = Bound::AtLeast { warn: 0.003, fail: 0.0003 };
/// Deviation: above 24 the picture drowns.
const NOISE: Bound = Bound::AtMost { warn: 8.0, fail: 24.0 };
/// Steps at borders of JPEG blocks. Never fails: drawings of square cells look the same.
const BLOCKINESS: Bound = Bound::AtMost { warn: 3.0, fail: f32::INFINITY };

/// Pictures whose shorter side is smaller are icons, swatches and thumbnails: made so, and cheap. They are refused
/// for nothing but their size.
const JUDGED_SIDE: u32 = 128;
/// A picture with fewer mid-tones is line art or a code, whose pixels jump like noise and stand in squares like
/// JPEG blocks.
const LINE_ART: f32 = 0.2;

impl Bound {
    /// What a value is worth, and the limit that says so: the one it broke, or the one it keeps.
    fn judge(self, value: f32) -> (Verdict, f32) {
        let (fails, warns, fail, warn) = match self {
            Self::AtLeast { warn, fail } => (value < fail, value < warn, fail, warn),
            Self::AtMost { warn, fail } => (value > fail, value > warn, fail, warn),
        };
        match (fails, warns) {
            (true, _) => (Verdict::Fail, fail),
            (_, true) => (Verdict::Warn, warn),
            _ => (Verdict::Pass, warn),
        }
    }
}

/// One verdict for each measure that could be taken: `content`, `brightness`, `contrast`, `sharpness`, `noise`,
/// `resolution`, `compression`.
///
/// `limit` is the limit that the value broke (the harder one where it broke both), or that it keeps. Brightness is
/// held against its darker or its brighter limit, whichever is nearer to being broken: then `value` is the light of
/// the brightest or the darkest pixels.
pub fn judge(measures: &Measures) -> Vec<QualityVerdict> {
    let drawn = measures.midtones < LINE_ART;
    let photographic = |value: Option<f32>| value.filter(|_| !drawn);
    let (light, lightness, light_code) = brightness(measures);
    let rows = [
        ("content", Some(measures.content), CONTENT, "share of pixels", ErrorCode::BlankImage),
        ("brightness", Some(light), lightness, "luma 0–255", light_code),
        ("contrast", Some(measures.contrast), CONTRAST, "levels 0–255", ErrorCode::LowContrast),
        ("sharpness", measures.sharpness, SHARPNESS, "ratio", ErrorCode::TooBlurry),
        ("noise", photographic(measures.noise), NOISE, "levels 0–255", ErrorCode::TooNoisy),
        ("resolution", Some(measures.short_side as f32), RESOLUTION, "pixels", ErrorCode::ImageTooSmall),
        ("compression", photographic(measures.blockiness), BLOCKINESS, "ratio", ErrorCode::LowQuality),
    ];
    let judged = rows.into_iter().filter_map(|(measure, value, bound, unit, code)| {
        let value = value?;
        let (mut verdict, limit) = bound.judge(value);
        if verdict == Verdict::Fail && measures.short_side < JUDGED_SIDE && code != ErrorCode::ImageTooSmall {
            verdict = Verdict::Warn;
        }
        let code = (verdict == Verdict::Fail).then(|| code.as_str().to_owned());
        Some(QualityVerdict { measure: measure.into(), value, limit, unit: unit.into(), verdict, code })
    });
    judged.collect()
}

/// The end of the scale that is worse; the dark one where both are well.
fn brightness(measures: &Measures) -> (f32, Bound, ErrorCode) {
    let (dark, bright) = (HIGHLIGHTS.judge(measures.brightest).0, SHADOWS.judge(measures.darkest).0);
    if bright > dark {
        (measures.darkest, SHADOWS, ErrorCode::TooBright)
    } else {
        (measures.brightest, HIGHLIGHTS, ErrorCode::TooDark)
    }
}

/// The codes that the gate refuses the picture with, in the order of [`judge`]; none: it is taken.
pub fn refusals(measures: &Measures) -> Vec<ErrorCode> {
    let failed = judge(measures).into_iter().filter_map(|verdict| verdict.code);
    failed.filter_map(|name| ErrorCode::ALL.iter().copied().find(|code| code.as_str() == name)).collect()
}
