use eyebolt_types::ImageFormat;

/// What the client says the file is: only words from our own lists, nothing of the client's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The file name's extension: 1 to 8 of a–z and 0–9, without the dot.
    pub extension: Option<String>,
    /// The part's media type, where it is a known one.
    pub media_type: Option<&'static str>,
}

/// Media types worth comparing with the content. `application/octet-stream` says nothing and is left out.
const MEDIA_TYPES: [&str; 22] = [
    "image/jpeg",
    "image/png",
    "image/apng",
    "image/webp",
    "image/gif",
    "image/tiff",
    "image/bmp",
    "image/x-ms-bmp",
    "image/avif",
    "image/heic",
    "image/heif",
    "image/x-portable-anymap",
    "image/x-portable-bitmap",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "image/qoi",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "image/svg+xml",
    "application/pdf",
    "application/zip",
    "text/html",
];

impl Declared {
    /// From a part's file name and media type, both as hostile as may be.
    pub(crate) fn of(file_name: Option<&str>, media_type: Option<&str>) -> Self {
        Self {
            extension: file_name.and_then(extension_of),
            media_type: media_type.and_then(|found| {
                MEDIA_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(found.trim()))
            }),
        }
    }

    /// The extension or media type that belongs to another kind of file than the content, where there is one.
    pub fn contradicts(&self, found: ImageFormat) -> Option<&str> {
        let other =
            |name: &str| ImageFormat::ALL.into_iter().any(|format| format.extensions().contains(&name));
        let foreign =
            |name: &&str| ["pdf", "svg", "html", "htm", "zip", "exe", "php", "js", "txt"].contains(name);
        let extension = self.extension.as_deref().filter(|name| !found.extensions().contains(name));
        let extension = extension.filter(|name| other(name) || foreign(name));
        extension.or_else(|| self.media_type.filter(|media_type| !media_types(found).contains(media_type)))
    }
}

fn media_types(format: ImageFormat) -> &'static [&'static str] {
    match format {
        ImageFormat::Jpeg => &["image/jpeg"],
        ImageFormat::Png => &["image/png", "image/apng"],
        ImageFormat::Webp => &["image/webp"],
        ImageFormat::Gif => &["image/gif"],
        ImageFormat::Tiff => &["image/tiff"],
        ImageFormat::Bmp => &["image/bmp", "image/x-ms-bmp"],
        ImageFormat::Avif => &["image/avif"],
        ImageFormat::Heic => &["image/heic", "image/heif"],
        ImageFormat::Pnm => &[
            "image/x-portable-anymap",
            "image/x-portable-bitmap",
            "image/x-portable-graymap",
            "image/x-portable-pixmap",
        ],
        ImageFormat::Qoi => &["image/qoi"],
        ImageFormat::Ico => &["image/x-icon", "image/vnd.microsoft.icon"],
    }
}

fn extension_of(file_name: &str) -> Option<String> {
    let (_, extension) = file_name.rsplit_once('.')?;
    let sound =
        (1..=8).contains(&extension.len()) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    sound.then(|| extension.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kind_of_name_or_type_contradicts_the_content() {
        let said = |name, media_type| Declared::of(name, media_type);
        assert_eq!(said(Some("a.jpeg"), Some("image/jpeg")).contradicts(ImageFormat::Jpeg), None);
        assert_eq!(said(Some("a.png"), None).contradicts(ImageFormat::Jpeg), Some("png"));
        assert_eq!(said(Some("a.data"), None).contradicts(ImageFormat::Jpeg), None);
        assert_eq!(said(None, Some("text/html")).contradicts(ImageFormat::Png), Some("text/html"));
    }

    #[test]
    fn only_a_plain_extension_and_a_known_media_type_are_kept() {
        let extension = |name| Declared::of(Some(name), None).extension;
        assert_eq!(extension("photo.JPG").as_deref(), Some("jpg"));
        assert_eq!(extension("photo.php.jpg").as_deref(), Some("jpg"));
        for hostile in
            ["", ".", "..", "CON", "trailing. ", "a.b/c", "a.jp\0g", "x.<script>", "a.ninechars", "a.é"]
        {
            assert_eq!(extension(hostile), None, "{hostile:?}");
        }
        let media_type = |found| Declared::of(None, Some(found)).media_type;
        assert_eq!(media_type(" Image/PNG "), Some("image/png"));
        assert_eq!(media_type("image/png\r\nX: y"), None);
        assert_eq!(media_type("application/octet-stream"), None);
    }
}
