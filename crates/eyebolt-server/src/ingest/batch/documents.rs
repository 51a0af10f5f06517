//! Items as JSON: one a line, or the elements of the member `items` of one document.

use bytes::BytesMut;
use eyebolt_types::id::ImageId;
use serde_json::{Map, Value};

use super::{Draft, ItemImage, ItemPlace, wrong};
use crate::{
    ApiError,
    ingest::{Declared, IngestError, body::BodyReader, json, request},
};

/// Bytes of what stands before `items`.
const MAX_HEAD: usize = 64 << 10;

/// Bytes of spaces and empty lines between two items. They are passed over and held by nobody, but the body's share of the
/// budget is given back only with an item: without a bound, a body of nothing else would keep all of it from everybody.
const MAX_BLANK: u64 = 64 << 10;

/// An error, and the item that it is in.
pub(super) type Misplaced = (IngestError, Option<ItemPlace>);

/// Items line by line.
pub(super) struct Lines {
    text: Text,
    file: u64,
}

/// Items in an array.
pub(super) struct Array {
    text: Text,
    file: u64,
    next: u64,
    over: bool,
}

/// A body as far as it was read and not understood.
struct Text {
    body: BodyReader,
    unread: BytesMut,
    /// Lines that were taken out of it.
    lines: u64,
    /// Bytes of one value or line at most.
    most: u64,
    /// Bytes that were passed over since the last item.
    blank: u64,
}

impl Text {
    fn new(body: BodyReader, most: u64) -> Self {
        Self { body, unread: BytesMut::new(), lines: 0, most, blank: 0 }
    }

    /// Reads on; `false` at the end.
    async fn more(&mut self) -> Result<bool, IngestError> {
        let Some(piece) = self.body.next().await? else { return Ok(false) };
        self.unread.extend_from_slice(&piece);
        Ok(true)
    }

