//! The server with its real models, as `eyebolt setup` brings them: without them these tests fail and say so.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use eyebolt_engine::{Engine, EngineSettings};
use eyebolt_server::{
    ApiError, Declared, Runner, Settings,
    admission::Worker,
    analysis::{Order, Sitting, Submission},
    run::{capabilities, freeze},
};
use eyebolt_types::{
    AnalyzeRequest, Class, Clock, ErrorCode, Feature, Job, JobStatus, Results, StepStatus,
    id::JobId,
    pipeline::Region,
    request::QualityGate,
    result::{Objects, Verdict},
};
use tokio::sync::{mpsc, oneshot};

const SAMPLE: &[u8] = include_bytes!("../../assets/sample.jpg");

/// ONNX Runtime is loaded once a process, so all tests share one engine.
static ENGINE: LazyLock<Runner> = LazyLock::new(|| runner("onnxruntime"));

fn runner(backend: &str) -> Runner {
    let variables = [("EYEBOLT_BACKEND", backend), ("EYEBOLT_ENGINE_DECODER", "in_server")];
    let dir = std::env::var("EYEBOLT_MODELS_DIR").map(|dir| ("EYEBOLT_MODELS_DIR".to_owned(), dir));
    let variables =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(dir.ok());
    let nowhere: Option<PathBuf> = None;
    let settings = Settings::load(nowhere.as_deref(), variables).expect("settings are sound");
    let engine: EngineSettings = settings.engine(Vec::new());
    let engine = Engine::start(engine).expect("eyebolt setup has brought the runtime library");
    assert!(
        engine.models().all().len() >= 6,
        "eyebolt setup has brought the models: {:?}",
        engine.models().errors()
    );
    Runner { engine: engine.into(), clock: Clock::system(), mismatch: settings.ingest.extension_mismatch }
}

async fn ask(runner: &Runner, image: &'static [u8], request: &AnalyzeRequest) -> Result<Job, ApiError> {
    runner.run(Bytes::from_static(image), request, &Declared::default()).await
}

fn labels(objects: &Objects) -> Vec<&str> {
    objects.items.iter().map(|item| item.label.as_str()).collect()
}

#[tokio::test]
async fn one_request_finds_everything_in_one_picture() {
    let job = ask(&ENGINE, SAMPLE, &AnalyzeRequest::of(Feature::ALL)).await.unwrap();
    assert_eq!(job.status, JobStatus::Succeeded);
    assert_eq!((job.input.width, job.input.height, job.usage.units), (1000, 640, 7));
    assert!(
        job.steps
            .iter()
            .all(|step| step.status == StepStatus::Succeeded && step.finished_at <= job.finished_at)
    );
    let results = job.results.features().unwrap().clone();
    let objects = results.objects.unwrap();
    assert_eq!(objects.model, "ssdlite-mobilenet-v2@1");
    assert!(
        labels(&objects).starts_with(&["cat", "person"]) || labels(&objects).starts_with(&["person", "cat"])
    );
    let faces = results.faces.unwrap().items;
    assert_eq!(faces.len(), 1);
    let (face, marks) = (faces[0].bounds, faces[0].landmarks);
    assert!((190.0..220.0).contains(&face.x) && (70.0..100.0).contains(&face.y), "{face:?}");
    assert!(
        marks.left_eye[0] < marks.nose[0]
            && marks.nose[0] < marks.right_eye[0]
            && marks.nose[1] < marks.mouth_left[1]
    );
    let text = results.text.unwrap();
    for line in ["One picture, one answer,", "asked as often as you like.", "Ring that bears load: EB-2048"] {
        assert!(text.lines.iter().any(|read| read.text == line), "{line:?} is not in {:?}", text.text);
    }
    assert_eq!(results.barcodes.unwrap().items[0].text, "EYEBOLT SAMPLE 1");
    assert!((1..=5).contains(&results.labels.unwrap().items.len()));
    let vector = results.embedding.unwrap().vector;
    assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-3);
    let quality = results.quality.unwrap();
    assert!(quality.acceptable && quality.verdicts.iter().all(|one| one.verdict != Verdict::Fail));
    assert_eq!((quality.pixel_digest.len(), quality.perceptual_hash.len()), (64, 16));
}

/// What the two backends may differ by: confidences by 0.01, places by 1 pixel.
#[tokio::test]
async fn both_backends_give_the_same_answers() {
    let request = AnalyzeRequest::of([Feature::Objects, Feature::Faces, Feature::Text, Feature::Embedding]);
    let rten = runner("rten");
    let (one, other) =
        (ask(&ENGINE, SAMPLE, &request).await.unwrap(), ask(&rten, SAMPLE, &request).await.unwrap());
    let (one, other) = (one.results.features().unwrap().clone(), other.results.features().unwrap().clone());
    let (objects, others) = (one.objects.unwrap(), other.objects.unwrap());
    assert_eq!(labels(&objects), labels(&others));
    for (a, b) in objects.items.iter().zip(&others.items) {
        assert!((a.confidence - b.confidence).abs() < 0.01 && (a.bounds.x - b.bounds.x).abs() < 1.0);
    }
    let (faces, others) = (one.faces.unwrap().items, other.faces.unwrap().items);
    assert_eq!(faces.len(), others.len());
    assert!((faces[0].landmarks.nose[0] - others[0].landmarks.nose[0]).abs() < 1.0);
    assert_eq!(one.text.unwrap().text, other.text.unwrap().text);
    let (a, b) = (one.embedding.unwrap().vector, other.embedding.unwrap().vector);
    let cosine: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.9999, "{cosine}");
}

