//! Pause: what an administrator holds back. Entries that are paused stay in the window, out of the order of what is ready,
//! so that whoever grabs, waits or searches costs nothing for them; under pressure they are parked like a type that nobody
//! asks for.

use std::collections::HashSet;

use serde_json::Value;

use super::Engine;
use super::answer::{Reply, ReplyKind, RequestId};
use super::entry::{Entry, Event};
use super::flush::Unit;

/// What of a queue is paused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paused {
    /// Rises with every change.
    pub number: i64,
    /// All of it.
    pub queue: bool,
    pub types: HashSet<String>,
    pub keys: HashSet<String>,
}

impl Paused {
    pub(super) fn is_empty(&self) -> bool {
        !self.queue && self.types.is_empty() && self.keys.is_empty()
    }

    pub(super) fn holds(&self, entry: &Entry) -> bool {
        self.holds_type(entry.kind())
            || (!self.keys.is_empty() && key(&entry.event).is_some_and(|key| self.keys.contains(&key)))
    }

    /// Is nothing of this type handed out?
    pub(super) fn holds_type(&self, kind: &str) -> bool {
        self.queue || self.types.contains(kind)
    }
}

/// The key of a job: looked for only while some are paused, or limited.
pub(super) fn key(event: &Event) -> Option<String> {
    let options = event.extra[0].as_deref()?;
    if !options.contains("\"key\"") {
        return None;
    }
    match serde_json::from_str::<Value>(options).ok()?.get_mut("key")?.take() {
        Value::String(key) => Some(key),
        _ => None,
    }
}

impl Engine {
    /// What is paused.
    #[must_use]
    pub fn paused(&self) -> &Paused {
        self.window.paused()
    }

    /// As [`Engine::pause`]; answered when what was granted before is committed, too.
    pub fn order_pause(&mut self, request: RequestId, paused: Paused) {
        self.pause(paused);
        let reply = Some(Reply { request, kind: ReplyKind::Pause });
        self.submit(Unit { reply, ..Unit::default() });
    }

    /// From now on this is paused, and nothing else; an older reading than the last one is ignored.
    pub fn pause(&mut self, paused: Paused) {
        if paused.number <= self.window.paused().number {
            return;
        }
        self.window.pause(paused);
        self.relief.pause_changed();
        self.window.call_again();
        self.serve_polls();
    }
}
