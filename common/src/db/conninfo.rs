//! libpq's two notations of a connection, read into plain parameters: `postgresql://…` and `key=value`.
//! No value is judged here; that is [`super::url`].

use super::url::UrlError;

/// Parameters in the order they were written; the last of one name wins, as in libpq.
pub(super) type Params = Vec<(String, String)>;

/// Reads either notation. Errors name the place, never the value: it may hold the password.
pub(super) fn parse(text: &str) -> Result<Params, UrlError> {
    let text = text.trim();
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => parse_uri(rest),
        None if text.contains("://") => Err(UrlError::Scheme),
        None => parse_pairs(text),
    }
}

fn parse_uri(rest: &str) -> Result<Params, UrlError> {
    let mut params = Params::new();
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(left, right)| (left, Some(right)));
    // A slash inside the host part is always percent-encoded (a socket directory), so the first one ends it;
    // the user part may hold neither an unencoded "/" nor "@".
    let (authority, dbname) = rest.split_once('/').map_or((rest, ""), |(left, right)| (left, right));
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((user, hosts)) => {
            let (user, password) = user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)));
            push_decoded(&mut params, "user", user)?;
            if let Some(password) = password {
                push_decoded(&mut params, "password", password)?;
            }
            hosts
        }
    };
    if !hosts.is_empty() {
        push_hosts(&mut params, hosts)?;
    }
    push_decoded(&mut params, "dbname", dbname)?;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(UrlError::MissingEquals)?;
        let key = decode(key, "a parameter name")?;
        // JDBC's spelling, which libpq understands as well.
        let (key, value) = match (key.as_str(), value) {
            ("ssl", "true") => ("sslmode".to_owned(), "require"),
            _ => (key, value),
        };
        let value = decode(value, "a parameter value")?;
        params.push((key, value));
    }
    Ok(params)
}

fn push_decoded(params: &mut Params, key: &'static str, value: &str) -> Result<(), UrlError> {
    if !value.is_empty() {
        params.push((key.to_owned(), decode(value, key)?));
    }
    Ok(())
}

fn push_hosts(params: &mut Params, hosts: &str) -> Result<(), UrlError> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for part in hosts.split(',') {
        let (host, port) = match part.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or(UrlError::Bracket)?;
                match after.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if after.is_empty() => (host, ""),
                    None => return Err(UrlError::Bracket),
                }
            }
            None => part.split_once(':').unwrap_or((part, "")),
        };
        names.push(decode(host, "host")?);
        ports.push(decode(port, "port")?);
    }
    params.push(("host".to_owned(), names.join(",")));
    if ports.iter().any(|port| !port.is_empty()) {
        params.push(("port".to_owned(), ports.join(",")));
    }
    Ok(())
}

/// Percent-decoding; `+` stays `+`, as in libpq.
fn decode(text: &str, place: &'static str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| *byte != 0);
        bytes.push(byte.ok_or(UrlError::Percent { place })?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Percent { place })
}

/// `key = value key2 = 'quoted \' value'`.
fn parse_pairs(text: &str) -> Result<Params, UrlError> {
    let mut params = Params::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(params);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(UrlError::MissingEquals);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err(UrlError::Quote),
                None => break,
            }
        }
        params.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn owned(pairs: &[(&str, &str)]) -> Params {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_uri_gives_its_parts_decoded() {
        assert_eq!(
            pairs(
                "postgresql://us%40er:p%3Aw%2F@db1:6432,[::1],db3/my%20db?sslmode=require&options=-c%20a%3Db"
            ),
            owned(&[
                ("user", "us@er"),
                ("password", "p:w/"),
                ("host", "db1,::1,db3"),
                ("port", "6432,,"),
                ("dbname", "my db"),
                ("sslmode", "require"),
                ("options", "-c a=b"),
            ])
        );
        assert_eq!(
            pairs("postgres://%2Fvar%2Frun/x?host=other"),
            owned(&[("host", "/var/run"), ("dbname", "x"), ("host", "other")])
        );
        assert_eq!(pairs("postgresql://"), owned(&[]));
        assert_eq!(pairs("postgresql:///d?ssl=true"), owned(&[("dbname", "d"), ("sslmode", "require")]));
    }

    #[test]
    fn key_value_pairs_may_be_quoted() {
        assert_eq!(
            pairs(r"host = 'a b' password='it\'s \\' port=1   dbname=x\ y user=''"),
            owned(&[
                ("host", "a b"),
                ("password", r"it's \"),
                ("port", "1"),
                ("dbname", "x y"),
                ("user", "")
            ])
        );
    }

    #[test]
    fn errors_name_the_place_and_never_the_value() {
        for bad in [
            "postgresql://u:s3cret%zz@h/d",
            "postgresql://u:s3cret%00@h/d",
            "postgresql://u:s3cret@[::1/d",
            "mysql://u:s3cret@h/d",
            "host=h password='s3cret",
            "s3cret",
            "postgresql://u:s3cret@h/d?sslmode",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
