use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    AnalyzeRequest, BoundingBox, ErrorCode, Feature, FieldError, Results,
    result::{ConfidenceBand, Face, Faces, Landmarks, Object, Objects, Text, TextLine},
};

fn freeze(pipeline: &Value) -> Result<Course, Vec<FieldError>> {
    let pipeline: Pipeline = serde_json::from_value(pipeline.clone()).unwrap();
    freeze_read(&pipeline)
}

fn freeze_read(pipeline: &Pipeline) -> Result<Course, Vec<FieldError>> {
    let task = |name: &str| (name == "cats").then_some(Feature::Objects);
    let snapshot = |request: &AnalyzeRequest| Ok(Some(format!("{}@1", request.features[0])));
    Course::freeze(pipeline, &AnalyzeRequest::default(), &Asked { task: &task, snapshot: &snapshot })
}

fn places(pipeline: &Value) -> Vec<(String, ErrorCode)> {
    let errors = freeze(pipeline).unwrap_err();
    errors.into_iter().map(|error| (error.pointer, error.code)).collect()
}

fn signs() -> Value {
    json!({"steps": [
        {"id": "read", "feature": "text", "for_each": {"step": "find", "labels": ["sign"], "max_items": 7}},
        {"id": "find", "model": "cats", "params": {"max_results": 9}}
    ]})
}

#[test]
fn every_preset_is_sound() {
    assert_eq!(PRESETS.len(), 3);
    for one in PRESETS.iter() {
        let course = freeze_read(&one.pipeline).unwrap();
        assert!(course.bound() <= MAX_UNITS && preset(one.name).is_some());
    }
    assert!(preset("nothing").is_none());
}

#[test]
fn what_needs_comes_after_what_it_needs_and_costs_what_it_may() {
    let course = freeze(&signs()).unwrap();
    assert_eq!((course.order.clone(), course.bound(), course.has_regions()), (vec![1, 0], 8, true));
    assert_eq!(course.stages[1].way.request.parameters.objects.max_results, Some(9));
    assert_eq!(course.stages[1].way.model.as_deref(), Some("objects@1"));
    assert_eq!((course.with_dependents(1), course.with_dependents(0)), (vec![1, 0], vec![0]));
    let written = course.written(serde_json::from_value(signs()).unwrap());
    assert_eq!(written.steps[1].feature, Some(Feature::Objects));
    let again = Course::thaw(&written, &AnalyzeRequest::default()).unwrap();
    assert_eq!(again, course, "what was frozen is run as it was");
}

#[test]
fn every_mistake_is_told_at_once_and_with_its_place() {
    use ErrorCode::{InvalidParameter, InvalidPipeline, UnknownModel, UnknownParameter};
    let wrong = json!({"steps": [
        {"id": "Bad", "feature": "labels", "needs": ["nowhere"], "timeout": 0},
        {"id": "a", "feature": "text", "needs": ["b"], "params": {"detial": "low", "max_results": 0}},
        {"id": "b", "feature": "objects", "needs": ["a"], "on_error": "fallback"},
        {"id": "b", "model": "dogs", "crop": {}},
        {"id": "c", "feature": "text", "for_each": {"step": "Bad", "max_items": 101}},
        {"id": "d", "feature": "quality", "model": "x", "for_each": {"step": "c"}},
        {"id": "e"}
    ]});
    let found = places(&wrong);
    let expected = [
        ("/steps/0/id", InvalidPipeline),
        ("/steps/0/timeout", InvalidParameter),
        ("/steps/2/fallback", InvalidPipeline),
        ("/steps/3/id", InvalidPipeline),
        ("/steps/3/crop", InvalidPipeline),
        ("/steps/4/for_each/max_items", InvalidParameter),
        ("/steps/0/needs/0", InvalidPipeline),
        ("/steps/1", InvalidPipeline),
        ("/steps/2", InvalidPipeline),
        ("/steps/1/params/detial", UnknownParameter),
        ("/steps/1/params/max_results", InvalidParameter),
        ("/steps/3/model", UnknownModel),
        ("/steps/5/model", InvalidParameter),
        ("/steps/6", InvalidPipeline),
        ("/steps/4/for_each/step", InvalidPipeline),
        ("/steps/5/for_each/step", InvalidPipeline),
    ];
    assert_eq!(found, expected.map(|(place, code)| (place.to_owned(), code)));
}

