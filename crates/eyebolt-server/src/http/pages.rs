use eyebolt_types::ErrorCode;

/// The page of a code, Markdown.
pub(super) fn page(code: ErrorCode) -> &'static str {
    code.row().remedy
}
