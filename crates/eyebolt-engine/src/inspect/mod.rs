//! What a file carries beside its picture: other natures, script, signatures of malware, trailers.
//!
//! Metadata may hold markup, since nothing here ever serves it; what is refused is a file that some program would
//! run or unpack, and comments that are themselves a document.

mod foreign;
mod inflate;
mod malware;
mod markup;
mod polyglot;
mod trailer;

pub(crate) use foreign::foreign_kind;
pub(crate) use inflate::inflated_length;
pub(crate) use malware::refuse_malware;
pub(crate) use markup::{Part, refuse_active_part};
pub(crate) use polyglot::{closes_comment, opens_comment, refuse_second_nature};
pub(crate) use trailer::{is_media, refuse_active_trailer, without_padding};
