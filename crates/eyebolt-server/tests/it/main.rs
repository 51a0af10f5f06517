//! The server from outside: real sockets and a scripted engine, or the real models behind the rooms.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod access;
mod admin;
mod admission;
mod analyze;
mod app;
mod backup;
mod batches;
mod clients;
mod clocks;
mod connections;
mod counters;
mod database;
mod dedup;
mod description;
mod digests;
mod disk;
mod events;
mod examples;
mod idempotency;
mod idempotency_crashes;
mod idempotency_keys;
mod jobs;
mod jobs_control;
mod metrics;
mod models;
mod outages;
mod pages;
mod place;
mod quotas;
mod quotas_held;
mod quotas_told;
mod reading;
mod receiver;
mod refusals;
mod retention;
mod slow;
mod stopping;
mod tls;
mod usage;
mod webhooks;
mod wire;
