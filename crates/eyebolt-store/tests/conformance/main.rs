//! What the store promises, asked of both databases: each test runs on SQLite and on PostgreSQL, and ends with a sound
//! ledger.
//!
//! PostgreSQL: `EYEBOLT_TEST_POSTGRES_URL`, by default a server on 127.0.0.1 with a database `test`. Each test makes
//! a schema of its own there.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod acceptance;
mod answered;
mod batches;
mod blobs;
mod canceling;
mod caps;
mod clients;
mod closing;
mod content;
mod deliveries;
mod events;
mod joining;
mod ledger;
mod listing;
mod missed;
mod place;
mod projects;
mod records;
mod recovery;
mod retention;
mod retrying;
mod running;
mod sample;
mod schema;
mod signals;
mod tasks;
mod usage;
