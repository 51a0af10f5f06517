//! Server-sent events, as a client reads them (WHATWG HTML, section 9.2): blocks of fields, each ended by an empty line.

/// One block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Frame {
    /// Its place.
    pub(super) id: Option<String>,
    /// Its lines of data, joined; empty where there is none.
    pub(super) data: String,
}

/// A stream, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: Vec<u8>,
    open: Frame,
}

impl Frames {
    /// Takes more bytes; gives the blocks that ended in them. What has no end yet counts for nothing.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.rest.extend_from_slice(bytes);
        let mut ended = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            if line.is_empty() {
                ended.push(std::mem::take(&mut self.open));
            } else {
                self.open.field(&line);
            }
        }
        ended
    }
}

impl Frame {
    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_wherever_they_are_cut_and_half_a_block_is_none() {
        let stream = "retry: 1000\nid: 41\n\n: still here\n\nid: 42\nevent: job.succeeded\ndata: {\"a\":\ndata: 1}\n\nid: 43\n";
        let frame = |id: &str, data: &str| Frame { id: Some(id.to_owned()), data: data.to_owned() };
        let wanted = vec![frame("41", ""), Frame::default(), frame("42", "{\"a\":\n1}")];
        for size in 1..stream.len() {
            let mut frames = Frames::default();
            let read: Vec<_> = stream.as_bytes().chunks(size).flat_map(|piece| frames.take(piece)).collect();
            assert_eq!(read, wanted, "in pieces of {size}");
        }
    }
}
