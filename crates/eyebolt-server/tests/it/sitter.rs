//! What the engine of an app does with the orders of a pipeline: as the test says, by the place of each.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use eyebolt_server::{
    ApiError,
    admission::Worker,
    analysis::{Order, Remarks, Sitting},
};
use eyebolt_types::{
    AnalyzeRequest, BoundingBox, ErrorCode, Feature, FieldError, Problem, Results,
    pipeline::{Asked, Course, Pipeline, Region},
    result::{ConfidenceBand, Label, Labels, Object, Objects},
};
use tokio::sync::watch;

/// Orders are known by `step`, `step/part`, and `step!` or `step/part!` for the fallback.
#[derive(Clone, Default)]
pub(crate) struct Sitter(Arc<Mutex<State>>, Arc<watch::Sender<u64>>);

#[derive(Default)]
struct State {
    /// What was ordered, in its order.
    ordered: Vec<String>,
    /// How many times an image was decoded.
    decoded: usize,
    /// What fails, and with what.
    broken: Vec<(String, ErrorCode)>,
    /// What panics.
    poisoned: BTreeSet<String>,
    /// What waits until it is let go.
    held: BTreeSet<String>,
    /// Whether what waits so keeps its worker meanwhile, also where nobody waits for it any more: as a thread does.
    stubborn: bool,
}

impl Sitter {
    pub(crate) fn breaks(&self, place: &str, code: ErrorCode) {
        self.state(|state| state.broken.push((place.to_owned(), code)));
    }

    pub(crate) fn poisons(&self, place: &str) {
        self.state(|state| state.poisoned.insert(place.to_owned()));
    }

    /// Everything works from now on.
    pub(crate) fn mend(&self) {
        self.state(|state| {
            state.broken.clear();
            state.poisoned.clear();
        });
    }

    pub(crate) fn holds(&self, place: &str) {
        self.state(|state| state.held.insert(place.to_owned()));
    }

    /// The same, and it can't be stopped.
    pub(crate) fn clings_to(&self, place: &str) {
        self.state(|state| state.stubborn = true);
        self.holds(place);
    }

    pub(crate) fn lets_go(&self) {
        self.state(|state| state.held.clear());
    }

    /// What was ordered since this was asked last.
    pub(crate) fn ordered(&self) -> Vec<String> {
        self.state(|state| std::mem::take(&mut state.ordered))
    }

    pub(crate) fn decoded(&self) -> usize {
        self.state(|state| state.decoded)
    }

    /// Resolves once this is ordered.
    pub(crate) async fn until_ordered(&self, place: &str) {
        let mut changes = self.1.subscribe();
        while !self.look(|state| state.ordered.iter().any(|known| known == place)) {
            changes.changed().await.expect("the sitter is there");
        }
    }

    /// Keeps a worker until this is let go.
    async fn until_free(&self, worker: Worker, place: &str) {
        let mut changes = self.1.subscribe();
        while self.look(|state| state.held.contains(place)) {
            changes.changed().await.expect("the sitter is there");
        }
        drop(worker);
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.lock().expect("no test panics here"))
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.0.lock().expect("no test panics here"));
        self.1.send_modify(|count| *count += 1);
        changed
    }

    /// Models that begin with `cats` find objects; every snapshot is `snapshot`.
    pub(crate) fn freeze(
        (pipeline, request): (&Pipeline, &AnalyzeRequest),
        snapshot: &str,
    ) -> Result<Course, Vec<FieldError>> {
        let task = |name: &str| name.starts_with("cats").then_some(Feature::Objects);
        let asked = |_: &AnalyzeRequest| Ok(Some(snapshot.to_owned()));
        Course::freeze(pipeline, request, &Asked { task: &task, snapshot: &asked })
    }

    pub(crate) async fn sit(&self, sitting: Sitting) -> Result<Remarks, ApiError> {
        let Sitting { bytes, course, mut orders, worker, .. } = sitting;
        if bytes.starts_with(b"dark") {
            return Err(ApiError::new(ErrorCode::TooDark, "The mean brightness is 3 of 255."));
        }
        self.state(|state| state.decoded += 1);
        while let Some(Order { step, fallback, part, begun, done }) = orders.recv().await {
            let stage = &course.stages[step];
            let part_name = part.map_or_else(String::new, |(number, _)| format!("/{number}"));
            let place = format!("{}{part_name}{}", stage.id, if fallback { "!" } else { "" });
            _ = begun.send(());
            self.state(|state| state.ordered.push(place.clone()));
            if self.look(|state| state.stubborn && state.held.contains(&place)) {
                let (sitter, worker, place) = (self.clone(), worker.clone(), place.clone());
                tokio::spawn(async move { sitter.until_free(worker, &place).await });
            }
            let mut changes = self.1.subscribe();
            while self.look(|state| state.held.contains(&place)) && !done.is_closed() {
                tokio::select! {
                    changed = changes.changed() => changed.expect("the sitter is there"),
                    // One that waits no more is overtaken.
                    () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
                }
            }
            assert!(!self.look(|state| state.poisoned.contains(&place)), "as the test wants it");
            let broken = self.look(|state| state.broken.iter().find(|(known, _)| *known == place).cloned());
            _ = done.send(match broken {
                Some((_, code)) => Err(Problem::new(code, format!("{place} is broken."))),
                None => Ok(found(&bytes, (&place, step == 0 || stage.way.feature == Feature::Objects), part)),
            });
        }
        Ok(Remarks::default())
    }
}

/// `many 40 …` shows forty things, anything else three; a part, or what is no first step, is a label of its place.
fn found(bytes: &[u8], (place, finds): (&str, bool), part: Option<(u32, Region)>) -> Results {
    let model = "cats@1".to_owned();
    if let Some((_, region)) = part {
        assert!(region.bounds.width > 0.0, "a part has a place");
    }
    if !finds || part.is_some() {
        let items =
            vec![Label { label: place.to_owned(), confidence: 1.0, confidence_band: ConfidenceBand::High }];
        return Results {
            labels: Some(Labels { model, confidence_guide: String::new(), items }),
            ..Results::default()
        };
    }
    let text = String::from_utf8_lossy(bytes);
    let many = text.strip_prefix("many ").and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(3);
    let thing = |at: u32| Object {
        label: if at.is_multiple_of(2) { "sign" } else { "cat" }.to_owned(),
        confidence: 0.9 - at as f32 / 1000.0,
        confidence_band: ConfidenceBand::High,
        bounds: BoundingBox {
            x: (at % 20) as f32 * 30.0,
            y: (at / 20) as f32 * 30.0,
            width: 25.0,
            height: 25.0,
        },
    };
    let items = (0..many).map(thing).collect();
    Results { objects: Some(Objects { model, confidence_guide: String::new(), items }), ..Results::default() }
}
