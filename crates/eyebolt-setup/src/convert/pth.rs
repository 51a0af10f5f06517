//! Reader of `PyTorch` weight files in the format before 1.6 (not a zip): three pickles with mark, version and
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST_THREE: &[u8] = b"\x80\x02\x8a\x0along-mark!.\x80\x02M\xe9\x03.\x80\x02}q\x00.";

    fn text(text: &str) -> Vec<u8> {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    /// A file with one tensor `w` over a storage of six numbers 0…5.
    fn file(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
        let sizes = |list: &[u8]| {
            let numbers: Vec<u8> = list.iter().flat_map(|&number| [b'K', number]).collect();
            [b"(", numbers.as_slice(), b"t"].concat()
        };
        let storage = [
            b"(".as_slice(),
            &text("storage"),
            b"ctorch\nFloatStorage\n",
            &text("7"),
            &text("cpu"),
            b"K\x06Nt",
            b"Q",
        ]
        .concat();
        let tensor = [
            b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(),
            &storage,
            &[b'K', offset],
            &sizes(shape),
            &sizes(strides),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat();
        let tensors =
            [b"\x80\x02ccollections\nOrderedDict\n)R(", text("w").as_slice(), &tensor, b"u."].concat();
        let keys = [b"\x80\x02](", text("7").as_slice(), b"e."].concat();
        let numbers: Vec<u8> = (0_u8..6).flat_map(|number| f32::from(number).to_le_bytes()).collect();
        [FIRST_THREE, &tensors, &keys, &6_u64.to_le_bytes(), &numbers].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        read_state_dict(bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_tensor_is_read_in_dense_order_whatever_its_strides() {
        let dense = read_state_dict(&file(0, &[2, 3], &[3, 1])).unwrap();
        assert_eq!(dense["w"], Weights { shape: vec![2, 3], values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] });
        let turned = read_state_dict(&file(0, &[2, 3], &[1, 2])).unwrap();
        assert_eq!(turned["w"].values, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        let window = read_state_dict(&file(4, &[2], &[1])).unwrap();
        assert_eq!(window["w"].values, [4.0, 5.0]);
        let none = read_state_dict(&file(0, &[0, 9], &[9, 1])).unwrap();
        assert_eq!(none["w"].values, [0.0; 0]);
    }

    #[test]
    fn a_tensor_outside_its_storage_is_refused() {
        let expected = "the tensor \"w\" reaches outside its storage";
        assert_eq!(refusal(&file(5, &[2], &[1])), expected);
        assert_eq!(refusal(&file(0, &[2], &[6])), expected);
        assert_eq!(refusal(&file(0, &[7], &[0])), expected, "more elements than the storage has");
    }

    #[test]
    fn names_and_operations_beyond_the_list_are_refused() {
        let call = [b"\x80\x02cos\nsystem\n".as_slice(), &text("true"), b"\x85R."].concat();
        assert_eq!(refusal(&call), "the weight file is not sound: the name os.system is not allowed");
        // INST, OBJ, NEWOBJ, EXT1, STACK_GLOBAL and FRAME.
        for operation in [b'i', b'o', 0x81, 0x82, 0x93, 0x95] {
            let expected =
                format!("the weight file is not sound: pickle operation {operation:#04x} is not allowed");
            assert_eq!(refusal(&[0x80, 2, operation]), expected);
        }
        assert_eq!(refusal(b"\x80\x04."), "the weight file is not sound: pickle protocol 4 instead of 2");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = [b"\x80\x02)".as_slice(), &vec![0x85; 1_000_000], b"."].concat();
        assert_eq!(refusal(&deep), "the weight file is not sound: nested deeper than 16");
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = file(0, &[2, 3], &[3, 1]);
        for length in 0..whole.len() {
            assert!(read_state_dict(&whole[..length]).is_err(), "cut to {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(place in 0_usize..400, byte: u8, tail in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut damaged = file(0, &[2, 3], &[3, 1]);
            let place = place % damaged.len();
            damaged[place] = byte;
            let _ = read_state_dict(&damaged);
            damaged.truncate(place);
            damaged.extend(tail);
            let _ = read_state_dict(&damaged);
        }
    }
}
