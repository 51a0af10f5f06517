use eyebolt_types::Orientation;

/// The orientation in an EXIF block that begins with its TIFF header; upright where there is none to be had.
///
/// EXIF 2.32, 4.6.4 A (tag 0x0112). A broken block is no reason to refuse a picture.
pub(super) fn orientation(tiff: &[u8]) -> Orientation {
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let exif = match reader.read_raw(tiff.to_vec()) {
        Ok(exif) => exif,
        Err(exif::Error::PartialResult(partial)) => partial.into_inner().0,
        Err(_) => return Orientation::Upright,
    };
    exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)
        .and_then(|field| field.value.get_uint(0))
        .and_then(|value| u16::try_from(value).ok())
        .map_or(Orientation::Upright, Orientation::from_exif)
}
