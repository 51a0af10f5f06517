//! EfficientNet-Lite0 (arXiv 1905.11946, the "lite" form: `ReLU6`, no squeeze-and-excite) from `PyTorch`
//! weights to ONNX.
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
    let stem = Step { stride: 2, ..Step::new("", "_conv_stem", "_bn0") };
    let mut features = network.activated(image, &stem)?;
    let mut block = 0;
    for (blocks, first_stride) in STAGES {
        for place in 0..blocks {
            let stride = if place == 0 { first_stride } else { 1 };
            features = network.block(features, &format!("_blocks.{block}."), stride)?;
            block += 1;
        }
    }
    let features = network.activated(features, &Step::new("", "_conv_head", "_bn1"))?;
    network.classify(features)
}

struct Network {
    weights: BTreeMap<String, Weights>,
    builder: GraphBuilder,
    clip: [String; 2],
}

/// A convolution and the normalisation behind it: the names of their weights, and what these don't tell.
struct Step {
    conv: String,
    norm: String,
    stride: usize,
    groups: usize,
}

impl Step {
    fn new(prefix: &str, conv: &str, norm: &str) -> Self {
        Self { conv: format!("{prefix}{conv}"), norm: format!("{prefix}{norm}"), stride: 1, groups: 1 }
    }
}

impl Network {
    /// An inverted residual: expand (absent in the first block), filter each channel, project; added to its input
    /// where both have the same shape.
    fn block(&mut self, input: Tensor, prefix: &str, stride: usize) -> Result<Tensor, ConvertError> {
        let mut inner = input.clone();
        let expand = Step::new(prefix, "_expand_conv", "_bn0");
        if self.weights.contains_key(&format!("{}.weight", expand.conv)) {
            inner = self.activated(inner, &expand)?;
        }
        let groups = inner.channels;
        let depthwise = Step { stride, groups, ..Step::new(prefix, "_depthwise_conv", "_bn1") };
        let inner = self.activated(inner, &depthwise)?;
        let output = self.convolution(inner, &Step::new(prefix, "_project_conv", "_bn2"))?;
        if stride != 1 || output.channels != input.channels {
            return Ok(output);
        }
        let sum = self.builder.node("Add", vec![output.name, input.name], vec![]);
        Ok(Tensor { name: sum, ..output })
    }

    /// A normalised convolution with `ReLU6`.
    fn activated(&mut self, input: Tensor, step: &Step) -> Result<Tensor, ConvertError> {
        let output = self.convolution(input, step)?;
        let [low, high] = self.clip.clone();
        let name = self.builder.node("Clip", vec![output.name, low, high], vec![]);
        Ok(Tensor { name, ..output })
    }

    fn convolution(&mut self, input: Tensor, step: &Step) -> Result<Tensor, ConvertError> {
        let Step { conv, norm, stride, groups } = step;
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
            stride: *stride,
            groups: *groups,
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
        let axis = vec![Attribute::of_int("axis", 1)];
        self.builder.push(Node::giving("embedding", "Flatten", vec![pooled], axis));
        let Weights { shape, values } = self.find("_fc.weight")?.clone();
        let bias = self.find("_fc.bias")?.values.clone();
        let classes = bias.len();
        let matrix = self.builder.floats(&shape, values);
        let bias = self.builder.floats(&[classes], bias);
        let inputs = vec!["embedding".to_owned(), matrix, bias];
        let transposed = vec![Attribute::of_int("transB", 1)];
        self.builder.push(Node::giving("logits", "Gemm", inputs, transposed));
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

    fn find(&self, name: &str) -> Result<&Weights, ConvertError> {
        self.weights.get(name).ok_or_else(|| ConvertError::new(format!("the weight {name:?} is missing")))
    }
}
