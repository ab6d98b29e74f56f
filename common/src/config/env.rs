//! `TIDEMILL_SECTION__KEY`: environment variables as settings.

use figment::value::{Dict, Tag, Value};

const PREFIX: &str = "TIDEMILL_";

/// Lays the variables over `settings`. The example tells what is text, so that a password of digits stays
/// what it is; lists are written `a,b` or as in TOML.
pub(super) fn overlay(settings: &mut Dict, example: &Dict, variables: &[(String, String)]) {
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        // A single underscore is not ours: Kubernetes makes TIDEMILL_DISPATCHER_PORT and others.
        if !rest.contains("__") {
            continue;
        }
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        put(settings, Some(example), &path, text);
    }
}

fn put(into: &mut Dict, example: Option<&Dict>, path: &[String], text: &str) {
    let Some((key, rest)) = path.split_first() else { return };
    let wanted = example.and_then(|example| example.get(key));
    if rest.is_empty() {
        into.insert(key.clone(), read(text, wanted));
        return;
    }
    let section = into.entry(key.clone()).or_insert_with(|| Value::from(Dict::new()));
    if !matches!(section, Value::Dict(..)) {
        *section = Value::from(Dict::new());
    }
    if let Value::Dict(_, section) = section {
        put(section, wanted.and_then(Value::as_dict), rest, text);
    }
}

fn read(text: &str, wanted: Option<&Value>) -> Value {
    let plain = || Value::from(text);
    match wanted {
        Some(Value::Num(..)) => text.trim().parse::<u64>().map_or_else(|_| plain(), Value::from),
        Some(Value::Bool(..)) => text.trim().parse::<bool>().map_or_else(|_| plain(), Value::from),
        // figment reads a list as TOML writes it, and never fails: what it cannot read is text.
        Some(Value::Array(..)) if text.trim_start().starts_with('[') => {
            text.parse().unwrap_or_else(|_| plain())
        }
        Some(Value::Array(..)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(Tag::Default, items.map(Value::from).collect())
        }
        _ => plain(),
    }
}
