//! Reader of PyTorch weight files in the format before 1.6 (not a zip): three pickles with mark, version and
//! machine, one with the dictionary of tensors, one with the list of storage keys, then the storages.

use std::{collections::BTreeMap, collections::HashMap};

use super::{
    ConvertError,
    pickle::{Storage, TensorView, Value, read_pickle},
};

/// A dense tensor of 32-bit floats, last index fastest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weights {
    /// Length in each direction.
    pub(crate) shape: Vec<usize>,
    /// As many as the product of `shape`.
    pub(crate) values: Vec<f32>,
}

/// Reads all tensors of 32-bit floats; those of whole numbers (counters of training steps) are left out.
pub(crate) fn read_state_dict(mut bytes: &[u8]) -> Result<BTreeMap<String, Weights>, ConvertError> {
    let input = &mut bytes;
    for _ in 0..3 {
        read_pickle(input)?;
    }
    let Value::Dict(tensors) = read_pickle(input)? else {
        return Err(ConvertError::new("the weight file does not hold a dictionary"));
    };
    let views: Vec<(&str, &TensorView)> = tensors
        .entries
        .iter()
        .filter_map(
            |(name, value)| if let Value::Tensor(view) = value { Some((&**name, &**view)) } else { None },
        )
        .collect();
    let storages = read_storages(input, &views)?;
    let floats = views.into_iter().filter(|(_, view)| view.storage.element_bytes == 4);
    floats.map(|(name, view)| Ok((name.to_owned(), gather(name, view, &storages)?))).collect()
}

/// The bytes of each storage, by key.
fn read_storages<'a>(
    input: &mut &'a [u8],
    views: &[(&str, &TensorView)],
) -> Result<HashMap<String, &'a [u8]>, ConvertError> {
    let declared: HashMap<&str, &Storage> =
        views.iter().map(|(_, view)| (&*view.storage.key, &*view.storage)).collect();
    let Value::List(keys) = read_pickle(input)? else {
        return Err(ConvertError::new("the weight file has no list of storages"));
    };
    let mut storages = HashMap::new();
    for key in &keys.items {
        let storage = if let Value::Text(key) = key { declared.get(&**key) } else { None };
        let storage = storage.ok_or_else(|| ConvertError::new("a storage belongs to no tensor"))?;
        let bytes = read_storage(input, storage)
            .ok_or_else(|| ConvertError::new(format!("the storage {} is not complete", storage.key)))?;
        storages.insert(storage.key.to_string(), bytes);
    }
    Ok(storages)
}

/// Number of elements (64 bits), then the elements.
fn read_storage<'a>(input: &mut &'a [u8], storage: &Storage) -> Option<&'a [u8]> {
    let (count, rest) = input.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*count) != storage.elements as u64 {
        return None;
    }
    let (bytes, rest) = rest.split_at_checked(storage.elements.checked_mul(storage.element_bytes)?)?;
    *input = rest;
    Some(bytes)
}

/// Copies a view into dense order. Its strides need not be those of dense order, so each element is looked up.
fn gather(name: &str, view: &TensorView, storages: &HashMap<String, &[u8]>) -> Result<Weights, ConvertError> {
    let outside = || ConvertError::new(format!("the tensor {name:?} reaches outside its storage"));
    let (elements, _) = storages.get(&*view.storage.key).ok_or_else(outside)?.as_chunks::<4>();
    let count = view.shape.iter().try_fold(1_usize, |count, &side| count.checked_mul(side));
    // A dense tensor never has more elements than its storage; with strides of zero it could, without bound.
    let count = count.filter(|&count| count <= elements.len()).ok_or_else(outside)?;
    let mut values = Vec::with_capacity(count);
    for index in 0..count {
        let place = element_place(view, index).ok_or_else(outside)?;
        values.push(f32::from_le_bytes(*elements.get(place).ok_or_else(outside)?));
    }
    Ok(Weights { shape: view.shape.clone(), values })
}

/// Where the element with this index in dense order lies in the storage.
fn element_place(view: &TensorView, mut index: usize) -> Option<usize> {
    let mut place = view.offset;
    for (&side, &stride) in view.shape.iter().zip(&view.strides).rev() {
        place = place.checked_add((index % side).checked_mul(stride)?)?;
        index /= side;
    }
    Some(place)
}
