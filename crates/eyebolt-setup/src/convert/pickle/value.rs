//! The values that a pickle may hold.

use std::rc::Rc;

use super::broken;
use crate::convert::ConvertError;

/// Deepest nesting of tuples, lists and dictionaries.
const MAX_DEPTH: u8 = 16;

/// A value on the stack. Shared parts are counted, not copied, so that a memo can't be used to blow memory up.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    None,
    Bool,
    Int(i64),
    Text(Rc<str>),
    Tuple(Rc<Sequence>),
    List(Rc<Sequence>),
    Dict(Rc<Dict>),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<TensorView>),
}

/// Members of a tuple or list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sequence {
    /// In order.
    pub(crate) items: Vec<Value>,
    pub(super) depth: u8,
}

/// Members of a dictionary; keys that aren't text are dropped, as nothing here asks for them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dict {
    /// In order.
    pub(crate) entries: Vec<(Rc<str>, Value)>,
    pub(super) depth: u8,
}

/// The names that may be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    Floats,
    Longs,
}

impl Global {
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch", "FloatStorage") => Some(Self::Floats),
            ("torch", "LongStorage") => Some(Self::Longs),
            _ => None,
        }
    }
}

/// A block of numbers that follows the pickles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Its name.
    pub(crate) key: Rc<str>,
    /// Bytes of an element: 4 (`f32`) or 8 (`i64`).
    pub(crate) element_bytes: usize,
    /// How many elements.
    pub(crate) elements: usize,
}

/// A tensor: a window on a storage.
#[derive(Debug, Clone)]
pub(crate) struct TensorView {
    /// What it looks at.
    pub(crate) storage: Rc<Storage>,
    /// Element of the storage with index 0 in every direction.
    pub(crate) offset: usize,
    /// Length in each direction.
    pub(crate) shape: Vec<usize>,
    /// Elements from one index to the next, in each direction.
    pub(crate) strides: Vec<usize>,
}

impl Value {
    fn depth(&self) -> u8 {
        match self {
            Self::Tuple(sequence) | Self::List(sequence) => sequence.depth,
            Self::Dict(dict) => dict.depth,
            _ => 0,
        }
    }

    pub(super) fn size(&self) -> Option<usize> {
        if let Self::Int(number) = self { usize::try_from(*number).ok() } else { None }
    }

    fn sizes(&self) -> Option<Vec<usize>> {
        let Self::Tuple(sequence) = self else { return None };
        sequence.items.iter().map(Self::size).collect()
    }
}

/// Depth of a container with these members.
pub(super) fn nested(items: &[Value]) -> Result<u8, ConvertError> {
    let depth = items.iter().map(Value::depth).max().unwrap_or(0) + 1;
    if depth > MAX_DEPTH {
        return Err(broken(&format!("nested deeper than {MAX_DEPTH}")));
    }
    Ok(depth)
}

/// (storage, offset, shape, strides, …).
pub(super) fn tensor_view(arguments: &[Value]) -> Option<TensorView> {
    let [Value::Storage(storage), offset, shape, strides, ..] = arguments else { return None };
    let (shape, strides) = (shape.sizes()?, strides.sizes()?);
    (shape.len() == strides.len()).then_some(TensorView {
        storage: Rc::clone(storage),
        offset: offset.size()?,
        shape,
        strides,
    })
}