#[tokio::test]
async fn what_the_models_do_not_know_is_refused_by_its_name() {
    let code = |error: ApiError| error.problem().code;
    let mut request = AnalyzeRequest::of([Feature::Objects]);
    request.parameters.objects.model = Some("nobody".to_owned());
    assert_eq!(code(ask(&ENGINE, SAMPLE, &request).await.unwrap_err()), ErrorCode::UnknownModel);
    request.parameters.objects.model = Some("centerface".to_owned());
    assert_eq!(code(ask(&ENGINE, SAMPLE, &request).await.unwrap_err()), ErrorCode::ModelMismatch);
    request.parameters.objects.model = None;
    request.parameters.objects.labels = Some(vec!["cat".to_owned(), "unicorn".to_owned()]);
    let error = ask(&ENGINE, SAMPLE, &request).await.unwrap_err();
    assert_eq!(error.problem().errors[0].pointer, "/parameters/objects/labels/1");
    let mut request = AnalyzeRequest::of([Feature::Text]);
    request.parameters.text.languages = Some(vec!["en".to_owned(), "th".to_owned()]);
    assert_eq!(code(ask(&ENGINE, SAMPLE, &request).await.unwrap_err()), ErrorCode::UnsupportedLanguage);
}

#[tokio::test]
async fn every_setting_that_the_models_refuse_has_its_place() {
    let mut request = AnalyzeRequest::of([Feature::Objects, Feature::Text, Feature::Labels]);
    request.parameters.objects.labels = Some(vec!["cat".to_owned(), "<dogg>".to_owned()]);
    request.parameters.text.languages = Some(vec!["th".to_owned()]);
    request.parameters.labels.model = Some("nobody".to_owned());
    let by_field = |by_field| Submission {
        bytes: Bytes::from_static(SAMPLE),
        sha256: [0; 32],
        request: request.clone(),
        declared: Declared::default(),
        by_field,
        memory: None,
    };
    let analyzer = ENGINE.clone().analyzer();
    let mut told = Vec::new();
    for submission in [by_field(false), by_field(true)] {
        let error = analyzer.check(&submission).await.unwrap_err();
        let places = error.problem().errors.iter().map(|place| place.pointer.clone()).collect::<Vec<_>>();
        told.push((error.problem().detail.clone(), places));
    }
    assert_eq!(
        told[0].1,
        ["/parameters/objects/labels/1", "/parameters/text/languages", "/parameters/labels/model"]
    );
    assert_eq!(told[1].1, ["objects.labels", "text.languages", "labels.model"]);
    let (by_field, model) = (&told[1].0, "ssdlite-mobilenet-v2@1");
    assert_eq!(
        *by_field,
        format!(
            "objects.labels: is ?dogg?, and {model} does not know this label; GET /v1/models/{model} lists them. 2 more places are \
             wrong."
        )
    );
}

#[tokio::test]
async fn small_figures_of_quality_are_told() {
    let white = image::RgbImage::from_pixel(200, 200, image::Rgb([255, 255, 255]));
    let mut png = std::io::Cursor::new(Vec::new());
    white.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let request = AnalyzeRequest::of([Feature::Objects]);
    let refused = ask(&ENGINE, png.into_inner().leak(), &request).await.unwrap_err();
    let content = refused.problem().errors.iter().find(|one| one.pointer == "content").unwrap();
    assert_eq!(content.detail, "content is 0 share of pixels, the limit is 0.000300");
}

#[tokio::test]
async fn the_quality_gate_refuses_warns_or_is_off() {
    let black = image::RgbImage::from_pixel(200, 200, image::Rgb([2, 2, 2]));
    let mut png = std::io::Cursor::new(Vec::new());
    black.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png: &'static [u8] = png.into_inner().leak();
    let mut request = AnalyzeRequest::of([Feature::Objects]);
    let refused = ask(&ENGINE, png, &request).await.unwrap_err();
    let problem = refused.problem();
    assert_eq!((problem.status, problem.retryable), (422, false));
    assert!(["blank_image", "too_dark"].contains(&problem.code.as_str()), "{}", problem.code);
    assert!(
        problem.params.contains_key("limit") && problem.params.contains_key("found"),
        "{:?}",
        problem.params
    );
    request.quality_gate = QualityGate::Warn;
    let warned = ask(&ENGINE, png, &request).await.unwrap();
    assert!(
        warned.warnings.iter().any(|warning| warning.code == problem.code.as_str()),
        "{:?}",
        warned.warnings
    );
    request.quality_gate = QualityGate::Off;
    assert_eq!(ask(&ENGINE, png, &request).await.unwrap().warnings, []);
}

