//! EfficientNet-Lite0 (arXiv 1905.11946, the "lite" form: ReLU6, no squeeze-and-excite) from PyTorch weights to ONNX.
//!
//! `input` \[N, 3, 224, 224\] → `logits` \[N, 1000\] and `embedding` \[N, 1280\], the pooled features.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    ConvertError,
    conv_layer::{BatchNorm, ConvLayer, Tensor},
    pth::{Weights, read_state_dict},
};
use crate::onnx::{Attribute, GraphBuilder, Node, fixed, float_value, named};

const SIDE: usize = 224;
/// Blocks in each stage, and the stride of the stage's first block.
const STAGES: [(usize, usize); 7] = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)];
/// The original is a TensorFlow model, whose batch normalisation adds this to the variance.
const EPSILON: f64 = 1e-3;

/// Converts the weight file to ONNX.
pub(crate) fn efficientnet_lite0(pth: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let weights = read_state_dict(pth)?;
    let mut builder = GraphBuilder::new("efficientnet_lite0");
    let clip = [builder.floats(&[], [0.0]), builder.floats(&[], [6.0])];
    let mut network = Network { weights, builder, clip };
    let image = Tensor { name: "input".to_owned(), side: SIDE, channels: 3 };
    let mut features = network.activated(image, "_conv_stem", "_bn0", Step { stride: 2, groups: 1 })?;
    let mut block = 0;
    for (blocks, first_stride) in STAGES {
        for place in 0..blocks {
            let stride = if place == 0 { first_stride } else { 1 };
            features = network.block(features, &format!("_blocks.{block}."), stride)?;
            block += 1;
        }
    }
    let features = network.activated(features, "_conv_head", "_bn1", Step { stride: 1, groups: 1 })?;
    network.classify(features)
}

struct Network {
    weights: BTreeMap<String, Weights>,
    builder: GraphBuilder,
    clip: [String; 2],
}

#[derive(Clone, Copy)]
struct Step {
    stride: usize,
    groups: usize,
}

impl Network {
    /// An inverted residual: expand (absent in the first block), filter each channel, project; added to its input
    /// where both have the same shape.
    fn block(&mut self, input: Tensor, prefix: &str, stride: usize) -> Result<Tensor, ConvertError> {
        let name = |part: &str| format!("{prefix}{part}");
        let plain = Step { stride: 1, groups: 1 };
        let mut inner = input.clone();
        if self.weights.contains_key(&name("_expand_conv.weight")) {
            inner = self.activated(inner, &name("_expand_conv"), &name("_bn0"), plain)?;
        }
        let depthwise = Step { stride, groups: inner.channels };
        let inner = self.activated(inner, &name("_depthwise_conv"), &name("_bn1"), depthwise)?;
        let output = self.convolution(inner, &name("_project_conv"), &name("_bn2"), plain)?;
        if stride != 1 || output.channels != input.channels {
            return Ok(output);
        }
        let sum = self.builder.node("Add", vec![output.name, input.name], vec![]);
        Ok(Tensor { name: sum, ..output })
    }

    /// A normalised convolution with ReLU6.
    fn activated(
        &mut self,
        input: Tensor,
        conv: &str,
        norm: &str,
        step: Step,
    ) -> Result<Tensor, ConvertError> {
        let output = self.convolution(input, conv, norm, step)?;
        let [low, high] = self.clip.clone();
        let name = self.builder.node("Clip", vec![output.name, low, high], vec![]);
        Ok(Tensor { name, ..output })
    }

    fn convolution(
        &mut self,
        input: Tensor,
        conv: &str,
        norm: &str,
        step: Step,
    ) -> Result<Tensor, ConvertError> {
        let kernel = self.find(&format!("{conv}.weight"))?;
        let shape: [usize; 4] = kernel
            .shape
            .as_slice()
            .try_into()
            .map_err(|_| ConvertError::new(format!("{conv} is not a two-dimensional convolution")))?;
        let mut layer = ConvLayer {
            input,
            shape,
            weights: kernel.values.iter().copied().map(f64::from).collect(),
            bias: vec![0.0; shape[0]],
            stride: step.stride,
            groups: step.groups,
            same_padding: true,
        };
        let statistic =
            |name: &str| self.find(&format!("{norm}.{name}")).map(|found| found.values.as_slice());
        layer.normalise(BatchNorm {
            gamma: statistic("weight")?,
            beta: statistic("bias")?,
            mean: statistic("running_mean")?,
            variance: statistic("running_var")?,
            epsilon: EPSILON,
        })?;
        layer.emit(&mut self.builder)
    }

    /// Pools each channel to one number and adds the classes.
    fn classify(mut self, features: Tensor) -> Result<Vec<u8>, ConvertError> {
        let channels = features.channels as i64;
        let pooled = self.builder.node("GlobalAveragePool", vec![features.name], vec![]);
        self.output("Flatten", vec![pooled], Attribute::of_int("axis", 1), "embedding");
        let Weights { shape, values } = self.find("_fc.weight")?.clone();
        let bias = self.find("_fc.bias")?.values.clone();
        let classes = bias.len();
        let matrix = self.builder.floats(&shape, values);
        let bias = self.builder.floats(&[classes], bias);
        self.output(
            "Gemm",
            vec!["embedding".to_owned(), matrix, bias],
            Attribute::of_int("transB", 1),
            "logits",
        );
        let side = fixed(SIDE as i64);
        let model = self.builder.finish(
            vec![float_value("input", [named("N"), fixed(3), side.clone(), side])],
            vec![
                float_value("logits", [named("N"), fixed(classes as i64)]),
                float_value("embedding", [named("N"), fixed(channels)]),
            ],
        );
        Ok(model.encode_to_vec())
    }

    fn output(&mut self, op_type: &str, inputs: Vec<String>, attribute: Attribute, name: &str) {
        self.builder.push(Node {
            inputs,
            outputs: vec![name.to_owned()],
            op_type: op_type.to_owned(),
            attributes: vec![attribute],
            ..Node::default()
        });
    }

    fn find(&self, name: &str) -> Result<&Weights, ConvertError> {
        self.weights.get(name).ok_or_else(|| ConvertError::new(format!("the weight {name:?} is missing")))
    }
}