#[test]
fn labels_have_no_place_and_faces_no_labels() {
    let over = |of: &str, each: Value| {
        let mut each = each;
        each["step"] = json!("a");
        json!({"steps": [{"id": "a", "feature": of}, {"id": "b", "feature": "text", "for_each": each}]})
    };
    assert_eq!(places(&over("labels", json!({})))[0].0, "/steps/1/for_each/step");
    assert_eq!(places(&over("faces", json!({"labels": ["cat"]})))[0].0, "/steps/1/for_each/labels");
    assert!(freeze(&over("barcodes", json!({}))).is_ok());
    let many = |n: usize| {
        let step = |i: usize| json!({"id": format!("s{i}"), "feature": "text", "for_each": {"step": "a", "max_items": 50}});
        let mut steps = vec![json!({"id": "a", "feature": "objects"})];
        steps.extend((0..n).map(step));
        json!({ "steps": steps })
    };
    assert!(freeze(&many(3)).is_ok());
    assert_eq!(places(&many(4)), [("/steps".to_owned(), ErrorCode::InvalidPipeline)]);
}

#[test]
fn a_choice_is_a_name_or_a_pipeline() {
    let named: PipelineChoice = serde_json::from_value(json!("signs@2")).unwrap();
    assert_eq!(named, PipelineChoice::Named("signs@2".to_owned()));
    let inline: PipelineChoice = serde_json::from_value(signs()).unwrap();
    assert!(matches!(inline, PipelineChoice::Inline(pipeline) if pipeline.steps.len() == 2));
    assert!(serde_json::from_value::<PipelineChoice>(json!(7)).is_err());
}

fn object(label: &str, confidence: f32, bounds: [f32; 4]) -> Object {
    let [x, y, width, height] = bounds;
    let bounds = BoundingBox { x, y, width, height };
    Object { label: label.to_owned(), confidence, confidence_band: ConfidenceBand::High, bounds }
}

fn objects(items: Vec<Object>) -> Results {
    let objects = Objects { model: "m@1".to_owned(), confidence_guide: String::new(), items };
    Results { objects: Some(objects), ..Results::default() }
}

const ALL: Each = Each { of: 0, labels: None, min_confidence: 0.0, min_size: 8, max_items: 2 };

#[test]
fn things_are_chosen_by_label_confidence_and_size_and_no_more_than_allowed() {
    let found = objects(vec![
        object("sign", 0.9, [10.0, 10.0, 20.0, 20.0]),
        object("cat", 0.9, [0.0, 0.0, 20.0, 20.0]),
        object("sign", 0.3, [0.0, 0.0, 20.0, 20.0]),
        object("sign", 0.8, [0.0, 0.0, 20.0, 7.0]),
        object("sign", 0.7, [90.0, 90.0, 20.0, 20.0]),
        object("sign", 0.6, [0.0, 0.0, 20.0, 20.0]),
    ]);
    let each = Each { labels: Some(vec!["sign".to_owned()]), min_confidence: 0.5, ..ALL };
    let (regions, of) = each.regions((&found, (100, 100)), Crop { padding: 0.5, perspective: true });
    let boxes: Vec<_> = regions.iter().map(|region| (region.bounds.x, region.bounds.width)).collect();
    assert_eq!((boxes, of), (vec![(0.0, 40.0), (80.0, 20.0)], 3));
}

#[test]
fn a_leaning_face_is_set_upright_and_found_again() {
    let landmarks = Landmarks {
        left_eye: [40.0, 40.0],
        right_eye: [60.0, 60.0],
        nose: [45.0, 60.0],
        mouth_left: [30.0, 60.0],
        mouth_right: [50.0, 75.0],
    };
    let bounds = BoundingBox { x: 30.0, y: 30.0, width: 40.0, height: 40.0 };
    let face = Face { confidence: 0.9, confidence_band: ConfidenceBand::High, bounds, landmarks };
    let faces = Faces { model: "m@1".to_owned(), confidence_guide: String::new(), items: vec![face] };
    let found = Results { faces: Some(faces), ..Results::default() };
    let (regions, _) = ALL.regions((&found, (100, 100)), Crop::default());
    let polygon = regions[0].polygon.unwrap();
    let warp = Warp::of(&polygon, (40, 40));
    let level = warp.point([0.0, 20.0])[1] - warp.point([40.0, 20.0])[1];
    assert!((level.abs() - 40.0 / 2f32.sqrt()).abs() < 0.1, "the middle line runs down at 45°: {level}");
    let (plain, _) = ALL.regions((&found, (100, 100)), Crop { perspective: false, ..Crop::default() });
    assert_eq!(plain[0], Region { bounds, polygon: None });
}

