//! A pickle machine for weight files that can do nothing but build plain values.
//!
//! It knows the operations and the four names that weight files of `PyTorch`'s format before
//! 1.6 use, and refuses
//! everything else: no code is looked up or called. Every length and index is checked, nesting is bounded, and
//! memory stays within a small multiple of the input.

mod value;

use std::{collections::HashMap, rc::Rc};

use super::ConvertError;
use value::{Global, Sequence, nested, tensor_view};
pub(crate) use value::{Storage, TensorView, Value};

/// Reads one pickle from the front of `bytes` and moves `bytes` behind it.
pub(crate) fn read_pickle(bytes: &mut &[u8]) -> Result<Value, ConvertError> {
    let mut machine = Machine { input: bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let value = loop {
        let operation = machine.byte()?;
        if operation == b'.' {
            break machine.pop()?;
        }
        machine.step(operation)?;
    };
    *bytes = machine.input;
    Ok(value)
}

struct Machine<'a> {
    input: &'a [u8],
    stack: Vec<Value>,
    /// Heights of the stack at which an open list of arguments begins.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

fn broken(what: &str) -> ConvertError {
    ConvertError::new(format!("the weight file is not sound: {what}"))
}

impl<'a> Machine<'a> {
    fn step(&mut self, operation: u8) -> Result<(), ConvertError> {
        match operation {
            0x80 => self.protocol(),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'K' | b'M' | b'J' | 0x8a => self.int(operation),
            b'X' => self.text(),
            b'c' => self.global(),
            b')' | b't' | 0x85..=0x87 => self.tuple(operation),
            b']' => self.push(Value::List(Rc::default())),
            b'}' => self.push(Value::Dict(Rc::default())),
            b'a' | b'e' => self.append(operation),
            b's' | b'u' => self.set_items(operation),
            b'q' | b'r' => self.remember(operation),
            b'h' | b'j' => self.recall(operation),
            b'Q' => self.storage(),
            b'R' => self.call(),
            // The state of a dictionary object: module versions, of no use here.
            b'b' => self.pop().map(drop),
            other => Err(broken(&format!("pickle operation {other:#04x} is not allowed"))),
        }
    }

    fn protocol(&mut self) -> Result<(), ConvertError> {
        match self.byte()? {
            2 => Ok(()),
            other => Err(broken(&format!("pickle protocol {other} instead of 2"))),
        }
    }

    fn int(&mut self, operation: u8) -> Result<(), ConvertError> {
        let number = match operation {
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => self.long()?,
        };
        self.push(Value::Int(number))
    }

    /// A number of any length in two's complement. What does not fit 64 bits (the format's own mark in the first
    /// pickle has 10 bytes) counts as −1: no such number means anything here.
    fn long(&mut self) -> Result<i64, ConvertError> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        if bytes.len() > 8 {
            return Ok(-1);
        }
        let mut word = [if negative { 0xff } else { 0 }; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(word))
    }

    fn text(&mut self) -> Result<(), ConvertError> {
        let length = u32::from_le_bytes(self.array()?);
        let text =
            std::str::from_utf8(self.take(length as usize)?).map_err(|_| broken("text is not UTF-8"))?;
        self.push(Value::Text(text.into()))
    }

    fn global(&mut self) -> Result<(), ConvertError> {
        let (module, name) = (self.line()?, self.line()?);
        let global = Global::named(module, name)
            .ok_or_else(|| broken(&format!("the name {module}.{name} is not allowed")))?;
        self.push(Value::Global(global))
    }

    fn tuple(&mut self, operation: u8) -> Result<(), ConvertError> {
        let items = match operation {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            counted => self.pop_many(usize::from(counted - 0x84))?,
        };
        let depth = nested(&items)?;
        self.push(Value::Tuple(Rc::new(Sequence { items, depth })))
    }

    fn append(&mut self, operation: u8) -> Result<(), ConvertError> {
        let items = if operation == b'e' { self.pop_to_mark()? } else { self.pop_many(1)? };
        let depth = nested(&items)?;
        let Some(Value::List(list)) = self.stack.last_mut() else {
            return Err(broken("no list to append to"));
        };
        let list = own(list)?;
        list.depth = list.depth.max(depth);
        list.items.extend(items);
        Ok(())
    }

    fn set_items(&mut self, operation: u8) -> Result<(), ConvertError> {
        let items = if operation == b'u' { self.pop_to_mark()? } else { self.pop_many(2)? };
        let depth = nested(&items)?;
        let Some(Value::Dict(dict)) = self.stack.last_mut() else {
            return Err(broken("no dictionary to fill"));
        };
        let dict = own(dict)?;
        dict.depth = dict.depth.max(depth);
        for pair in items.chunks_exact(2) {
            if let [Value::Text(key), value] = pair {
                dict.entries.push((Rc::clone(key), value.clone()));
            }
        }
        Ok(())
    }

    /// Remembers the value on top. A list or dictionary is still to be filled at this point, so only its place is
    /// taken: recalling one is refused.
    fn remember(&mut self, operation: u8) -> Result<(), ConvertError> {
        let slot = self.slot(operation == b'q')?;
        let value = self.stack.last().ok_or_else(|| broken("nothing to remember"))?;
        if !matches!(value, Value::List(_) | Value::Dict(_)) {
            self.memo.insert(slot, value.clone());
        }
        Ok(())
    }

    fn recall(&mut self, operation: u8) -> Result<(), ConvertError> {
        let slot = self.slot(operation == b'h')?;
        let value = self.memo.get(&slot).cloned().ok_or_else(|| broken("recalls what was not remembered"))?;
        self.push(value)
    }

    /// A reference to a storage: (`"storage"`, type, key, place, elements, …).
    fn storage(&mut self) -> Result<(), ConvertError> {
        let Value::Tuple(reference) = self.pop()? else { return Err(broken("a reference is not a tuple")) };
        let [_, Value::Global(kind), Value::Text(key), _, elements, ..] = reference.items.as_slice() else {
            return Err(broken("a reference does not name a storage"));
        };
        let element_bytes = match kind {
            Global::Floats => 4,
            Global::Longs => 8,
            _ => return Err(broken("a storage has no element type")),
        };
        let elements = elements.size().ok_or_else(|| broken("a storage has no size"))?;
        self.push(Value::Storage(Rc::new(Storage { key: Rc::clone(key), element_bytes, elements })))
    }

    fn call(&mut self) -> Result<(), ConvertError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        match (function, arguments) {
            (Value::Global(Global::OrderedDict), Value::Tuple(arguments)) if arguments.items.is_empty() => {
                self.push(Value::Dict(Rc::default()))
            }
            (Value::Global(Global::RebuildTensor), Value::Tuple(arguments)) => {
                let tensor = tensor_view(&arguments.items).ok_or_else(|| broken("a tensor is incomplete"))?;
                self.push(Value::Tensor(Rc::new(tensor)))
            }
            _ => Err(broken("calls what can't be called")),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "every arm of `step` gives a result")]
    fn push(&mut self, value: Value) -> Result<(), ConvertError> {
        self.stack.push(value);
        Ok(())
    }

    /// Takes the top value; never one from below an open mark.
    fn pop(&mut self) -> Result<Value, ConvertError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(broken("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| broken("the stack is empty"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, ConvertError> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, ConvertError> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        mark.map(|mark| self.stack.split_off(mark)).ok_or_else(|| broken("no mark on the stack"))
    }

    fn slot(&mut self, short: bool) -> Result<u32, ConvertError> {
        if short { self.byte().map(u32::from) } else { self.array().map(u32::from_le_bytes) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ConvertError> {
        let (taken, rest) = self.input.split_at_checked(length).ok_or_else(|| broken("it ends early"))?;
        self.input = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ConvertError> {
        let (taken, rest) = self.input.split_first_chunk().ok_or_else(|| broken("it ends early"))?;
        self.input = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, ConvertError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn line(&mut self) -> Result<&'a str, ConvertError> {
        let length =
            self.input.iter().position(|&byte| byte == b'\n').ok_or_else(|| broken("it ends early"))?;
        let line = self.take(length)?;
        self.byte()?;
        std::str::from_utf8(line).map_err(|_| broken("a name is not UTF-8"))
    }
}

/// The container on top of the stack for filling: it must not be shared, or the other holder would not see it grow.
fn own<T>(shared: &mut Rc<T>) -> Result<&mut T, ConvertError> {
    Rc::get_mut(shared).ok_or_else(|| broken("fills a shared container"))
}
