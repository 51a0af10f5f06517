//! The server from outside: real sockets, a scripted engine, whole answers.

mod analyze;
mod app;
mod connections;
mod description;
mod pages;
mod reading;
mod refusals;
mod slow;
mod stopping;
mod wire;
