//! Pipelines that have a name: those of a project, and those that are always there.

use aws_lc_rs::digest::{SHA256, digest};
use eyebolt_store::{PipelineFilter, Principal, StoredPipeline};
use eyebolt_types::{
    AnalyzeRequest, ErrorCode,
    pipeline::{PRESETS, Pipeline, PipelineChoice, PipelineRef, Preset, preset},
};
use jiff::Timestamp;

use super::super::{Jobs, document};
use crate::{ApiError, ingest::IngestError, problem::shown};

/// A version of a pipeline.
#[derive(Debug, Clone)]
pub(crate) struct NamedPipeline {
    pub(crate) name: String,
    pub(crate) version: u32,
    /// Whether its name alone means this version.
    pub(crate) is_default: bool,
    /// Whether it is always there.
    pub(crate) preset: bool,
    pub(crate) digest: String,
    pub(crate) pipeline: Pipeline,
    pub(crate) created_at: Option<Timestamp>,
}

/// SHA-256 of a pipeline as it is written, hex.
pub(crate) fn digest_of(pipeline: &Pipeline) -> String {
    let text = serde_json::to_vec(pipeline).expect("a pipeline is plain data");
    hex::encode(digest(&SHA256, &text))
}

impl NamedPipeline {
    /// `name@version`.
    pub(crate) fn named(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn of_preset(preset: &Preset) -> Self {
        Self {
            name: preset.name.to_owned(),
            version: preset.version,
            is_default: true,
            preset: true,
            digest: digest_of(&preset.pipeline),
            pipeline: preset.pipeline.clone(),
            created_at: None,
        }
    }

    fn of_stored(stored: StoredPipeline) -> Result<Self, ApiError> {
        Ok(Self {
            pipeline: document::read(&stored.pipeline)?,
            name: stored.name,
            version: stored.version,
            is_default: stored.is_default,
            preset: false,
            digest: stored.digest,
            created_at: Some(stored.created_at),
        })
    }
}

/// Which versions of pipelines are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct PipelinePage {
    /// Only of this one.
    pub(crate) name: Option<String>,
    /// Only those behind this name and version.
    pub(crate) after: Option<(String, u32)>,
    pub(crate) limit: u32,
}

impl PipelinePage {
    /// Those of it that are always there. They stand before all others.
    fn presets(&self) -> Vec<NamedPipeline> {
        let named = |preset: &&Preset| self.name.as_ref().is_none_or(|name| preset.name == *name);
        let behind = match &self.after {
            None => 0,
            Some((after, _)) => {
                let place = PRESETS.iter().position(|preset| preset.name == *after);
                place.map_or(PRESETS.len(), |place| place + 1)
            }
        };
        PRESETS.iter().skip(behind).filter(named).map(NamedPipeline::of_preset).collect()
    }
}

