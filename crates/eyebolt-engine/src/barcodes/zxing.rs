use zxingcpp::{Barcode, BarcodeFormat as Format, BarcodeReader, ContentType, ImageView, PointI, TextMode};

use super::{Found, Scan};

/// The reader's name and the version of its crate.
pub(super) const MODEL: &str = "zxing-cpp@0.5.3";

/// Reads a view. A view that the library can't take has no codes.
pub(super) fn scan(scan: &Scan<'_>) -> Vec<Found> {
    let Ok(view) = ImageView::from_slice(scan.luma, scan.width, scan.height, zxingcpp::ImageFormat::Lum)
    else {
        return Vec::new();
    };
    let mut reader = BarcodeReader::new()
        .try_harder(true)
        .try_rotate(true)
        .try_invert(true)
        .try_downscale(true)
        .text_mode(TextMode::Plain)
        .max_number_of_symbols(i32::from(u8::MAX));
    if let Some(wanted) = scan.wanted {
        reader.set_formats(wanted.iter().flat_map(|name| formats_of(name)).copied().collect::<Vec<_>>());
    }
    let codes = reader.from(&view).unwrap_or_default();
    codes.iter().filter(|code| code.is_valid()).map(found).collect()
}

fn found(code: &Barcode) -> Found {
    let content = code.content_type();
    let bytes = code.bytes();
    let position = code.position();
    let corners = [position.top_left, position.top_right, position.bottom_right, position.bottom_left];
    Found {
        format: name_of(code),
        text: text_of(code, &bytes),
        bytes,
        content: match content {
            ContentType::Text => "text",
            ContentType::Binary | ContentType::UnknownECI => "binary",
            ContentType::Mixed => "mixed",
            ContentType::GS1 => "gs1",
            ContentType::ISO15434 => "iso15434",
        },
        polygon: corners.map(|PointI { x, y }| [x as f32, y as f32]),
    }
}

/// The text in the code's own character set, or what of its bytes is no text as `\xNN`.
fn text_of(code: &Barcode, bytes: &[u8]) -> String {
    let is_binary = matches!(code.content_type(), ContentType::Binary | ContentType::UnknownECI);
    // The library hands text over as a C string, which ends at the first NUL.
    if is_binary || bytes.contains(&0) { super::escaped(bytes) } else { code.text() }
}

fn name_of(code: &Barcode) -> &'static str {
    // `format` of these has values that the crate's enum lacks, and which it must never be made of.
    match code.symbology() {
        Format::Code39 => return "Code39",
        Format::ITF => return "ITF",
        _ => {}
    }
    let format = code.format();
    let known = NAMES.iter().find(|(_, formats)| formats.contains(&format));
    known.map_or("Other", |(name, _)| name)
}

fn formats_of(name: &str) -> &'static [Format] {
    NAMES.iter().find(|&&(known, _)| known == name).map_or(&[], |(_, formats)| formats)
}

/// What the library calls the symbologies of [`super::formats`].
const NAMES: &[(&str, &[Format])] = &[
    ("Aztec", &[Format::AztecCode, Format::Aztec]),
    ("AztecRune", &[Format::AztecRune]),
    ("Codabar", &[Format::Codabar]),
    ("Code39", &[Format::Code39]),
    ("Code93", &[Format::Code93]),
    ("Code128", &[Format::Code128]),
    ("CompactPDF417", &[Format::CompactPDF417]),
    ("DataBar", &[Format::DataBarOmni, Format::DataBar]),
    ("DataBarExpanded", &[Format::DataBarExp]),
    ("DataBarExpandedStacked", &[Format::DataBarExpStk]),
    ("DataBarLimited", &[Format::DataBarLtd]),
    ("DataBarStacked", &[Format::DataBarStk, Format::DataBarStkOmni]),
    ("DataMatrix", &[Format::DataMatrix]),
    ("DXFilmEdge", &[Format::DXFilmEdge]),
    ("EAN8", &[Format::EAN8]),
    ("EAN13", &[Format::EAN13, Format::ISBN]),
    ("ITF", &[Format::ITF]),
    ("MaxiCode", &[Format::MaxiCode]),
    ("MicroPDF417", &[Format::MicroPDF417]),
    ("MicroQRCode", &[Format::MicroQRCode]),
    ("PDF417", &[Format::PDF417]),
    ("QRCode", &[Format::QRCodeModel2, Format::QRCodeModel1, Format::QRCode]),
    ("RMQRCode", &[Format::RMQRCode]),
    ("Telepen", &[Format::Telepen, Format::TelepenAlpha, Format::TelepenNumeric]),
    ("UPCA", &[Format::UPCA]),
    ("UPCE", &[Format::UPCE]),
];
