//! What a request would cost, without doing anything.

use std::time::Duration;

use eyebolt_store::{Principal, StoredJob};
use eyebolt_types::{
    Feature,
    pipeline::{Course, Pipeline, Stage},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    super::{
        Jobs, Room,
        document::{self, Intake},
    },
    progress::Ran,
};
use crate::{
    ApiError,
    admission::{Look, looks},
    analysis::Submission,
};

/// Megapixels of the image that a pipeline alone is predicted for.
const USUAL: f64 = 2.0;

/// What a request would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Prediction {
    /// Always `prediction`.
    pub object: String,
    /// Units at most: what would be reserved. Only what succeeds is charged.
    pub units: u64,
    /// Seconds of a worker, as far as this server has seen such work; without waiting.
    pub seconds: f64,
    /// Megapixels that this holds for.
    pub megapixels: f64,
    /// What would be done, in its order.
    pub steps: Vec<StepPrediction>,
}

/// What a step would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct StepPrediction {
    /// Its name in the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is asked.
    pub feature: Feature,
    /// The snapshot that would answer.
    pub model: Option<String>,
    /// Units at most.
    pub units: u64,
}

impl Jobs {
    /// Checks a request with its image as if it were to be run, and tells what it would cost.
    ///
    /// # Errors
    /// Where image or settings are refused.
    pub(crate) async fn estimate(
        &self,
        caller: &Principal,
        mut submission: Submission,
    ) -> Result<Prediction, ApiError> {
        self.name_resolved(caller, &mut submission.request).await?;
        let checked = self.0.tools.analyzer.check(&submission).await?;
        let megapixels = f64::from(checked.input.megapixels);
        if let Some(course) = &checked.course {
            return Ok(self.0.prediction(course, megapixels));
        }
        let steps = checked.snapshots.iter().map(|(feature, model)| StepPrediction {
            name: None,
            feature: *feature,
            model: model.clone(),
            units: 1,
        });
        let looks = looks(&submission.request, &checked.snapshots);
        let seconds = self.0.admission.predict(looks, megapixels);
        let object = "prediction".to_owned();
        Ok(Prediction { object, units: checked.units(), seconds, megapixels, steps: steps.collect() })
    }

    /// The same of a pipeline without an image: for one of two megapixels.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn predict_pipeline(&self, pipeline: &Pipeline) -> Result<Prediction, ApiError> {
        Ok(self.0.prediction(&self.checked(pipeline)?, USUAL))
    }
}

impl Room {
    fn prediction(&self, course: &Course, megapixels: f64) -> Prediction {
        let step = |&at: &usize| {
            let Stage { id, way, .. } = &course.stages[at];
            let units = course.stages[at].bound();
            StepPrediction { name: Some(id.clone()), feature: way.feature, model: way.model.clone(), units }
        };
        Prediction {
            object: "prediction".to_owned(),
            units: course.bound(),
            seconds: self.predict_course(course, megapixels),
            megapixels,
            steps: course.order.iter().map(step).collect(),
        }
    }

    /// Seconds that a pipeline will hold a worker: as many parts as there may be, which share the image.
    pub(in crate::jobs) fn predict_course(&self, course: &Course, megapixels: f64) -> f64 {
        let counted = course.stages.iter().map(|stage| (look(stage), stage.bound()));
        self.admission.predict_parts(counted.collect(), megapixels)
    }

    /// How long steps on the whole image took in this attempt says how long others will. What else it did, parts and what
    /// failed, is left out; what earlier attempts did is none of its time.
    pub(super) fn learn_of(
        &self,
        job: &StoredJob,
        (course, ran): (&Course, &[Ran]),
        took: Duration,
    ) -> Result<(), ApiError> {
        let Intake { input, .. } = document::read(&job.input)?;
        let (mut steps, mut rest) = (Vec::new(), took);
        for Ran { place, well, took } in ran {
            match &course.stages[place.0] {
                stage if place.1.is_none() && *well => steps.push((look(stage), *took)),
                _ => rest = rest.saturating_sub(*took),
            }
        }
        self.admission.learn(steps, input.megapixels.into(), rest);
        Ok(())
    }
}

fn look(stage: &Stage) -> Look {
    let way = &stage.way;
    Look { feature: way.feature, model: way.model.clone(), detail: way.request.detail_of(way.feature) }
}
