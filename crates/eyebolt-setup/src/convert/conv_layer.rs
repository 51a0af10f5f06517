//! A convolution whose scaling and shifting neighbours are folded into its weights.

use super::ConvertError;
use crate::onnx::{Attribute, GraphBuilder};

/// A tensor of the graph under construction: a square image with channels.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    /// Its name in the graph.
    pub(crate) name: String,
    /// Width and height.
    pub(crate) side: usize,
    /// Number of channels.
    pub(crate) channels: usize,
}

/// A convolution with square kernel, in the layout of ONNX. Folding is done in 64 bits: weights are rounded once.
#[derive(Debug)]
pub(crate) struct ConvLayer {
    /// What it reads.
    pub(crate) input: Tensor,
    /// \[output channels, input channels ÷ groups, kernel, kernel\].
    pub(crate) shape: [usize; 4],
    /// In the order of `shape`.
    pub(crate) weights: Vec<f64>,
    /// One for each output channel.
    pub(crate) bias: Vec<f64>,
    /// Step in both directions.
    pub(crate) stride: usize,
    /// 1, or the number of channels for a depthwise convolution.
    pub(crate) groups: usize,
    /// Whether the output has ⌈side ÷ stride⌉, or only whole kernels are laid.
    pub(crate) same_padding: bool,
}

/// The learned statistics of a batch normalisation, one value a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchNorm<'a> {
    /// Multiplied after normalising.
    pub(crate) gamma: &'a [f32],
    /// Added after that.
    pub(crate) beta: &'a [f32],
    /// Taken off first.
    pub(crate) mean: &'a [f32],
    /// Squared spread; `epsilon` is added to it.
    pub(crate) variance: &'a [f32],
    /// Keeps the root away from zero.
    pub(crate) epsilon: f64,
}

impl ConvLayer {
    /// Multiplies each output channel by its factor.
    pub(crate) fn scale(&mut self, factors: &[f64]) -> Result<(), ConvertError> {
        let per_channel = self.shape[1..].iter().product::<usize>().max(1);
        for (channel, weights) in self.weights.chunks_mut(per_channel).enumerate() {
            let factor = channel_value(factors, channel)?;
            for weight in weights {
                *weight *= factor;
            }
        }
        for (channel, bias) in self.bias.iter_mut().enumerate() {
            *bias *= channel_value(factors, channel)?;
        }
        Ok(())
    }

    /// Adds to each output channel its summand.
    pub(crate) fn shift(&mut self, summands: &[f64]) -> Result<(), ConvertError> {
        for (channel, bias) in self.bias.iter_mut().enumerate() {
            *bias += channel_value(summands, channel)?;
        }
        Ok(())
    }

    /// Folds a batch normalisation: (x − mean) ÷ √(variance + ε) × γ + β.
    pub(crate) fn normalise(&mut self, norm: BatchNorm<'_>) -> Result<(), ConvertError> {
        let factors: Vec<f64> = norm
            .gamma
            .iter()
            .zip(norm.variance)
            .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + norm.epsilon).sqrt())
            .collect();
        let summands: Vec<f64> = norm
            .beta
            .iter()
            .zip(norm.mean)
            .zip(&factors)
            .map(|((&beta, &mean), factor)| f64::from(beta) - f64::from(mean) * factor)
            .collect();
        self.scale(&factors)?;
        self.shift(&summands)
    }

    /// Writes the convolution into the graph and gives its output.
    pub(crate) fn emit(self, graph: &mut GraphBuilder) -> Result<Tensor, ConvertError> {
        let [channels, _, kernel, kernel_width] = self.shape;
        if kernel != kernel_width || kernel == 0 || self.stride == 0 {
            return Err(ConvertError::new(format!(
                "a {kernel}×{kernel_width} convolution with stride {} is not supported",
                self.stride
            )));
        }
        let (side, before, after) = self.padding(kernel)?;
        let weights = graph.floats(&self.shape, self.weights.iter().map(|&weight| weight as f32));
        let bias = graph.floats(&[channels], self.bias.iter().map(|&bias| bias as f32));
        let attributes = vec![
            Attribute::of_ints("kernel_shape", &[kernel as i64; 2]),
            Attribute::of_ints("strides", &[self.stride as i64; 2]),
            Attribute::of_int("group", self.groups as i64),
            Attribute::of_ints("pads", &[before, before, after, after]),
        ];
        let name = graph.node("Conv", vec![self.input.name, weights, bias], attributes);
        Ok(Tensor { name, side, channels })
    }

    /// Output side, padding before and after. `SAME` of TensorFlow puts the odd pixel at the end.
    fn padding(&self, kernel: usize) -> Result<(usize, i64, i64), ConvertError> {
        let side = self.input.side;
        if self.same_padding {
            let output = side.div_ceil(self.stride);
            let total = (output.saturating_sub(1) * self.stride + kernel).saturating_sub(side);
            return Ok((output, (total / 2) as i64, (total - total / 2) as i64));
        }
        let room = side.checked_sub(kernel).ok_or_else(|| {
            ConvertError::new(format!("a kernel of {kernel} does not fit into an image of {side}"))
        })?;
        Ok((room / self.stride + 1, 0, 0))
    }
}

/// The value of a channel in a list with one value for each, or one for all.
fn channel_value(values: &[f64], channel: usize) -> Result<f64, ConvertError> {
    let found = if let [single] = values { Some(single) } else { values.get(channel) };
    found.copied().ok_or_else(|| ConvertError::new(format!("no value for channel {channel}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(side: usize, kernel: usize, stride: usize) -> ConvLayer {
        ConvLayer {
            input: Tensor { name: "x".to_owned(), side, channels: 1 },
            shape: [2, 1, kernel, kernel],
            weights: vec![1.0; 2 * kernel * kernel],
            bias: vec![1.0, 2.0],
            stride,
            groups: 1,
            same_padding: true,
        }
    }

    #[test]
    fn a_batch_normalisation_folds_into_weights_and_bias() {
        let mut folded = layer(4, 1, 1);
        let norm = BatchNorm {
            gamma: &[2.0, 3.0],
            beta: &[10.0, 20.0],
            mean: &[0.5, -1.0],
            variance: &[3.0, 8.0],
            epsilon: 1.0,
        };
        folded.normalise(norm).unwrap();
        // γ ÷ √(variance + ε) is 1 for both channels; (bias − mean) × 1 + β.
        assert_eq!(folded.weights, [1.0, 1.0]);
        assert_eq!(folded.bias, [10.5, 23.0]);
    }

    #[test]
    fn a_list_that_is_too_short_is_refused() {
        assert!(layer(4, 1, 1).scale(&[]).is_err());
        assert!(layer(4, 1, 1).shift(&[1.0, 2.0]).is_ok());
        let mut three = layer(4, 1, 1);
        three.bias.push(0.0);
        assert!(three.shift(&[1.0, 2.0]).is_err());
    }

    #[test]
    fn same_padding_puts_the_odd_pixel_at_the_end() {
        assert_eq!(layer(300, 3, 2).padding(3).unwrap(), (150, 0, 1));
        assert_eq!(layer(19, 3, 2).padding(3).unwrap(), (10, 1, 1));
        assert_eq!(layer(7, 5, 1).padding(5).unwrap(), (7, 2, 2));
        let valid = ConvLayer { same_padding: false, ..layer(7, 3, 2) };
        assert_eq!(valid.padding(3).unwrap(), (3, 0, 0));
        let narrow = ConvLayer { same_padding: false, ..layer(2, 3, 1) };
        assert!(narrow.padding(3).is_err());
    }
}
