use flate2::{Decompress, FlushDecompress, Status};

/// How many bytes a zlib stream inflates to, counted up to `limit`. Nothing is kept; a broken stream counts as far
/// as it goes.
pub(crate) fn inflated_length(compressed: &[u8], limit: u64) -> u64 {
    let mut inflate = Decompress::new(true);
    let mut scratch = [0; 8 << 10];
    while inflate.total_out() < limit {
        let before = (inflate.total_in(), inflate.total_out());
        let input = &compressed[before.0 as usize..];
        match inflate.decompress(input, &mut scratch, FlushDecompress::None) {
            Ok(Status::Ok) if (inflate.total_in(), inflate.total_out()) != before => {}
            _ => break,
        }
    }
    inflate.total_out().min(limit)
}
