//! Builds graphs.

use super::{Attribute, FLOAT, Graph, INT64, Model, Node, OperatorSet, Tensor, ValueInfo};

/// Builds a graph node by node. Names are given in order of making, so the same calls give the same bytes.
#[derive(Debug, Default)]
pub(crate) struct GraphBuilder {
    graph: Graph,
    named: usize,
}

impl GraphBuilder {
    /// An empty graph.
    pub(crate) fn new(name: &str) -> Self {
        Self { graph: Graph { name: name.to_owned(), ..Graph::default() }, named: 0 }
    }

    /// Adds a constant of 32-bit floats and gives its name. No `dims`: a scalar.
    pub(crate) fn floats(&mut self, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        let raw = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.constant(FLOAT, dims, raw)
    }

    /// Adds a constant list of whole numbers and gives its name.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(INT64, &[values.len()], raw)
    }

    fn constant(&mut self, data_type: i32, dims: &[usize], raw_data: Vec<u8>) -> String {
        let name = self.next_name("constant");
        let dims = dims.iter().map(|&side| side as i64).collect();
        self.graph.initializers.push(Tensor {
            dims,
            data_type,
            name: name.clone(),
            raw_data,
            ..Tensor::default()
        });
        name
    }

    /// Adds a node with one output and gives that output's name.
    pub(crate) fn node(&mut self, op_type: &str, inputs: Vec<String>, attributes: Vec<Attribute>) -> String {
        let output = self.next_name(op_type);
        self.push(Node::giving(&output, op_type, inputs, attributes));
        output
    }

    /// Adds a node as it is: for outputs whose names matter.
    pub(crate) fn push(&mut self, node: Node) {
        self.graph.nodes.push(node);
    }

    /// Ends the graph: IR version 8, operator set 13.
    pub(crate) fn finish(mut self, inputs: Vec<ValueInfo>, outputs: Vec<ValueInfo>) -> Model {
        self.graph.inputs = inputs;
        self.graph.outputs = outputs;
        Model {
            ir_version: 8,
            producer_name: "eyebolt-setup".to_owned(),
            graph: Some(self.graph),
            operator_sets: vec![OperatorSet { domain: Some(String::new()), version: 13 }],
            ..Model::default()
        }
    }

    fn next_name(&mut self, stem: &str) -> String {
        self.named += 1;
        format!("{stem}_{}", self.named)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::onnx::{Entry, ModelMetadata, fixed, float_value, named};

    #[test]
    fn a_built_graph_reads_back_the_same() {
        let mut builder = GraphBuilder::new("sum");
        let one = builder.floats(&[1, 2], [1.0, -0.5]);
        let sum = builder.node("Add", vec!["input".to_owned(), one], vec![]);
        let attributes = vec![Attribute::of_int("axis", 0), Attribute::of_ints("unused", &[0, -1])];
        builder.push(Node::giving("out", "Flatten", vec![sum], attributes));
        let declared = vec![float_value("input", [named("N"), fixed(2)])];
        let model = builder.finish(declared, vec![float_value("out", [fixed(1), named("M")])]);

        let read = Model::decode(model.encode_to_vec().as_slice()).unwrap();

        assert_eq!(read, model);
        let graph = read.graph.unwrap();
        assert_eq!(graph.initializers[0].raw_data, [0, 0, 128, 63, 0, 0, 0, 191]);
        assert_eq!(graph.nodes[1].attributes[0].int, Some(0), "a zero is written, not left out");
    }

    #[test]
    fn metadata_is_found_without_the_graph() {
        let entry = Entry { key: "character".to_owned(), value: "a\nb".to_owned() };
        let mut model = GraphBuilder::new("empty").finish(vec![], vec![]);
        model.metadata.push(entry.clone());
        let metadata = ModelMetadata::decode(model.encode_to_vec().as_slice()).unwrap();
        assert_eq!(metadata.entries, [entry]);
    }
}
