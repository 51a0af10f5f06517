//! CenterFace: the file as published declares one input size and lists its weights as inputs.

use std::collections::HashSet;

use prost::Message as _;

use super::ConvertError;
use crate::onnx::{DimValue, Model, ValueInfo, fixed, named};

/// Gives batch, height and width of the image free names in the declared input and outputs (the outputs have a
/// quarter of the input's sides), and takes the weights off the inputs, so that backends may fold them. Counters that no node
/// reads go, as backends complain about each.
pub(crate) fn dynamic_shapes(onnx: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let mut model = Model::decode(onnx)?;
    let graph = model.graph.as_mut().ok_or_else(|| ConvertError::new("the ONNX file has no graph"))?;
    let weights = &graph.initializers;
    graph.inputs.retain(|input| weights.iter().all(|weight| weight.name != input.name));
    for input in &mut graph.inputs {
        free_sides(input, ["N", "H", "W"])?;
    }
    for output in &mut graph.outputs {
        free_sides(output, ["N", "H4", "W4"])?;
    }
    let read: HashSet<&str> = graph.nodes.iter().flat_map(|node| &node.inputs).map(String::as_str).collect();
    graph.initializers.retain(|weight| read.contains(weight.name.as_str()));
    graph.value_infos.clear();
    Ok(model.encode_to_vec())
}

/// Names the first, third and fourth side of a declared `NCHW` value; the channels stay.
fn free_sides(value: &mut ValueInfo, [batch, height, width]: [&str; 3]) -> Result<(), ConvertError> {
    let dims = value
        .value_type
        .as_mut()
        .and_then(|value_type| value_type.tensor.as_mut())
        .and_then(|tensor| tensor.shape.as_mut())
        .map(|shape| shape.dims.as_mut_slice());
    let Some([n, c, h, w]) = dims else {
        return Err(ConvertError::new(format!("{:?} is not declared with four sides", value.name)));
    };
    let Some(DimValue::Fixed(channels)) = c.value else {
        return Err(ConvertError::new(format!("{:?} has no fixed number of channels", value.name)));
    };
    n.value = Some(named(batch));
    c.value = Some(fixed(channels));
    h.value = Some(named(height));
    w.value = Some(named(width));
    Ok(())
}
