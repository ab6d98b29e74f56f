//! Types of columns, and values of them.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Types of our own, to be made before the tables.
pub(super) const TYPES: &str = "
    create type mood as enum ('sad', 'very happy, \"ok\"', '');
    create type pair as (a integer, b text);
    create domain number as integer; create domain day as date; create domain numbers as integer[];
    create domain deep as number";

/// Each type with literals of it: usual ones, and those whose text is hard to quote or depends on the session.
const VALUES: &[(&str, &[&str])] = &[
    ("smallint", &["0", "-32768", "7"]),
    ("integer", &["0", "-2147483648", "42"]),
    ("bigint", &["0", "9223372036854775807", "-1"]),
    ("boolean", &["t", "f"]),
    ("real", &["1.5", "NaN", "-0", "0", "1e20", "1.2345678"]),
    ("double precision", &["0.1", "Infinity", "-0", "0", "1.23456789012345678", "1.23456789012345679"]),
    ("numeric", &["1.0", "1.00", "NaN", "-123456789012345678901234567890.5"]),
    ("numeric(10,3)", &["1", "1.0005", "-0.001"]),
    ("money", &["12.50", "-3"]),
    ("text", TEXTS),
    ("varchar(30)", TEXTS),
    ("text collate \"C\"", TEXTS),
    ("char(12)", &["a", "a b  ", "", "é,\""]),
    ("name", &["pg_class", "", "a b"]),
    ("\"char\"", &["a", "", "\\"]),
    ("bytea", &["\\x", "\\x00ff20", "\\x5c22"]),
    ("date", &["2026-11-21", "infinity", "-infinity", "0044-03-15 BC", "12345-01-01"]),
    ("time", &["12:34:56.789", "00:00"]),
    ("timetz", &["12:34:56+05:30", "00:00-11"]),
    ("timestamp", &["2026-11-21 22:38:00.000001", "infinity", "0044-03-15 12:00 BC"]),
    ("timestamptz", &["2026-06-01 10:00:00.5+03:30", "1890-01-01 00:00+00", "-infinity"]),
    ("interval", &["1 day", "24:00:00", "-1 mon +2 days 03:04:05.6", "0"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    ("json", &["{\"a\": [1, \"x\"]}", " [1] ", "\"\\u0041\"", "null", "1.0"]),
    ("jsonb", &["{\"a\": 1.0}", "{\"a\": 1.00}", "\"x, \\\"y\\\"\"", "null"]),
    ("xml", &["<a>&amp;</a>", "<b/>"]),
    ("inet", &["10.0.0.1", "10.0.0.0/8", "::1"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("bit(3)", &["101", "000"]),
    ("varbit", &["", "10"]),
    ("point", &["(1,2)", "(0.1,-0)"]),
    ("box", &["((1.1,2.1),(5.6,5.7))"]),
    ("circle", &["<(1,2),3>"]),
    ("tsvector", &["a b:3", ""]),
    ("int4range", &["[1,5)", "empty", "(,3)"]),
    ("tstzrange", &["[2026-01-01 00:00+00,2026-01-02 00:00+00)"]),
    ("integer[]", &["{}", "{1,NULL,3}", "[0:1]={1,2}"]),
    ("text[]", &["{\"a,b\",NULL,\"q\\\"x\",\"\"}", "{}", "{NULL}"]),
    ("numeric[]", &["{1.0}", "{1.00}"]),
    ("boolean[]", &["{t,f}"]),
    ("oid", &["17", "0"]),
    ("xid", &["17"]),
    ("tid", &["(0,1)"]),
    ("pg_lsn", &["16/B374D848"]),
    ("regclass", &["pg_class", "pgq.queue"]),
    ("regtype", &["integer", "mood"]),
    ("mood", &["sad", "very happy, \"ok\"", ""]),
    ("pair", &["(1,\"x y\")", "(,)", "(2,\"\"\"\")"]),
    ("pair[]", &["{\"(1,\\\"x y\\\")\"}", "{}"]),
    ("number", &["5", "-5"]),
    ("deep", &["5", "-5"]),
    ("day", &["2026-11-21", "infinity"]),
    ("numbers", &["{1,2}", "{}"]),
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "plain",
    "two words",
    "NULL",
    "a,b",
    "\"",
    "\"\"",
    "\",\"",
    "\\",
    "\\\\\"",
    "()",
    "{}",
    "'quoted' E'\\n'",
    "a=b&c=d%20+e",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "tab\tline\nreturn\r",
    "\u{1}",
    "\u{2},\u{1}\"",
    "\u{7f}\u{1f}\u{b}\u{c}\u{8}",
    "größer €, 日本語, 😀",
    "\u{a0}\u{2028}",
];

/// A type.
pub(super) fn data_type(random: &mut StdRng) -> &'static str {
    VALUES.choose(random).expect("not empty").0
}

/// A value of a type, or NULL, quoted; for text sometimes one of random characters.
pub(super) fn value(random: &mut StdRng, of: &str) -> String {
    if random.random_bool(0.15) {
        return "null".to_owned();
    }
    if (of == "text" || of == "varchar(30)") && random.random_bool(0.3) {
        let length = random.random_range(0..30);
        let text: String = (0..length).map(|_| character(random)).collect();
        return quote(&text);
    }
    let (_, values) = VALUES.iter().find(|(name, _)| *name == of).expect("one of the types");
    quote(values.choose(random).expect("not empty"))
}

fn character(random: &mut StdRng) -> char {
    match random.random_range(0..10) {
        0..6 => char::from(random.random_range(1..127_u8)),
        6 => ',',
        7 => '"',
        8 => '\\',
        _ => char::from_u32(random.random_range(0x80..0xd800)).expect("below the surrogates"),
    }
}

/// A string literal.
pub(super) fn quote(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
