//! Makes the files of a source from the files of archives.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    catalogue::{Member, Origin, Recipe, SourceFile},
    convert::{self, ConvertError},
    digest::sha256,
};

/// The content of a file, held to its pinned digest. `members` are all members of its source. The error is a
/// sentence part.
pub(crate) fn make<'a>(
    file: &'a SourceFile,
    members: &'a HashMap<&Member, Vec<u8>>,
) -> Result<Cow<'a, [u8]>, String> {
    let content = match &file.origin {
        Origin::Text(text) => Cow::Borrowed(text.as_bytes()),
        Origin::Members { recipe, members: wanted } => {
            let parts: Option<Vec<Cow<'_, [u8]>>> =
                wanted.iter().map(|member| members.get(member).map(Cow::from)).collect();
            let parts = parts.ok_or("a member was not unpacked")?;
            cook(*recipe, parts).map_err(|error| error.to_string())?
        }
    };
    let found = sha256(&content);
    if found != file.sha256 {
        return Err(format!("the result has the sha256 {found} instead of {}", file.sha256));
    }
    Ok(content)
}

fn cook(recipe: Recipe, mut parts: Vec<Cow<'_, [u8]>>) -> Result<Cow<'_, [u8]>, ConvertError> {
    if recipe == Recipe::Join {
        return Ok(if parts.len() == 1 { parts.remove(0) } else { Cow::Owned(parts.concat()) });
    }
    let Some((first, rest)) = parts.split_first() else {
        return Err(ConvertError("it is made of nothing".to_owned()));
    };
    let made = match recipe {
        Recipe::Join => unreachable!("returned above"),
        Recipe::DynamicShapes => convert::dynamic_shapes(first),
        Recipe::EfficientnetLite0 => convert::efficientnet_lite0(first),
        Recipe::SsdGraph => convert::ssd_graph(first, rest),
        Recipe::SsdAnchors => convert::ssd_anchors(first, rest),
        Recipe::CharacterLines => convert::character_lines(first),
        Recipe::LabelLines => convert::label_lines(first),
    };
    made.map(Cow::Owned)
}
