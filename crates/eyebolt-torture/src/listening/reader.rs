//! A reader of one project's stream, which comes back with its `Last-Event-ID` whenever it is cut, and cuts itself.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use http_body_util::BodyExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Seen,
    frames::{Frame, Frames},
    message::{Heard, Message, Told},
};
use crate::{client::Project, history::Lines, wire::Call};

/// A server shows a sign of life once a second: who hears nothing for so long goes elsewhere.
const SILENCE: Duration = Duration::from_secs(4);

/// How long the first connection is open.
const BEGIN: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    project: Project,
    servers: Vec<SocketAddr>,
    lines: Lines,
    seen: Seen,
    rng: StdRng,
    /// The last place that it knows.
    after: Option<u64>,
    connection: u64,
}

impl Reader {
    pub(super) fn new(
        (project, servers): (Project, Vec<SocketAddr>),
        (lines, seen): (Lines, Seen),
        seed: u64,
    ) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { project, servers, lines, seen, rng, after: None, connection: 0 }
    }

    /// Learns where the stream begins.
    pub(super) async fn begin(&mut self) -> anyhow::Result<()> {
        // It begins with its place, and then nothing comes.
        let cut = self.listen(BEGIN).await;
        self.connection += 1;
        self.after.map(drop).with_context(|| format!("the stream does not say where it begins: {cut:?}"))
    }

    /// Reads for ever.
    pub(super) async fn run(mut self) {
        loop {
            let time = Duration::from_millis(self.rng.random_range(2000..12_000));
            // What is cut is gone on with.
            let _ = self.listen(time).await;
            self.connection += 1;
            sleep(Duration::from_millis(self.rng.random_range(20..200))).await;
        }
    }

    /// One connection, at most for `time`.
    async fn listen(&mut self, time: Duration) -> anyhow::Result<()> {
        let server = self.servers[self.connection as usize % self.servers.len()];
        let call = Call::events(self.after).by(&self.project.secret);
        let (answer, _connection) = timeout(SILENCE, call.open(server)).await??;
        if answer.status() != 200 {
            let (status, after) = (answer.status().as_u16(), self.after);
            self.write(Heard::Refused { status, after });
            return Ok(());
        }
        let (mut body, mut frames, end) = (answer.into_body(), Frames::default(), Instant::now() + time);
        while let left = end.saturating_duration_since(Instant::now())
            && !left.is_zero()
            && let Some(piece) = timeout(left.min(SILENCE), body.frame()).await?.transpose()?
        {
            let data = piece.into_data().unwrap_or_default();
            for frame in frames.take(&data) {
                self.hear(&frame)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let Some(id) = &frame.id else { return Ok(()) };
        let position: u64 = id.parse().with_context(|| format!("{id} is no place"))?;
        if !frame.data.is_empty() {
            let message = Message::read(frame.data.as_bytes());
            self.seen.lock().expect("no holder panics").insert(message.end());
            self.write(Heard::Event { position, message });
        }
        self.after = Some(position);
        Ok(())
    }

    fn write(&self, what: Heard) {
        let (project, connection) = (self.project.name.clone(), self.connection);
        self.lines.write(|at_us| Told { at_us, project, connection, what });
    }
}
