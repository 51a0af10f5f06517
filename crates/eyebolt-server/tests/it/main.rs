//! The server from outside: real sockets, a scripted engine, whole answers.

mod analyze;
mod app;
mod wire;
