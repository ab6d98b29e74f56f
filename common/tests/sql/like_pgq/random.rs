//! A table with triggers, and what happens to it.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::values::{data_type, quote, value};

const NAMES: &[&str] =
    &["id", "a", "b c", "Größe", "select", "x\"y", "n1", "UPPER", "e&f=g%", "_pgq_ev_extra3", "_pgq_ev_type"];

/// Those that an expression can name.
const PLAIN: &[&str] = &["id", "n1", "UPPER", "_pgq_ev_extra3"];

struct Column {
    name: &'static str,
    data_type: &'static str,
}

impl Column {
    fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }
}

/// The statements of one case. Each may fail.
pub(super) fn statements(random: &mut StdRng) -> Vec<String> {
    let mut names = NAMES.to_vec();
    names.shuffle(random);
    let count = random.random_range(1..=9);
    let mut columns: Vec<Column> =
        names[..count].iter().map(|name| Column { name, data_type: data_type(random) }).collect();
    // The first one tells the rows apart.
    columns[0].data_type = "integer";
    let keys = random.random_range(0..=2.min(count));

    let mut sql = vec![
        "reset all; set client_min_messages = error; drop schema if exists \"Case\" cascade; create schema \"Case\"; \
         set search_path = \"Case\", public"
            .to_owned(),
        create(random, &columns, keys),
    ];
    sql.extend(triggers(random, &columns));
    for _ in 0..random.random_range(15..30) {
        sql.push(statement(random, &columns));
    }
    sql
}

fn create(random: &mut StdRng, columns: &[Column], keys: usize) -> String {
    let mut parts: Vec<String> =
        columns.iter().map(|column| format!("{} {}", column.quoted(), column.data_type)).collect();
    if random.random_bool(0.2) {
        parts.push(format!(
            "made text generated always as ({}::integer::text || ' made') stored",
            columns[0].quoted()
        ));
    }
    // A column that is dropped leaves a hole in the row.
    parts.insert(random.random_range(0..=parts.len()), "hole integer".to_owned());
    if keys > 0 {
        let names: Vec<String> = columns[..keys].iter().rev().map(Column::quoted).collect();
        parts.push(format!("primary key ({})", names.join(", ")));
    }
    format!("create table \"a Table\" ({}); alter table \"a Table\" drop hole", parts.join(", "))
}

fn triggers(random: &mut StdRng, columns: &[Column]) -> Vec<String> {
    let mut sql = Vec::new();
    for format in ["logutriga", "sqltriga", "jsontriga"] {
        let timing = if random.random_bool(0.7) { "after" } else { "before" };
        let mut arguments = vec!["'q'".to_owned()];
        for _ in 0..random.random_range(0..4) {
            arguments.push(quote(&option(random, columns)));
        }
        if timing == "before" && random.random_bool(0.1) {
            arguments.push("'SKIP'".to_owned());
        }
        sql.push(format!(
            "create trigger {format} {timing} insert or update or delete on \"a Table\" for each row \
             execute function pgq.{format}({})",
            arguments.join(", ")
        ));
        if random.random_bool(0.3) {
            sql.push(format!(
                "create trigger {format}_truncate {timing} truncate on \"a Table\" for each statement \
                 execute function pgq.{format}('q')"
            ));
        }
    }
    sql
}

fn option(random: &mut StdRng, columns: &[Column]) -> String {
    let some = |random: &mut StdRng| -> &'static str { columns.choose(random).expect("not empty").name };
    // A name that needs quotes cannot be in an expression: that is among the known cases.
    let plain: Vec<_> =
        columns.iter().map(|column| column.name).filter(|name| PLAIN.contains(name)).collect();
    let expression = |random: &mut StdRng| *plain.choose(random).unwrap_or(&"current_date");
    match random.random_range(0..12) {
        0..4 => "backup".to_owned(),
        4 => format!("ignore={}", some(random)),
        5 => format!("ignore={}, {}", some(random), some(random)),
        6 => format!("pkey={}", some(random)),
        7 => format!("pkey={},{}", some(random), some(random)),
        8 => format!("ev_extra4={}", expression(random)),
        9 => {
            let name = expression(random);
            format!("ev_extra3='{name}' || {name}::text || $x${name}$x$ -- {name}")
        }
        10 => format!("ev_type=(select count({}) from \"Case\" . \"a Table\" as t)", expression(random)),
        _ => format!("when={} is not null", expression(random)),
    }
}

fn statement(random: &mut StdRng, columns: &[Column]) -> String {
    let row = |random: &mut StdRng| -> String {
        let mut values: Vec<String> = columns.iter().map(|column| value(random, column.data_type)).collect();
        values[0] = random.random_range(0..12).to_string();
        format!("({})", values.join(", "))
    };
    let names: Vec<String> = columns.iter().map(Column::quoted).collect();
    let set = |random: &mut StdRng| -> String {
        let column = columns.choose(random).expect("not empty");
        let value = if random.random_bool(0.2) { column.quoted() } else { value(random, column.data_type) };
        format!("{} = {value}", column.quoted())
    };
    let few = format!("where {} % 3 = {}", columns[0].quoted(), random.random_range(0..3));
    match random.random_range(0..14) {
        0..5 => {
            format!("insert into \"a Table\" ({}) values {}, {}", names.join(", "), row(random), row(random))
        }
        5..9 => format!("update \"a Table\" set {} {few}", set(random)),
        9 => format!("update \"a Table\" set {}", set(random)),
        10 => format!("delete from \"a Table\" {few}"),
        11 => format!(
            "begin; insert into \"a Table\" ({}) values {}; savepoint s; update \"a Table\" set {}; rollback to s; commit",
            names.join(", "),
            row(random),
            set(random)
        ),
        12 => "truncate \"a Table\"".to_owned(),
        _ => setting(random),
    }
}

/// What the text of values depends on.
fn setting(random: &mut StdRng) -> String {
    let (name, values): (&str, &[&str]) = *[
        ("datestyle", &["iso, ymd", "german", "sql, dmy", "postgres, mdy"][..]),
        ("intervalstyle", &["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
        ("bytea_output", &["hex", "escape"]),
        ("extra_float_digits", &["1", "0", "-3"]),
        ("timezone", &["UTC", "Asia/Kolkata", "America/St_Johns", "Europe/Berlin"]),
        ("search_path", &["public", "\"Case\", pgq", "pgq, \"Case\", public"]),
        ("quote_all_identifiers", &["on", "off"]),
        ("session_replication_role", &["origin", "origin", "origin", "replica", "local"]),
        ("xmloption", &["content"]),
    ]
    .choose(random)
    .expect("not empty");
    format!("rollback; set {name} = {}", values.choose(random).map_or("default", |value| value))
}
