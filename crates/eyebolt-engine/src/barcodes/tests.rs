use super::*;

fn parameters(formats: &[&str]) -> BarcodeParameters {
    BarcodeParameters {
        formats: Some(formats.iter().map(|&name| name.to_owned()).collect()),
        max_results: None,
    }
}

/// Two codes below each other on white, as the library itself writes them.
#[cfg(feature = "zxing")]
fn two_codes() -> Picture {
    let codes =
        [("EYEBOLT", zxingcpp::BarcodeFormat::QRCode), ("4006381333931", zxingcpp::BarcodeFormat::EAN13)];
    let (width, height) = (600usize, 900usize);
    let mut pixels = vec![255; width * height * 3];
    for (index, (text, format)) in codes.into_iter().enumerate() {
        let code = zxingcpp::create(format).from_str(text).unwrap();
        let image = code.to_image_with(&zxingcpp::write().scale(4)).unwrap();
        let columns = image.width() as usize;
        for (place, value) in image.data().iter().enumerate() {
            let (x, y) = (100 + place % columns, 80 + index * 420 + place / columns);
            if x < width && y < height {
                pixels[(y * width + x) * 3..][..3].fill(*value);
            }
        }
    }
    Picture::full(width as u32, height as u32, pixels)
}

#[cfg(feature = "zxing")]
#[test]
fn several_codes_are_read_from_top_to_bottom() {
    let read = read(&two_codes(), &BarcodeParameters::default()).unwrap();
    let said: Vec<_> = read.iter().map(|code| (code.format.as_str(), code.text.as_str())).collect();
    assert_eq!(said, [("QRCode", "EYEBOLT"), ("EAN13", "4006381333931")]);
    let [left, top] = read[0].polygon[0];
    assert!((90.0..160.0).contains(&left) && (70.0..140.0).contains(&top), "{:?}", read[0].polygon);
    assert!(read[0].bounds.width > 60.0);
}

#[cfg(feature = "zxing")]
#[test]
fn only_the_symbologies_asked_for_and_no_more_than_asked_for() {
    let only = read(&two_codes(), &parameters(&["ean-13"])).unwrap();
    assert_eq!(only.iter().map(|code| code.format.as_str()).collect::<Vec<_>>(), ["EAN13"]);
    let one = BarcodeParameters { formats: None, max_results: Some(1) };
    assert_eq!(read(&two_codes(), &one).unwrap().len(), 1);
}

#[test]
fn an_unknown_symbology_is_named_by_its_place() {
    let error = check(&parameters(&["QR_Code", "Morse"])).unwrap_err();
    let EngineError::InvalidParameter { pointer, reason } = error else { panic!("{error}") };
    assert_eq!(pointer, "/parameters/barcodes/formats/1");
    assert!(reason.contains("QRCode") && !reason.contains("Morse"), "{reason}");
}

#[test]
fn bytes_that_are_no_text_are_shown_as_numbers() {
    assert_eq!(escaped(b"a\xFFb\xC3\xA9"), "a\\xFFb\u{e9}");
}

#[test]
fn a_mirrored_polygon_is_turned_and_keeps_its_first_corner() {
    let straight = [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]];
    let [a, b, c, d] = straight;
    assert_eq!(clockwise(straight), straight);
    assert_eq!(clockwise([a, d, c, b]), straight);
}
