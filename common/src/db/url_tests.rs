use super::*;

fn parse(text: &str) -> Parsed {
    Parsed::parse(text).unwrap()
}

fn sentence(text: &str) -> String {
    Parsed::parse(text).and_then(|parsed| parsed.check_tls(false)).unwrap_err().to_string()
}

#[test]
fn libpqs_units_and_our_defaults() {
    let parsed = parse("postgresql://db/x");
    assert_eq!(parsed.tcp_user_timeout, Duration::from_secs(8));
    assert_eq!(parsed.connect_timeout, Duration::from_secs(5));
    assert_eq!(
        (parsed.keepalives_idle, parsed.keepalives_interval),
        (Duration::from_secs(5), Duration::from_secs(2))
    );
    assert_eq!(parsed.keepalives_count, 3);
    assert_eq!(parsed.session_attrs, TargetSessionAttrs::ReadWrite);
    let parsed = parse(
        "postgresql://db/x?tcp_user_timeout=2500&connect_timeout=7&keepalives_idle=1&keepalives_interval=9\
         &keepalives_count=4&target_session_attrs=any",
    );
    assert_eq!(parsed.tcp_user_timeout, Duration::from_millis(2500));
    assert_eq!(parsed.connect_timeout, Duration::from_secs(7));
    assert_eq!(parsed.keepalives_count, 4);
    assert_eq!(parsed.session_attrs, TargetSessionAttrs::Any);
}

#[test]
fn hosts_ports_and_addresses_belong_together() {
    let hosts = parse("postgresql://a:1,b,[::1]:3/x").hosts;
    let shown: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a:1", "b:5432", "[::1]:3"]);
    let hosts = parse("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=6000").hosts;
    assert_eq!(hosts[1].address, Some([10, 0, 0, 2].into()));
    assert_eq!(hosts[1].port, 6000);
    assert_eq!(sentence("host=a,b port=1,2,3"), "the database URL names 2 hosts but 3 ports");
    assert_eq!(sentence("host=a,b hostaddr=::1"), "the database URL names 2 hosts but 1 hostaddr values");
}

#[test]
fn tls_is_verify_full_to_everything_that_is_not_local() {
    let mode = |text: &str| {
        let parsed = parse(text);
        parsed.mode_for(&parsed.hosts[0])
    };
    assert_eq!(mode("postgresql://db.example/x"), SslMode::VerifyFull);
    assert_eq!(mode("postgresql://10.1.2.3/x"), SslMode::VerifyFull);
    for local in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpg"] {
        assert_eq!(mode(&format!("postgresql://{local}/x")), SslMode::Disable, "{local}");
    }
    assert_eq!(mode("postgresql://localhost/x?sslmode=verify-full"), SslMode::VerifyFull);
    assert_eq!(mode("postgresql://%2Frun%2Fpg/x?sslmode=verify-full"), SslMode::Disable);
    assert_eq!(mode("postgresql://db/x?sslmode=require&sslrootcert=/ca.pem"), SslMode::VerifyCa);
    // An address decides, not the name it is called by.
    assert_eq!(mode("host=localhost hostaddr=10.0.0.1"), SslMode::VerifyFull);
}

#[test]
fn weaker_tls_must_be_allowed_by_name() {
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let url = format!("postgresql://localhost,db.example/x?sslmode={mode}");
        let error = sentence(&url);
        assert!(error.starts_with(&format!("sslmode={mode} to db.example does not prove")), "{error}");
        assert!(error.ends_with("or set allow_plaintext = true for this database"), "{error}");
        parse(&url).check_tls(true).unwrap();
    }
    parse("postgresql://localhost/x?sslmode=disable").check_tls(false).unwrap();
    parse("postgresql://db.example/x").check_tls(false).unwrap();
}

#[test]
fn an_unknown_parameter_is_named() {
    assert_eq!(
        sentence("postgresql://h/d?ssl_mode=require"),
        "unknown parameter \"ssl_mode\" in the database URL: did you mean \"sslmode\"?"
    );
    assert_eq!(sentence("host=h zzzzzz=1"), "unknown parameter \"zzzzzz\" in the database URL");
    assert_eq!(sentence("host=h passfile=/x"), "parameter \"passfile\" of the database URL is not supported");
}

#[test]
fn a_value_out_of_range_says_what_is_allowed() {
    assert_eq!(
        sentence("host=h connect_timeout=0"),
        "connect_timeout in the database URL must be a number of seconds from 1"
    );
    assert_eq!(sentence("host=h port=70000"), "port in the database URL must be numbers from 1 to 65535");
    assert_eq!(
        sentence("host=h sslmode=on"),
        "sslmode in the database URL must be disable, allow, prefer, require, verify-ca or verify-full"
    );
    assert_eq!(
        sentence("host=h target_session_attrs=standby"),
        "target_session_attrs in the database URL must be any, read-write, primary or read-only"
    );
    parse("host=h client_encoding=UTF-8");
}

#[test]
fn the_password_is_never_shown() {
    let parsed = parse("postgresql://u:s3cret@h/d");
    assert_eq!(parsed.password.as_ref().unwrap().reveal(), "s3cret");
    assert!(!format!("{parsed:?}").contains("s3cret"));
}
