//! Tiny graphs written by hand.

use serde_json::{Value, json};

use super::*;
use crate::onnx::Model;

const BOX_KERNEL: [f32; 12] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];

fn op(name: &str, op: &str, input: &[&str]) -> Value {
    let attr = json!({
        "strides": {"list": {"i": ["1", "300", "300", "1"]}},
        "padding": {"s": [83, 65, 77, 69]},
    });
    json!({"name": name, "op": op, "input": input, "attr": attr})
}

/// Boxes: a 1×1 convolution with bias; classes: the same picture with another kernel.
fn graph(nodes: &[Value]) -> (Vec<u8>, Vec<u8>) {
    let weights = [
        ("box/kernel", vec![1, 1, 3, 4], "float32"),
        ("box/bias", vec![4], "float32"),
        ("class/kernel", vec![1, 1, 3, 91], "float32"),
        ("Postprocessor/ExpandDims", vec![1, 1, 4], "float32"),
        ("four", vec![], "int32"),
        ("classes", vec![], "int32"),
    ];
    let floats = BOX_KERNEL.into_iter().chain([0.5; 4]).chain([0.25; 273]).chain([0.0, 0.0, 1.0, 1.0]);
    let mut data: Vec<u8> = floats.flat_map(f32::to_le_bytes).collect();
    data.extend([4_i32, 91].into_iter().flat_map(i32::to_le_bytes));
    let entries: Vec<Value> = weights
        .iter()
        .map(|(name, shape, dtype)| json!({"name": name, "shape": shape, "dtype": dtype}))
        .collect();
    let document = json!({
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["shard"], "weights": entries}],
    });
    (serde_json::to_vec(&document).unwrap(), data)
}

fn small() -> Vec<Value> {
    vec![
        op("box/conv", "Conv2D", &["Preprocessor/sub", "box/kernel"]),
        op("box", "BiasAdd", &["box/conv", "box/bias"]),
        op("box/shape", "Pack", &["batch", "four"]),
        op("box/rows", "Reshape", &["box", "box/shape"]),
        op("concat", "ConcatV2", &["box/rows", "axis"]),
        op("class", "Conv2D", &["Preprocessor/sub:0", "class/kernel"]),
        op("active", "Relu6", &["class"]),
        op("class/shape", "Pack", &["batch", "classes"]),
        op("class/rows", "Reshape", &["active", "class/shape"]),
        op("concat_1", "ConcatV2", &["class/rows", "axis"]),
    ]
}

#[test]
fn a_small_graph_becomes_onnx_with_folded_bias() {
    let (json, shard) = graph(&small());
    let (first, second) = shard.split_at(7);
    let shards = [Cow::Borrowed(first), Cow::Borrowed(second)];

    let model = Model::decode(ssd_graph(&json, &shards).unwrap().as_slice()).unwrap();

    let graph = model.graph.unwrap();
    let operations: Vec<&str> = graph.nodes.iter().map(|node| node.op_type.as_str()).collect();
    let expected = [
        "Conv",
        "Transpose",
        "Reshape",
        "Concat",
        "Conv",
        "Clip",
        "Transpose",
        "Reshape",
        "Concat",
        "Identity",
        "Sigmoid",
    ];
    assert_eq!(operations, expected);
    let constant = |name: &str| graph.initializers.iter().find(|tensor| tensor.name == name).unwrap();
    let floats =
        |raw: &[u8]| -> Vec<f32> { raw.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect() };
    let conv = &graph.nodes[0];
    let kernel = constant(&conv.inputs[1]);
    assert_eq!(kernel.dims, [4, 3, 1, 1]);
    let by_output = [1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0, 4.0, 8.0, 12.0];
    assert_eq!(floats(&kernel.raw_data), by_output);
    assert_eq!(floats(&constant(&conv.inputs[2]).raw_data), [0.5; 4]);
    assert_eq!(graph.outputs[0], float_value("loc", [1, 1, 4].map(fixed)));
    assert_eq!(ssd_anchors(&json, &shards).unwrap(), [0.0_f32, 0.0, 1.0, 1.0].map(f32::to_le_bytes).concat());
}

#[test]
fn graphs_in_a_circle_and_unknown_operations_are_refused() {
    let mut nodes = small();
    nodes[4] = op("concat", "ConcatV2", &["concat", "axis"]);
    let (json, shard) = graph(&nodes);
    let refused = ssd_graph(&json, &[Cow::Borrowed(&shard)]).unwrap_err();
    assert_eq!(refused.to_string(), "the graph is deeper than 512 nodes at \"concat\"");

    nodes[1] = op("box", "BiasAdd", &["box", "box/bias"]);
    nodes[4] = op("concat", "ConcatV2", &["box/rows", "axis"]);
    let (json, shard) = graph(&nodes);
    let refused = ssd_graph(&json, &[Cow::Borrowed(&shard)]).unwrap_err();
    assert_eq!(refused.to_string(), "the graph is deeper than 512 nodes at \"box\"");

    nodes[4] = op("concat", "Sigmoid", &["box/rows"]);
    let (json, shard) = graph(&nodes);
    let refused = ssd_graph(&json, &[Cow::Borrowed(&shard)]).unwrap_err();
    assert_eq!(refused.to_string(), "the operation Sigmoid (\"concat\") is not supported");
}

#[test]
fn missing_and_left_over_weights_are_refused() {
    let (json, mut shard) = graph(&small());
    shard.push(0);
    assert!(ssd_graph(&json, &[Cow::Borrowed(&shard)]).unwrap_err().to_string().contains("the weights take"));
    shard.truncate(shard.len() - 2);
    let refused = ssd_graph(&json, &[Cow::Borrowed(&shard)]).unwrap_err();
    assert_eq!(refused.to_string(), "the weight \"classes\" runs over the shards");
}

#[test]
fn channels_move_to_the_front() {
    let values: Vec<f32> = (0_u8..8).map(f32::from).collect();
    // 2×1 pixels, 2 inputs, 2 outputs.
    let full = channels_first(&values, [2, 1, 2, 2], false);
    assert_eq!(full, [0.0, 4.0, 2.0, 6.0, 1.0, 5.0, 3.0, 7.0]);
    let depthwise = channels_first(&values, [2, 1, 2, 2], true);
    assert_eq!(depthwise, [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
}
