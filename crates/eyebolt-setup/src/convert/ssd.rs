//! SSDLite-MobileNetV2 from a TensorFlow.js graph to ONNX.
//!
//! The graph starts after the original's preprocessing (resize, x ÷ 127.5 − 1) and ends before its box decoding:
//! `input` \[1, 3, 300, 300\] → `loc` \[1, 1917, 4\] (ty, tx, th, tw) and `scores` \[1, 1917, 91\] (sigmoid applied).
//! Only what the two outputs need is converted; everything that scales or shifts a convolution is folded into it.

use std::{borrow::Cow, collections::HashMap};

use prost::Message as _;

use super::{
    ConvertError,
    conv_layer::{BatchNorm, ConvLayer, Tensor},
    tfjs::{GraphModel, Node},
};
use crate::onnx::{Attribute, GraphBuilder, Node as OnnxNode, fixed, float_value};

const SIDE: usize = 300;
const CLASSES: i64 = 91;
/// A guard against graphs that run in a circle; the real one is some 200 deep.
const MAX_DEPTH: usize = 512;

/// Converts `model.json` and its shards (in order) to ONNX.
pub(crate) fn ssd_graph(json: &[u8], shards: &[Cow<'_, [u8]>]) -> Result<Vec<u8>, ConvertError> {
    let model = GraphModel::read(json, shards)?;
    let anchors = anchor_count(&model)?;
    let mut builder = GraphBuilder::new("ssdlite_mobilenet_v2");
    let clip = [builder.floats(&[], [0.0]), builder.floats(&[], [6.0])];
    let mut converter = Converter { model: &model, builder, clip, tensors: HashMap::new(), depth: 0 };
    let loc = converter.tensor("concat")?;
    let scores = converter.tensor("concat_1")?;
    converter.builder.push(OnnxNode::giving("loc", "Identity", vec![loc.name], vec![]));
    converter.builder.push(OnnxNode::giving("scores", "Sigmoid", vec![scores.name], vec![]));
    let side = SIDE as i64;
    let onnx = converter.builder.finish(
        vec![float_value("input", [1, 3, side, side].map(fixed))],
        vec![
            float_value("loc", [1, anchors, 4].map(fixed)),
            float_value("scores", [1, anchors, CLASSES].map(fixed)),
        ],
    );
    Ok(onnx.encode_to_vec())
}

/// The anchors, a constant in the weights: ymin, xmin, ymax, xmax as little-endian 32-bit floats from 0 to 1.
pub(crate) fn ssd_anchors(json: &[u8], shards: &[Cow<'_, [u8]>]) -> Result<Vec<u8>, ConvertError> {
    let model = GraphModel::read(json, shards)?;
    let (_, anchors) = anchor_constant(&model)?;
    Ok(anchors.into_iter().flat_map(f32::to_le_bytes).collect())
}

fn anchor_count(model: &GraphModel) -> Result<i64, ConvertError> {
    match anchor_constant(model)?.0 {
        [1, count, 4] => Ok(*count as i64),
        shape => Err(ConvertError::new(format!("the anchors have the shape {shape:?}"))),
    }
}

fn anchor_constant(model: &GraphModel) -> Result<(&[usize], Vec<f32>), ConvertError> {
    model
        .floats("Postprocessor/ExpandDims")
        .ok_or_else(|| ConvertError::new("the graph has no constant with anchors"))
}

struct Converter<'a> {
    model: &'a GraphModel,
    builder: GraphBuilder,
    clip: [String; 2],
    /// What each node of the original has become.
    tensors: HashMap<&'a str, Tensor>,
    depth: usize,
}

impl<'a> Converter<'a> {
    /// The tensor of an edge, converted once.
    fn tensor(&mut self, edge: &'a str) -> Result<Tensor, ConvertError> {
        if let Some(known) = self.tensors.get(edge) {
            return Ok(known.clone());
        }
        self.descend(edge)?;
        let tensor = self.convert(edge)?;
        self.depth -= 1;
        self.tensors.insert(edge, tensor.clone());
        Ok(tensor)
    }

    fn convert(&mut self, edge: &'a str) -> Result<Tensor, ConvertError> {
        if edge.starts_with("Preprocessor") {
            return Ok(Tensor { name: "input".to_owned(), side: SIDE, channels: 3 });
        }
        if let Some(layer) = self.conv_layer(edge)? {
            return layer.emit(&mut self.builder);
        }
        let node = self.model.node(edge)?;
        match node.op.as_str() {
            "Add" | "AddN" => self.sum(node),
            "Relu6" => self.relu6(node),
            "Reshape" => self.rows(node),
            "ConcatV2" => self.concat(node),
            op => Err(ConvertError::new(format!("the operation {op} ({edge:?}) is not supported"))),
        }
    }

    /// The convolution that ends in this edge, with what follows it folded in; `None` for other operations.
    fn conv_layer(&mut self, edge: &'a str) -> Result<Option<ConvLayer>, ConvertError> {
        let node = self.model.node(edge)?;
        self.descend(edge)?;
        let layer = match node.op.as_str() {
            "Conv2D" | "DepthwiseConv2dNative" => self.convolution(node).map(Some),
            "FusedBatchNorm" => self.batch_norm(node),
            "Mul" | "Add" | "BiasAdd" => self.affine(node),
            _ => Ok(None),
        };
        self.depth -= 1;
        layer
    }

    fn descend(&mut self, edge: &str) -> Result<(), ConvertError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ConvertError::new(format!("the graph is deeper than {MAX_DEPTH} nodes at {edge:?}")));
        }
        Ok(())
    }

    fn convolution(&mut self, node: &'a Node) -> Result<ConvLayer, ConvertError> {
        let depthwise = node.op != "Conv2D";
        let edge = node.input(1)?;
        let kernel = self.model.floats(edge);
        let Some((&[height, width, inputs, outputs], values)) = kernel else {
            return Err(ConvertError::new(format!("{edge:?} is not a constant kernel")));
        };
        let input = self.tensor(node.input(0)?)?;
        let shape =
            if depthwise { [inputs * outputs, 1, height, width] } else { [outputs, inputs, height, width] };
        Ok(ConvLayer {
            input,
            shape,
            weights: channels_first(&values, [height, width, inputs, outputs], depthwise),
            bias: vec![0.0; shape[0]],
            stride: node.list_int("strides", 1)?,
            groups: if depthwise { inputs } else { 1 },
            same_padding: node.text("padding")? == "SAME",
        })
    }

    fn batch_norm(&mut self, node: &'a Node) -> Result<Option<ConvLayer>, ConvertError> {
        let Some(mut layer) = self.conv_layer(node.input(0)?)? else { return Ok(None) };
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|index| {
            let edge = node.input(index)?;
            let values = self.model.floats(edge).map(|(_, values)| values);
            values.ok_or_else(|| ConvertError::new(format!("{edge:?} is not a constant")))
        });
        layer.normalise(BatchNorm {
            gamma: &gamma?,
            beta: &beta?,
            mean: &mean?,
            variance: &variance?,
            epsilon: node.float("epsilon")?,
        })?;
        Ok(Some(layer))
    }

    /// A convolution multiplied by or added to a constant.
    fn affine(&mut self, node: &'a Node) -> Result<Option<ConvLayer>, ConvertError> {
        let (left, right) = (node.input(0)?, node.input(1)?);
        let (edge, constant) = match (self.model.floats(left), self.model.floats(right)) {
            (None, Some((_, constant))) => (left, constant),
            (Some((_, constant)), None) => (right, constant),
            _ => return Ok(None),
        };
        let Some(mut layer) = self.conv_layer(edge)? else { return Ok(None) };
        let constant: Vec<f64> = constant.into_iter().map(f64::from).collect();
        if node.op == "Mul" {
            layer.scale(&constant)?;
        } else {
            layer.shift(&constant)?;
        }
        Ok(Some(layer))
    }

    fn sum(&mut self, node: &'a Node) -> Result<Tensor, ConvertError> {
        let (left, right) = two_inputs(node)?;
        if let Some((_, constant)) = self.model.floats(left) {
            return self.shifted_sum(right, &constant);
        }
        if let Some((_, constant)) = self.model.floats(right) {
            return self.shifted_sum(left, &constant);
        }
        let (left, right) = (self.tensor(left)?, self.tensor(right)?);
        Ok(self.add(left, right))
    }

    /// A constant added to a sum goes into the convolution among the summands.
    fn shifted_sum(&mut self, edge: &'a str, constant: &[f32]) -> Result<Tensor, ConvertError> {
        let constant: Vec<f64> = constant.iter().copied().map(f64::from).collect();
        let (left, right) = two_inputs(self.model.node(edge)?)?;
        for (summand, other) in [(left, right), (right, left)] {
            if let Some(mut layer) = self.conv_layer(summand)? {
                layer.shift(&constant)?;
                let shifted = layer.emit(&mut self.builder)?;
                let other = self.tensor(other)?;
                return Ok(self.add(shifted, other));
            }
        }
        Err(ConvertError::new(format!("no convolution in {edge:?} to add a constant to")))
    }

    fn add(&mut self, left: Tensor, right: Tensor) -> Tensor {
        let name = self.builder.node("Add", vec![left.name, right.name], vec![]);
        Tensor { name, ..left }
    }

    fn relu6(&mut self, node: &'a Node) -> Result<Tensor, ConvertError> {
        let input = self.tensor(node.input(0)?)?;
        let [low, high] = self.clip.clone();
        let name = self.builder.node("Clip", vec![input.name, low, high], vec![]);
        Ok(Tensor { name, ..input })
    }

    /// One row for each anchor. The original has its channels last, so they move there first. The row's length is
    /// the last number of the packed shape.
    fn rows(&mut self, node: &'a Node) -> Result<Tensor, ConvertError> {
        let shape = self.model.node(node.input(1)?)?;
        let length = shape.inputs().last().and_then(|edge| self.model.int(edge));
        let length = length.ok_or_else(|| ConvertError::new("a reshape without constant row length"))?;
        let input = self.tensor(node.input(0)?)?;
        let last =
            self.builder.node("Transpose", vec![input.name], vec![Attribute::of_ints("perm", &[0, 2, 3, 1])]);
        let rows = self.builder.ints(&[1, -1, length]);
        let name = self.builder.node("Reshape", vec![last, rows], vec![]);
        Ok(Tensor { name, side: 0, channels: length as usize })
    }

    /// All rows of the six feature maps; the last input is the axis.
    fn concat(&mut self, node: &'a Node) -> Result<Tensor, ConvertError> {
        let Some((_, parts)) = node.inputs().split_last() else {
            return Err(ConvertError::new("a concatenation of nothing"));
        };
        let parts = parts.iter().map(|part| self.tensor(part)).collect::<Result<Vec<_>, _>>()?;
        let channels = parts.first().map_or(0, |part| part.channels);
        let names = parts.into_iter().map(|part| part.name).collect();
        let name = self.builder.node("Concat", names, vec![Attribute::of_int("axis", 1)]);
        Ok(Tensor { name, side: 0, channels })
    }
}

fn two_inputs(node: &Node) -> Result<(&str, &str), ConvertError> {
    match node.inputs() {
        [left, right] if node.op.starts_with("Add") => Ok((left, right)),
        inputs => Err(ConvertError::new(format!("{} inputs to {} are not a sum", inputs.len(), node.op))),
    }
}

/// From \[height, width, inputs, outputs\] to \[outputs, inputs, height, width\]; depthwise, each input channel has
/// outputs of its own: \[inputs × outputs, 1, height, width\].
fn channels_first(values: &[f32], sides: [usize; 4], depthwise: bool) -> Vec<f64> {
    let [height, width, inputs, outputs] = sides;
    let mut moved = vec![0.0; values.len()];
    let place = height * width;
    for (index, &value) in values.iter().enumerate() {
        let (pixel, channels) = (index / (inputs * outputs), index % (inputs * outputs));
        let (input, output) = (channels / outputs, channels % outputs);
        let filter = if depthwise { input * outputs + output } else { output * inputs + input };
        moved[filter * place + pixel] = f64::from(value);
    }
    moved
}

#[cfg(test)]
mod tests;