    fn too_long(&self, most: u64) -> Result<(), IngestError> {
        let found = self.unread.len() as u64;
        if found > most {
            return Err(IngestError::TooLarge { what: "max_item_bytes", limit: most, found });
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> BytesMut {
        let taken = self.unread.split_to(length);
        self.lines += taken.as_ref().split(|&byte| byte == b'\n').skip(1).count() as u64;
        taken
    }

    /// Passes these over.
    fn pass_over(&mut self, bytes: usize) -> Result<(), IngestError> {
        self.blank += bytes as u64;
        if self.blank > MAX_BLANK {
            let found = self.blank;
            return Err(IngestError::TooLarge { what: "max_blank_bytes", limit: MAX_BLANK, found });
        }
        Ok(())
    }

    /// The next line without its end; `None` behind the last one.
    async fn line(&mut self) -> Result<Option<BytesMut>, IngestError> {
        let mut looked = 0;
        loop {
            if let Some(end) = memchr_newline(&self.unread[looked..]) {
                let mut line = self.take(looked + end + 1);
                line.truncate(looked + end);
                return Ok(Some(line));
            }
            looked = self.unread.len();
            self.too_long(self.most)?;
            if !self.more().await? {
                let rest = self.take(looked);
                self.lines += u64::from(!rest.is_empty());
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// The next byte that is no space; `None` at the end.
    async fn peek(&mut self) -> Result<Option<u8>, IngestError> {
        loop {
            let spaces = self.unread.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            _ = self.take(spaces);
            self.pass_over(spaces)?;
            if let Some(byte) = self.unread.first() {
                return Ok(Some(*byte));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn expect(&mut self, wanted: u8) -> Result<(), IngestError> {
        let found = self.peek().await?;
        if found != Some(wanted) {
            return Err(self.broken(found));
        }
        _ = self.take(1);
        Ok(())
    }

    /// One value, as it is written. Whether it is JSON is not asked yet.
    async fn value(&mut self, most: u64) -> Result<BytesMut, IngestError> {
        if self.peek().await?.is_none() {
            return Err(self.broken(None));
        }
        let mut scan = Scan::default();
        loop {
            if let Some(end) = scan.end(&self.unread) {
                if end as u64 > most {
                    let found = end as u64;
                    return Err(IngestError::TooLarge { what: "max_item_bytes", limit: most, found });
                }
                return Ok(self.take(end));
            }
            self.too_long(most)?;
            if !self.more().await? {
                return Err(self.broken(None));
            }
        }
    }

    fn broken(&self, found: Option<u8>) -> IngestError {
        let reason = if found.is_none() { "it ends too early" } else { "this is not JSON" };
        IngestError::Json { place: String::new(), line: self.lines as usize + 1, column: 1, reason }
    }
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}

/// Looks for the end of a value in bytes that come piece by piece.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Behind the value's last byte, once it is there. `bytes`: all from its first byte on.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.get(self.at) {
            let scalar = self.depth == 0 && !self.in_string;
            if scalar && self.at > 0 && (byte.is_ascii_whitespace() || b",]}:".contains(&byte)) {
                return Some(self.at);
            }
            self.at += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(self.at);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

impl Lines {
    pub(super) fn new(body: BodyReader, (file, most): (u64, u64)) -> Self {
        Self { text: Text::new(body, most), file }
    }

    /// The next item; empty lines are passed over.
    pub(super) async fn next(&mut self) -> Result<Option<Draft>, Misplaced> {
        self.text.blank = 0;
        loop {
            let begins = ItemPlace::Line(self.text.lines + 1);
            let line = self.text.line().await.map_err(|error| (error, Some(begins)))?;
            let Some(line) = line else { return Ok(None) };
            if line.iter().all(u8::is_ascii_whitespace) {
                self.text.pass_over(line.len() + 1).map_err(|error| (error, Some(begins)))?;
                continue;
            }
            let place = ItemPlace::Line(self.text.lines);
            return draft(&line, place, self.file).map(Some).map_err(|error| (error, Some(place)));
        }
    }
}

impl Array {
    pub(super) fn new(body: BodyReader, (file, most): (u64, u64)) -> Self {
        Self { text: Text::new(body, most), file, next: 0, over: false }
    }

    /// The members before `items`.
    pub(super) async fn head(&mut self) -> Result<Map<String, Value>, IngestError> {
        let mut members = Map::new();
        self.text.expect(b'{').await?;
        loop {
            if self.text.peek().await? == Some(b'}') {
                return Err(wrong("/items", "is missing"));
            }
            let name: String = request::of_json(&self.text.value(MAX_HEAD as u64).await?)?;
            self.text.expect(b':').await?;
            if name == "items" {
                self.text.expect(b'[').await?;
                return Ok(members);
            }
            let value = self.text.value(MAX_HEAD as u64).await?;
            let value = request::of_json(&value)?;
            if members.insert(name.clone(), value).is_some() || members.len() > 100 {
                return Err(wrong(&format!("/{}", crate::problem::shown(&name)), "stands there twice"));
            }
            if self.text.peek().await? != Some(b'}') {
                self.text.expect(b',').await?;
            }
        }
    }

    /// The next element.
    pub(super) async fn next(&mut self) -> Result<Option<Draft>, Misplaced> {
        if self.over {
            return Ok(None);
        }
        self.text.blank = 0;
        let place = ItemPlace::Element(self.next);
        let value = self.element().await.map_err(|error| (error, Some(place)))?;
        let Some(value) = value else {
            self.over = true;
            return self.end().await.map(|()| None).map_err(|error| (error, None));
        };
        self.next += 1;
        draft(&value, place, self.file).map(Some).map_err(|error| (error, Some(place)))
    }

    async fn element(&mut self) -> Result<Option<BytesMut>, IngestError> {
        let found = self.text.peek().await?;
        if found == Some(b']') {
            _ = self.text.take(1);
            return Ok(None);
        }
        if self.next > 0 {
            self.text.expect(b',').await?;
        }
        self.text.value(self.text.most).await.map(Some)
    }

    /// What stands behind the items: nothing.
    async fn end(&mut self) -> Result<(), IngestError> {
        if self.text.peek().await? == Some(b',') {
            return Err(wrong(
                "/items",
                "must be the last member: what is said of all items stands before them",
            ));
        }
        self.text.expect(b'}').await?;
        match self.text.peek().await? {
            None => Ok(()),
            found => Err(self.text.broken(found)),
        }
    }
}

/// An item out of its document.
fn draft(text: &[u8], place: ItemPlace, file: u64) -> Result<Draft, IngestError> {
    let mut settings: Map<String, Value> = request::of_json(text).map_err(|error| match (error, place) {
        (IngestError::Json { place, column, reason, .. }, ItemPlace::Line(line)) => {
            IngestError::Json { place, line: line as usize, column, reason }
        }
        (error, _) => error,
    })?;
    let custom_id = settings.remove("custom_id").map(|said| text_of(said, "/custom_id")).transpose()?;
    let encoded = settings.remove("image_base64").map(|said| text_of(said, "/image_base64")).transpose()?;
    let stored = settings.remove("image_id").map(|said| text_of(said, "/image_id")).transpose()?;
    let image = match (encoded, stored) {
        (Some(_), Some(_)) => return Err(wrong("/image_id", "stands beside image_base64: send one of both")),
        (Some(encoded), None) => Some(decoded(&encoded, file)?),
        (None, Some(id)) => Some(named(&id)),
        (None, None) => None,
    };
    Ok(Draft { place, custom_id, settings, image })
}

fn text_of(said: Value, place: &str) -> Result<String, IngestError> {
    match said {
        Value::String(text) => Ok(text),
        _ => Err(wrong(place, "must be a string")),
    }
}

/// A file that is too large is this item's matter alone.
fn decoded(encoded: &str, file: u64) -> Result<ItemImage, IngestError> {
    match json::decode(encoded, file) {
        Ok(bytes) => Ok(ItemImage::File(bytes.into(), Declared::default())),
        Err(error @ IngestError::FileTooLarge { .. }) => Ok(ItemImage::Refused(Box::new(error.into()))),
        Err(error) => Err(error),
    }
}

/// What is no id names no image.
fn named(id: &str) -> ItemImage {
    id.parse::<ImageId>().map_or_else(|_| ItemImage::Refused(Box::new(no_image())), ItemImage::Stored)
}

/// The project has no such image in its mode.
pub(crate) fn no_image() -> ApiError {
    ApiError::new(eyebolt_types::ErrorCode::ImageNotFound, "There is no such image.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(text: &str) -> Option<usize> {
        Scan::default().end(text.as_bytes())
    }

    #[test]
    fn a_value_ends_where_json_says_so() {
        for value in [r#"{"a":"}","b":[1,{"c":"\"]"}]}"#, r#""a\"b""#, "[1,2]", "17", "true", "{}"] {
            assert_eq!(ends(&format!("{value},{{}}")), Some(value.len()), "{value}");
        }
        for open in ["{", r#""a"#, "17", r#"{"a":"\"#, "[[]"] {
            assert_eq!(ends(open), None, "{open}");
        }
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(text in r#"[\{\}\[\]",:\\ a1]{0,40}"#, cut in 0usize..40) {
            let whole = Scan::default().end(text.as_bytes());
            let mut scan = Scan::default();
            let first = scan.end(&text.as_bytes()[..cut.min(text.len())]);
            prop_assert_eq!(first.or_else(|| scan.end(text.as_bytes())), whole);
        }
    }
}
