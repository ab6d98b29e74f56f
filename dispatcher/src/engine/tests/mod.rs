//! Tests of the engine: its decisions one by one (`cases`), and everything at once, with crashes and takeovers,
//! against a model of the database (`world`, `simulation`).

mod cases;
mod simulation;
mod world;