#[tokio::test]
async fn small_things_need_a_closer_look() {
    let mut request = AnalyzeRequest::of([Feature::Faces]);
    request.parameters.faces.input_size = Some(64);
    let far = ask(&ENGINE, SAMPLE, &request)
        .await
        .unwrap()
        .results
        .features()
        .unwrap()
        .faces
        .as_ref()
        .unwrap()
        .items
        .len();
    request.parameters.faces.input_size = Some(640);
    let near = ask(&ENGINE, SAMPLE, &request)
        .await
        .unwrap()
        .results
        .features()
        .unwrap()
        .faces
        .as_ref()
        .unwrap()
        .items
        .len();
    assert_eq!((far, near), (0, 1));
}

#[tokio::test]
async fn the_capabilities_name_every_model_and_what_it_cannot_read() {
    let capabilities = capabilities(&ENGINE.engine);
    assert_eq!(capabilities.features, Feature::ALL);
    let reader =
        capabilities.data.iter().find(|model| model.aliases.contains(&"text/default".to_owned())).unwrap();
    assert!(
        reader.languages.contains(&"en".to_owned())
            && reader.unsupported_languages.contains(&"ru".to_owned())
    );
    assert_eq!(reader.backend, "onnxruntime");
    assert!(ENGINE.engine.canary().await.is_ok());
}

/// Runs a pipeline on the sample as a job's attempt does: steps in order, and each part that follows.
async fn follow(name: &str) -> (Vec<(String, Results)>, u64) {
    let sample = Bytes::from_static(SAMPLE);
    let pipeline = &eyebolt_types::pipeline::preset(name).unwrap().pipeline;
    // An engine of its own, so that nobody else decodes.
    let runner = runner("rten");
    let course = Arc::new(freeze(&runner.engine, pipeline, &AnalyzeRequest::default()).unwrap());
    let (order, orders) = mpsc::unbounded_channel();
    let (job, token) = (JobId::new(), 1);
    let (memory, worker) = (None, Worker::default());
    let sitting = Sitting {
        job,
        token,
        class: Class::Interactive,
        bytes: sample,
        memory,
        worker,
        course: Arc::clone(&course),
        orders,
    };
    let one = async move |step: usize, part: Option<(u32, Region)>| {
        let ((begun, _), (done, is_done)) = (oneshot::channel(), oneshot::channel());
        order.send(Order { step, fallback: false, part, begun, done }).unwrap();
        is_done.await.unwrap().unwrap()
    };
    let following = async move {
        let mut all: Vec<(String, Results)> = Vec::new();
        for &step in &course.order {
            let stage = &course.stages[step];
            let Some(each) = &stage.each else {
                all.push((stage.id.clone(), one(step, None).await));
                continue;
            };
            let of = all.iter().find(|(id, _)| *id == course.stages[each.of].id).unwrap().1.clone();
            let (regions, _) = each.regions((&of, (1000, 640)), stage.crop);
            for (number, region) in (0..).zip(regions) {
                all.push((format!("{}/{number}", stage.id), one(step, Some((number, region))).await));
            }
        }
        drop(one);
        all
    };
    let (sat, all) = tokio::join!(runner.sit(sitting), following);
    sat.unwrap();
    (all, runner.engine.decodes())
}

/// The pipelines that are always there, on the real models.
#[tokio::test]
async fn the_presets_find_what_they_say_in_one_decoded_picture() {
    let (faces, decodes) = follow("faces-with-quality").await;
    assert_eq!((faces[0].0.as_str(), faces[1].0.as_str(), faces.len()), ("faces", "quality/0", 2));
    assert_eq!(decodes, 1);
    let face = faces[1].1.quality.as_ref().unwrap();
    let whole = ask(&ENGINE, SAMPLE, &AnalyzeRequest::of([Feature::Quality])).await.unwrap();
    let whole = whole.results.features().unwrap().quality.clone().unwrap();
    assert_ne!(face.pixel_digest, whole.pixel_digest, "the part was measured, and not the whole");

    let (document, decodes) = follow("document").await;
    assert_eq!(decodes, 1);
    assert!(document[0].1.text.as_ref().unwrap().text.contains("EB-2048"));
    assert_eq!(document[1].1.barcodes.as_ref().unwrap().items[0].text, "EYEBOLT SAMPLE 1");

    let (signs, decodes) = follow("read-signs").await;
    assert_eq!(decodes, 1);
    assert!(signs.len() >= 3 && signs[0].1.objects.is_some(), "{}", signs.len());
    let found = &signs[0].1.objects.as_ref().unwrap().items;
    for ((name, read), object) in signs[1..].iter().zip(found) {
        // Where a line lies is told in pixels of the whole image: on the thing that it was read on.
        for line in &read.text.as_ref().unwrap().lines {
            let own = object.bounds.intersection(&line.bounds);
            assert!(own > 0.5 * line.bounds.area(), "{name}: {:?} on {:?}", line.bounds, object.bounds);
        }
    }
}
