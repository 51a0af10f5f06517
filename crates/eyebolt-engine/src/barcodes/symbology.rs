use eyebolt_types::request::BarcodeParameters;

use crate::EngineError;

/// Name in answers, and the names that requests may use beside it. Flattened: upper case, no separators.
struct Symbology {
    name: &'static str,
    also: &'static [&'static str],
}

#[cfg(feature = "zxing")]
const fn named(name: &'static str) -> Symbology {
    Symbology { name, also: &[] }
}

const fn aliased(name: &'static str, also: &'static [&'static str]) -> Symbology {
    Symbology { name, also }
}

/// What zxing-cpp reads.
#[cfg(feature = "zxing")]
const SYMBOLOGIES: &[Symbology] = &[
    aliased("Aztec", &["AZTECCODE"]),
    named("AztecRune"),
    named("Codabar"),
    named("Code39"),
    named("Code93"),
    named("Code128"),
    named("CompactPDF417"),
    aliased("DataBar", &["DATABAROMNI", "RSS14"]),
    aliased("DataBarExpanded", &["DATABAREXP", "RSSEXPANDED"]),
    aliased("DataBarExpandedStacked", &["DATABAREXPSTK"]),
    aliased("DataBarLimited", &["DATABARLTD"]),
    aliased("DataBarStacked", &["DATABARSTK", "DATABARSTKOMNI"]),
    named("DataMatrix"),
    named("DXFilmEdge"),
    named("EAN8"),
    named("EAN13"),
    aliased("ITF", &["ITF14", "INTERLEAVED2OF5"]),
    named("MaxiCode"),
    named("MicroPDF417"),
    aliased("MicroQRCode", &["MICROQR"]),
    named("PDF417"),
    aliased("QRCode", &["QR", "QRCODEMODEL1", "QRCODEMODEL2"]),
    aliased("RMQRCode", &["RMQR"]),
    named("Telepen"),
    named("UPCA"),
    named("UPCE"),
];

/// What rqrr reads.
#[cfg(not(feature = "zxing"))]
const SYMBOLOGIES: &[Symbology] = &[aliased("QRCode", &["QR"])];

/// The names of the symbologies that this build reads, in alphabetical order.
pub fn formats() -> Vec<&'static str> {
    SYMBOLOGIES.iter().map(|symbology| symbology.name).collect()
}

/// The symbologies that are asked for; None: all.
///
/// Names are taken in any case, with or without `-`, `_`, `/` and spaces.
pub(super) fn wanted(parameters: &BarcodeParameters) -> Result<Option<Vec<&'static str>>, EngineError> {
    let Some(names) = &parameters.formats else { return Ok(None) };
    let found = names.iter().enumerate().map(|(index, name)| {
        let flat = flattened(name);
        let known = SYMBOLOGIES.iter().find(|s| flattened(s.name) == flat || s.also.contains(&flat.as_str()));
        known.map(|symbology| symbology.name).ok_or_else(|| unknown(index))
    });
    found.collect::<Result<_, _>>().map(Some)
}

fn flattened(name: &str) -> String {
    let letters = name.chars().filter(|letter| !matches!(letter, '-' | '_' | '/' | ' '));
    letters.map(|letter| letter.to_ascii_uppercase()).collect()
}

fn unknown(index: usize) -> EngineError {
    EngineError::InvalidParameter {
        pointer: format!("/parameters/barcodes/formats/{index}"),
        reason: format!("names no symbology; known are {}", formats().join(", ")),
    }
}
