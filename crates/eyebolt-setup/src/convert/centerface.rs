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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphBuilder, Node, float_value};

    #[test]
    fn shapes_become_free_and_weights_are_no_inputs() {
        let mut builder = GraphBuilder::new("faces");
        let weight = builder.floats(&[1], [2.0]);
        let counter = builder.floats(&[1], [100.0]);
        builder.push(Node::giving("heat", "Mul", vec!["image".to_owned(), weight.clone()], vec![]));
        let inputs = vec![
            float_value("image", [10, 3, 32, 32].map(fixed)),
            float_value(&weight, [fixed(1)]),
            float_value(&counter, [fixed(1)]),
        ];
        let before = builder.finish(inputs, vec![float_value("heat", [10, 1, 8, 8].map(fixed))]);

        let after = dynamic_shapes(&before.encode_to_vec()).unwrap();

        let graph = Model::decode(after.as_slice()).unwrap().graph.unwrap();
        assert_eq!(graph.inputs, [float_value("image", [named("N"), fixed(3), named("H"), named("W")])]);
        assert_eq!(graph.outputs, [float_value("heat", [named("N"), fixed(1), named("H4"), named("W4")])]);
        let kept: Vec<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(kept, [weight.as_str()], "what no node reads goes");
    }

    #[test]
    fn what_is_not_an_image_is_refused() {
        let flat = GraphBuilder::new("flat").finish(vec![float_value("x", [fixed(3)])], vec![]);
        let refused = dynamic_shapes(&flat.encode_to_vec()).unwrap_err();
        assert_eq!(refused.to_string(), "\"x\" is not declared with four sides");
        assert!(dynamic_shapes(b"\xff\xff").is_err());
    }
}
