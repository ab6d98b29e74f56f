//! Compares what was written with the shape of the settings, so that every unknown key and every value of a
//! wrong kind is named at once, with its full dotted name.

use figment::value::{Dict, Num, Value};

use super::{hint, nearest};

/// Compares `written` with `example`, and takes out what does not fit, so that it is named only once.
/// Numbers where text is wanted become text (a password of digits).
pub(super) fn compare(written: &mut Dict, example: &Dict, path: &str, errors: &mut Vec<String>) {
    let full = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    written.retain(|key, value| match example.get(key) {
        Some(wanted) => fits(value, wanted, &full(key), errors),
        None => {
            let near = nearest(key, example.keys().map(String::as_str)).map(full);
            errors.push(format!("unknown key \"{}\"{}", full(key), hint(near.as_deref())));
            false
        }
    });
}

fn fits(value: &mut Value, wanted: &Value, name: &str, errors: &mut Vec<String>) -> bool {
    let expected = match (&mut *value, wanted) {
        (Value::Dict(_, written), Value::Dict(_, example)) => {
            compare(written, example, name, errors);
            return true;
        }
        (Value::Array(_, items), Value::Array(_, example)) => {
            let wanted = example.first().cloned().unwrap_or_else(|| Value::from(""));
            let mut index = 0;
            items.retain_mut(|item| {
                let item_fits = fits(item, &wanted, &format!("{name}[{index}]"), errors);
                index += 1;
                item_fits
            });
            return true;
        }
        (Value::Bool(..), Value::Bool(..)) => return true,
        (Value::String(..), Value::String(..) | Value::Empty(..)) => return true,
        (Value::Num(_, number), Value::Num(..)) if natural(*number).is_some() => return true,
        (Value::Num(tag, number), Value::String(..) | Value::Empty(..)) if natural(*number).is_some() => {
            let text = natural(*number).map(|number| number.to_string()).unwrap_or_default();
            *value = Value::String(*tag, text);
            return true;
        }
        (_, Value::Dict(..)) => "a section",
        (_, Value::Array(..)) => "a list",
        (_, Value::Bool(..)) => "true or false",
        (_, Value::Num(..)) => "a whole number, 0 or more",
        (_, Value::String(..) | Value::Empty(..) | Value::Char(..)) => "a text",
    };
    errors.push(format!("{name} must be {expected}"));
    false
}

fn natural(number: Num) -> Option<u128> {
    number.to_u128().or_else(|| number.to_i128().and_then(|number| u128::try_from(number).ok()))
}
