//! What the work of a step or a part is known by: equal where the same is done with the same findings.

use aws_lc_rs::digest::{Context, SHA256, digest};
use eyebolt_types::pipeline::Stage;

/// What is the same for all work of a job.
#[derive(Debug, Clone)]
pub(super) struct KeyBase {
    pub(super) project: String,
    pub(super) pipeline: String,
    pub(super) image: Vec<u8>,
}

impl KeyBase {
    /// SHA-256 over project, pipeline, what the step builds on, step, part, model and settings, each with its length before it.
    pub(super) fn key(&self, stage: &Stage, parents: &[Vec<u8>], number: Option<u32>) -> Vec<u8> {
        let number = number.map_or_else(Vec::new, |number| number.to_be_bytes().to_vec());
        let settings = serde_json::to_vec(&stage.way.request).expect("a request is plain data");
        let model = stage.way.model.as_deref().unwrap_or_default();
        let (project, pipeline) = (self.project.as_bytes(), self.pipeline.as_bytes());
        let mut context = Context::new(&SHA256);
        let own =
            [b"eyebolt work 1".as_slice(), project, pipeline, &self.image, stage.id.as_bytes(), &number];
        let rest = [model.as_bytes(), settings.as_slice()];
        for part in own.into_iter().chain(rest).chain(parents.iter().map(Vec::as_slice)) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.finish().as_ref().to_vec()
    }
}

/// Digest of what a step found.
pub(super) fn digest_of_result(result: &[u8]) -> Vec<u8> {
    digest(&SHA256, result).as_ref().to_vec()
}
