use super::*;

const DATABASE: &str = "[database]\nurl = \"postgresql://u:s3cret@localhost/shop\"\n";

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::from_text(toml, &environment).map_err(|error| match error {
        ConfigError::Wrong(sentences) => sentences,
        ConfigError::Read { .. } => panic!("{error}"),
    })
}

fn errors(toml: &str) -> Vec<String> {
    load(&format!("{DATABASE}{toml}"), &[]).unwrap_err()
}

#[test]
fn one_database_is_all_that_must_be_set() {
    let settings = load(DATABASE, &[]).unwrap();
    assert_eq!(settings.targets()[0].name(), "shop");
    assert_eq!(settings.http.address().to_string(), "127.0.0.1:8080");
    assert_eq!(
        load("", &[]).unwrap_err(),
        ["no database is configured: set url in [database], or TIDEMILL_DATABASE__URL"]
    );
}

#[test]
fn the_environment_lies_over_the_file() {
    let environment = [
        ("TIDEMILL_DATABASE__URL", "postgresql://localhost/other"),
        ("TIDEMILL_TICKER__MIN_INTERVAL_MS", "7"),
        ("TIDEMILL_TICKER__DATABASES", "other, shop*"),
        ("TIDEMILL_DISPATCHER__QUEUES", "[\"a,b\", \"c\"]"),
        ("TIDEMILL_LOG__FORMAT", "json"),
        ("TIDEMILL_DATABASE__ALLOW_PLAINTEXT", "true"),
    ];
    let settings =
        load(&format!("{DATABASE}[ticker]\nmin_interval_ms = 3\nmax_interval_ms = 40"), &environment);
    let settings = settings.unwrap();
    assert_eq!(settings.targets()[0].name(), "other");
    assert_eq!((settings.ticker.min_interval_ms, settings.ticker.max_interval_ms), (7, 40));
    assert_eq!(settings.ticker.databases, ["other", "shop*"]);
    assert_eq!(settings.dispatcher.queues, ["a,b", "c"]);
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn what_kubernetes_makes_does_not_disturb() {
    let environment = [
        ("TIDEMILL_DISPATCHER_PORT", "tcp://10.0.0.1:8080"),
        ("TIDEMILL_DISPATCHER_SERVICE_HOST", "10.0.0.1"),
        ("TIDEMILL_DISPATCHER_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TIDEMILL_TICKER_SERVICE_PORT", "9090"),
        ("TIDEMILL_CONFIG", "/nowhere"),
        ("TIDEMILL_PORT", "tcp://10.0.0.2:1"),
    ];
    load(DATABASE, &environment).unwrap();
}

#[test]
fn an_unknown_key_is_named_in_full_with_the_nearest_known_one() {
    assert_eq!(
        errors(
            "[ticker]\nmin_intervall_ms = 1\n[movr]\nx = 1\n[[mover.routes]]\nfrm = \"a\"\nfrom = \"a\"\nto = \"b\""
        ),
        [
            "unknown key \"mover.routes[0].frm\": did you mean \"mover.routes[0].from\"?",
            "unknown key \"movr\": did you mean \"mover\"?",
            "unknown key \"ticker.min_intervall_ms\": did you mean \"ticker.min_interval_ms\"?",
        ]
    );
    let environment = [("TIDEMILL_TICKER__TERM", "1"), ("TIDEMILL_QQQ__TERM", "1")];
    assert_eq!(
        load(DATABASE, &environment).unwrap_err(),
        ["unknown key \"qqq\"", "unknown key \"ticker.term\": did you mean \"ticker.term_ms\"?"]
    );
}

#[test]
fn everything_wrong_is_said_at_once() {
    let found = errors(
        "[ticker]\nmin_interval_ms = \"soon\"\nmax_interval_ms = -3\ndatabases = \"shop\"\n[log]\nformat = \"xml\"\n\
         [mover]\nbatch_events = 5000000000\nconsumer = \"a b\"\n[admin]\nlisten = \"here\"\n\
         [http]\nlisten = \"0.0.0.0:8080\"",
    );
    assert_eq!(
        found,
        [
            "ticker.databases must be a list",
            "ticker.max_interval_ms must be a whole number, 0 or more",
            "ticker.min_interval_ms must be a whole number, 0 or more",
            "admin.listen: invalid socket address syntax",
            "log.format must be one of: text, json",
            "mover.batch_events must be u32",
            "mover.consumer: a consumer name must be 1 to 63 characters out of A-Z a-z 0-9 _ . : -",
            "http.listen = 0.0.0.0:8080 can be reached from other machines: \
             set http.tokens_file, or listen on loopback",
        ]
    );
}

#[test]
fn limits_that_belong_together_are_checked_together() {
    assert_eq!(
        errors("[ticker]\nmin_interval_ms = 300\n"),
        ["ticker.min_interval_ms = 300 must not be greater than ticker.max_interval_ms = 200"]
    );
    assert_eq!(errors("[dispatcher]\nwindow_jobs = 0"), ["dispatcher.window_jobs must be at least 1"]);
    assert_eq!(errors("[tls]\ncert_file = \"a\""), ["tls.cert_file and tls.key_file must be set together"]);
}

#[test]
fn a_secret_of_digits_is_a_text() {
    let settings =
        load("", &[("TIDEMILL_DATABASE__URL", "host=localhost password=007 dbname=1234")]).unwrap();
    assert_eq!(settings.targets()[0].name(), "1234");
    let settings = load(&format!("{DATABASE}name = 42"), &[]).unwrap();
    assert_eq!(settings.targets()[0].name(), "42");
    let settings = load(DATABASE, &[("TIDEMILL_DATABASE__NAME", "0042")]).unwrap();
    assert_eq!(settings.targets()[0].name(), "0042");
}

#[test]
fn several_databases_have_names_of_their_own() {
    let two = "[[databases]]\nurl = \"postgresql://localhost/a\"\n[[databases]]\nurl = \"postgresql://localhost/b\"";
    let settings = load(two, &[]).unwrap();
    let names = |patterns: &[&str]| {
        let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let found = settings.databases_matching(&patterns).map_err(|error| error.to_string())?;
        Ok::<_, String>(found.iter().map(|target| target.name().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(names(&["*"]).unwrap(), ["a", "b"]);
    assert_eq!(names(&["b"]).unwrap(), ["b"]);
    assert_eq!(names(&["c"]).unwrap_err(), "no configured database matches \"c\"");
    assert_eq!(
        load(&two.replace("/b", "/a"), &[]).unwrap_err(),
        ["databases[1]: there is another database named \"a\""]
    );
    assert_eq!(
        load("[[databases]]\nname = \"x\"\n[[databases]]\nurl = \"postgresql://db/x?sslmod=a\"", &[])
            .unwrap_err(),
        [
            "databases[0] needs either url or url_file",
            "databases[1]: unknown parameter \"sslmod\" in the database URL: did you mean \"sslmode\"?"
        ]
    );
}

#[test]
fn secrets_are_hidden_and_the_rest_is_shown() {
    let settings = load(&format!("{DATABASE}[log]\nlevel = \"debug\""), &[]).unwrap();
    let shown = settings.to_toml();
    assert!(!shown.contains("s3cret") && !format!("{settings:?}").contains("s3cret"), "{shown}");
    assert!(shown.contains("url = \"postgresql://u@localhost:5432/shop\""), "{shown}");
    assert!(shown.contains("[ticker]\n") && shown.contains("level = \"debug\""), "{shown}");
    // What is printed can be read again.
    load(&shown, &[]).unwrap();
}

#[test]
fn a_mistake_in_the_file_does_not_show_its_secrets() {
    let found = load("[database]\nurl = \"postgresql://u:s3cret@localhost/x\n", &[]).unwrap_err();
    assert!(found[0].starts_with("not TOML: ") && !found[0].contains("s3cret"), "{found:?}");
}

#[test]
fn a_named_file_must_exist() {
    let error = Settings::load(&Source::new(Some("/nowhere/tidemill.toml".into()), Vec::new())).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration file /nowhere/tidemill.toml");
}

#[test]
fn patterns() {
    for (pattern, text, fits) in [
        ("*", "", true),
        ("shard*", "shard12", true),
        ("shard*", "shar", false),
        ("*.mail", "eu.mail", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("mail", "mail2", false),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
}