#[test]
fn places_in_a_part_are_told_as_places_in_the_image() {
    let line = |polygon: [[f32; 2]; 4]| TextLine {
        text: "A".to_owned(),
        confidence: 1.0,
        confidence_band: ConfidenceBand::High,
        polygon,
        bounds: BoundingBox::around(&polygon),
    };
    let lines = vec![line([[1.0, 1.0], [9.0, 1.0], [9.0, 4.0], [1.0, 4.0]])];
    let (model, text) = ("m@1".to_owned(), "A".to_owned());
    let text = Text { model, confidence_guide: String::new(), text, rotation: 0, lines };
    let found = Results { text: Some(text), ..objects(vec![object("a", 1.0, [2.0, 3.0, 4.0, 5.0])]) };
    let placed = found.clone().placed(&Warp::shift([10.0, 20.0]), (100, 100));
    assert_eq!(
        placed.objects.unwrap().items[0].bounds,
        BoundingBox { x: 12.0, y: 23.0, width: 4.0, height: 5.0 }
    );
    assert_eq!(placed.text.unwrap().lines[0].polygon[2], [19.0, 24.0]);
    // A part that stands on its side: its own right is the image's down.
    let side = [[50.0, 10.0], [50.0, 30.0], [40.0, 30.0], [40.0, 10.0]];
    let line = found.placed(&Warp::of(&side, (20, 10)), (100, 100)).text.unwrap().lines[0].clone();
    assert_eq!((line.polygon[0], line.polygon[1]), ([49.0, 11.0], [49.0, 19.0]));
    assert_eq!(line.bounds, BoundingBox { x: 46.0, y: 11.0, width: 3.0, height: 8.0 });
}

fn any_step() -> impl Strategy<Value = StepSpec> {
    let names = prop::sample::select(vec!["a", "b", "c", "d", "", "Z", "ä"]);
    let features = prop::option::of(prop::sample::select(Feature::ALL.to_vec()));
    let each = prop::option::of((names.clone(), prop::option::of(0u32..200)));
    (names.clone(), features, prop::collection::vec(names, 0..3), each, any::<f32>()).prop_map(
        |(id, feature, needs, each, timeout)| StepSpec {
            id: id.to_owned(),
            feature,
            needs: needs.into_iter().map(str::to_owned).collect(),
            for_each: each.map(|(step, max_items)| ForEach {
                step: step.to_owned(),
                max_items,
                ..ForEach::default()
            }),
            timeout: Some(timeout).filter(|_| max_is_odd(timeout)),
            ..StepSpec::default()
        },
    )
}

fn max_is_odd(timeout: f32) -> bool {
    timeout.to_bits() % 4 == 1
}

proptest! {
    #[test]
    fn a_pipeline_is_refused_with_places_or_has_an_order(steps in prop::collection::vec(any_step(), 0..6)) {
        match freeze_read(&Pipeline { description: None, steps }) {
            Err(errors) => prop_assert!(!errors.is_empty()),
            Ok(course) => {
                let mut sorted = course.order.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..course.stages.len()).collect::<Vec<_>>());
                for (at, &step) in course.order.iter().enumerate() {
                    prop_assert!(course.stages[step].needs.iter().all(|need| course.order[..at].contains(need)));
                }
            }
        }
    }

    #[test]
    fn parts_lie_inside_the_image_and_have_pixels(
        bounds in prop::array::uniform4(-50f32..200.0), padding in 0f32..1.0, width in 1u32..100, height in 1u32..100,
    ) {
        let found = objects(vec![object("a", 1.0, bounds)]);
        let (regions, _) = ALL.regions((&found, (width, height)), Crop { padding, perspective: true });
        for region in regions {
            let [left, top, across, down] = region.window((width, height));
            prop_assert!(across > 0 && down > 0 && left + across <= width && top + down <= height);
        }
    }

    #[test]
    fn straightened_parts_have_no_more_pixels_than_the_image(
        corners in prop::array::uniform4(prop::array::uniform2(-500f32..500.0)), width in 1u32..100, height in 1u32..100,
    ) {
        let region = Region { bounds: BoundingBox::around(&corners), polygon: Some(corners) };
        let (across, down) = region.straightened((width, height)).unwrap();
        prop_assert!(across > 0 && down > 0);
        prop_assert!(u64::from(across) * u64::from(down) <= 4 * u64::from(width) * u64::from(height));
        let [x, y] = Warp::of(&corners, (across, down)).point([0.5, 0.5]);
        prop_assert!(x.is_finite() && y.is_finite());
    }
}
