//! Reader of TensorFlow.js graph models: a JSON file with nodes and a list of weights, and binary shards.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::ConvertError;

/// A graph with its weights.
#[derive(Debug)]
pub(crate) struct GraphModel {
    nodes: HashMap<String, Node>,
    weights: HashMap<String, Weight>,
    data: Vec<u8>,
}

/// One operation.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    name: String,
    /// The operation, in TensorFlow's words.
    pub(crate) op: String,
    #[serde(default)]
    input: Vec<String>,
    #[serde(default)]
    attr: HashMap<String, Value>,
}

#[derive(Debug)]
struct Weight {
    shape: Vec<usize>,
    dtype: DataType,
    offset: usize,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum DataType {
    Float32,
    Int32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    model_topology: Topology,
    weights_manifest: Vec<WeightGroup>,
}

#[derive(Deserialize)]
struct Topology {
    node: Vec<Node>,
}

#[derive(Deserialize)]
struct WeightGroup {
    weights: Vec<WeightEntry>,
}

#[derive(Deserialize)]
struct WeightEntry {
    name: String,
    shape: Vec<usize>,
    dtype: DataType,
}

impl GraphModel {
    /// Reads `model.json` and its shards, given in the order of the manifest. One group of weights is supported:
    /// within a group the shards follow each other without gaps.
    pub(crate) fn read(json: &[u8], shards: &[Cow<'_, [u8]>]) -> Result<Self, ConvertError> {
        let document: Document = serde_json::from_slice(json)?;
        let [group] = document.weights_manifest.as_slice() else {
            return Err(ConvertError::new("the graph does not have exactly one group of weights"));
        };
        let data = shards.concat();
        let mut weights = HashMap::new();
        let mut offset = 0_usize;
        for WeightEntry { name, shape, dtype } in &group.weights {
            let weight = Weight { shape: shape.clone(), dtype: *dtype, offset };
            offset = byte_count(shape)
                .and_then(|bytes| offset.checked_add(bytes))
                .filter(|&end| end <= data.len())
                .ok_or_else(|| ConvertError::new(format!("the weight {name:?} runs over the shards")))?;
            weights.insert(name.clone(), weight);
        }
        if offset != data.len() {
            let (found, used) = (data.len(), offset);
            return Err(ConvertError::new(format!("the shards hold {found} bytes, the weights take {used}")));
        }
        let nodes = document.model_topology.node.into_iter().map(|node| (node.name.clone(), node)).collect();
        Ok(Self { nodes, weights, data })
    }

    /// The node of a name or of an edge (`name:output`, `^name`).
    pub(crate) fn node(&self, edge: &str) -> Result<&Node, ConvertError> {
        let name = node_name(edge);
        self.nodes.get(name).ok_or_else(|| ConvertError::new(format!("the graph has no node {name:?}")))
    }

    /// Shape and values of a constant of 32-bit floats; `None` where the edge does not come from one.
    pub(crate) fn floats(&self, edge: &str) -> Option<(&[usize], Vec<f32>)> {
        let weight = self.weights.get(node_name(edge)).filter(|weight| weight.dtype == DataType::Float32)?;
        Some((&weight.shape, self.words(weight).map(f32::from_le_bytes).collect()))
    }

    /// A constant whole number; `None` where the edge does not come from one.
    pub(crate) fn int(&self, edge: &str) -> Option<i64> {
        let weight = self.weights.get(node_name(edge)).filter(|weight| weight.dtype == DataType::Int32)?;
        self.words(weight).next().map(|word| i64::from(i32::from_le_bytes(word)))
    }

    fn words(&self, weight: &Weight) -> impl Iterator<Item = [u8; 4]> {
        let bytes = byte_count(&weight.shape).unwrap_or(0);
        let range = self.data.get(weight.offset..weight.offset.saturating_add(bytes)).unwrap_or_default();
        range.as_chunks::<4>().0.iter().copied()
    }
}

impl Node {
    /// The input at `index`.
    pub(crate) fn input(&self, index: usize) -> Result<&str, ConvertError> {
        self.input.get(index).map(String::as_str).ok_or_else(|| self.lacks(&format!("input {index}")))
    }

    /// All inputs.
    pub(crate) fn inputs(&self) -> &[String] {
        &self.input
    }

    /// A text attribute, which the format writes as a list of bytes.
    pub(crate) fn text(&self, name: &str) -> Result<String, ConvertError> {
        let bytes = self.attr.get(name).and_then(|value| value["s"].as_array());
        bytes
            .map(|bytes| bytes.iter().filter_map(Value::as_u64).map(|byte| byte as u8 as char).collect())
            .ok_or_else(|| self.lacks(name))
    }

    /// The entry at `index` of a list of whole numbers, which the format writes as text.
    pub(crate) fn list_int(&self, name: &str, index: usize) -> Result<usize, ConvertError> {
        let entry = self.attr.get(name).map(|value| &value["list"]["i"][index]);
        entry
            .and_then(|entry| entry.as_str().map_or_else(|| entry.as_u64(), |text| text.parse().ok()))
            .map(|number| number as usize)
            .ok_or_else(|| self.lacks(name))
    }

    /// A number.
    pub(crate) fn float(&self, name: &str) -> Result<f64, ConvertError> {
        self.attr.get(name).and_then(|value| value["f"].as_f64()).ok_or_else(|| self.lacks(name))
    }

    fn lacks(&self, what: &str) -> ConvertError {
        ConvertError::new(format!("the node {:?} ({}) has no readable {what}", self.name, self.op))
    }
}

fn node_name(edge: &str) -> &str {
    let name = edge.strip_prefix('^').unwrap_or(edge);
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// Bytes of a tensor of 4-byte elements.
fn byte_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(4_usize, |bytes, &side| bytes.checked_mul(side))
}