impl Jobs {
    /// Pipelines that are always there, then those of the caller's project and mode; and whether there are more.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn pipelines(
        &self,
        caller: &Principal,
        page: PipelinePage,
    ) -> Result<(Vec<NamedPipeline>, bool), ApiError> {
        let (mut found, limit) = (page.presets(), page.limit as usize);
        if found.len() <= limit {
            let filter = PipelineFilter {
                whose: (caller.project, caller.mode),
                name: page.name,
                after: page.after.filter(|(name, _)| preset(name).is_none()),
                limit: (limit + 1 - found.len()) as u32,
            };
            for stored in self.0.tools.store.pipelines(filter).await? {
                found.push(NamedPipeline::of_stored(stored)?);
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// The pipeline that `name` or `name@version` means.
    ///
    /// # Errors
    /// `pipeline_not_found`.
    pub(crate) async fn pipeline(&self, caller: &Principal, asked: &str) -> Result<NamedPipeline, ApiError> {
        let (name, version) = match asked.split_once('@') {
            None => (asked, None),
            Some((name, version)) => (name, Some(version.parse().map_err(|_| no_pipeline(asked))?)),
        };
        if let Some(preset) = preset(name) {
            let there = version.is_none_or(|version| version == preset.version);
            return there.then(|| NamedPipeline::of_preset(preset)).ok_or_else(|| no_pipeline(asked));
        }
        let whose = (caller.project, caller.mode);
        let found = self.0.tools.store.pipeline(whose, (name.to_owned(), version)).await?;
        NamedPipeline::of_stored(found.ok_or_else(|| no_pipeline(asked))?)
    }

    /// Checks a pipeline and writes it as the next version of its name, unless the newest one is the same; and whether it did.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) async fn create_pipeline(
        &self,
        caller: &Principal,
        (name, pipeline): (&str, &Pipeline),
    ) -> Result<(NamedPipeline, bool), ApiError> {
        let room = &self.0;
        if !is_name(name) {
            let detail = "must begin with a small letter and go on with at most 63 of a-z, 0-9, _ and -";
            return Err(ApiError::wrong_field("/name", detail.to_owned()));
        }
        if preset(name).is_some() {
            let detail = format!("{name} is always there, and can't be another pipeline.");
            return Err(ApiError::new(ErrorCode::PipelineReserved, detail));
        }
        self.checked(pipeline)?;
        let (whose, text) = ((caller.project, caller.mode), document::write(pipeline));
        let row = (name.to_owned(), digest_of(pipeline), text);
        let (stored, created) = room.tools.store.create_pipeline(whose, row, room.now()).await?;
        Ok((NamedPipeline::of_stored(stored)?, created))
    }

    /// Says which version a name alone means; `None`: the newest one.
    ///
    /// # Errors
    /// `pipeline_not_found`; `pipeline_reserved` of one that is always there.
    pub(crate) async fn set_default_pipeline(
        &self,
        caller: &Principal,
        (name, version): (&str, Option<u32>),
    ) -> Result<NamedPipeline, ApiError> {
        if preset(name).is_some() {
            let detail = format!("{name} is always there, in one version.");
            return Err(ApiError::new(ErrorCode::PipelineReserved, detail));
        }
        let whose = (caller.project, caller.mode);
        if !self.0.tools.store.set_default_pipeline(whose, (name.to_owned(), version)).await? {
            let asked = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
            return Err(no_pipeline(&asked));
        }
        self.pipeline(caller, name).await
    }

    /// Puts the pipeline itself in the place of its name; and what the job tells of it.
    ///
    /// # Errors
    /// `pipeline_not_found`.
    pub(in crate::jobs) async fn name_resolved(
        &self,
        caller: &Principal,
        request: &mut AnalyzeRequest,
    ) -> Result<Option<PipelineRef>, ApiError> {
        Ok(match &request.pipeline {
            None => None,
            Some(PipelineChoice::Inline(pipeline)) => {
                Some(PipelineRef { name: None, digest: digest_of(pipeline) })
            }
            Some(PipelineChoice::Named(name)) => {
                let found = self.pipeline(caller, name).await?;
                let name = found.named();
                request.pipeline = Some(PipelineChoice::Inline(Box::new(found.pipeline)));
                Some(PipelineRef { name: Some(name), digest: found.digest })
            }
        })
    }

    /// How a pipeline would be run.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(in crate::jobs) fn checked(
        &self,
        pipeline: &Pipeline,
    ) -> Result<eyebolt_types::pipeline::Course, IngestError> {
        self.0.tools.analyzer.freeze(pipeline, &AnalyzeRequest::default())
    }
}

fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    name.len() <= 64 && name.bytes().all(rest) && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
}

fn no_pipeline(name: &str) -> ApiError {
    let name = shown(name);
    let mut error = ApiError::new(ErrorCode::PipelineNotFound, format!("There is no pipeline {name}."));
    error.problem_mut().params.insert("name".to_owned(), name.into());
    error
}
