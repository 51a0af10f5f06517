//! The server from outside: real sockets and a scripted engine, or the real models behind the rooms.

mod access;
mod admin;
mod analyze;
mod app;
mod connections;
mod description;
mod models;
mod pages;
mod place;
mod reading;
mod refusals;
mod slow;
mod stopping;
mod wire;
