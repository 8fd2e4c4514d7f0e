//! The two written forms of a connection string: URI, and keywords with values.

use super::{Settings, wrong};
use crate::error::{Error, Kind, Result};

/// Takes a connection string apart, without judging its keywords.
pub(super) fn read(text: &str) -> Result<Settings> {
    let text = text.trim();
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => read_uri(rest),
        None if text.contains("://") => {
            Err(Error::new(Kind::Plan, "the connection string is not for Postgres")
                .hint("It must begin with postgresql:// or be a list of keyword=value."))
        }
        None => read_keywords(text),
    }
}

fn read_uri(rest: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The password may hold an `@` that was not encoded, and a slash that was: the last `@` before the path divides.
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = host_and_port(place)?;
    for (key, value) in
        [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", database)]
    {
        if !value.is_empty() {
            settings.insert(key.to_owned(), decode(value, key)?);
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::new(Kind::Plan, "the connection URI has a parameter without a value")
                .hint("Write parameters after `?` as key=value, joined by `&`."));
        };
        let key = decode(key, "parameter name")?;
        let value = decode(value, &key)?;
        match (key.as_str(), value.as_str()) {
            // What JDBC's URIs say.
            ("ssl", "true") => settings.insert("sslmode".to_owned(), "require".to_owned()),
            _ => settings.insert(key, value),
        };
    }
    Ok(settings)
}

/// Divides `host:port`, where an IPv6 address stands in brackets.
fn host_and_port(place: &str) -> Result<(&str, &str)> {
    if let Some(rest) = place.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return Err(wrong("host", "has an opening bracket only", "Write an IPv6 address as [::1]."));
        };
        return Ok((host, rest.strip_prefix(':').unwrap_or(rest)));
    }
    Ok(place.rsplit_once(':').unwrap_or((place, "")))
}

fn decode(text: &str, key: &str) -> Result<String> {
    let bad = || {
        wrong(
            key,
            "is not properly percent-encoded",
            "Encode a literal `%` as %25, and `@`, `/`, `:` likewise.",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) if high + low > 0 => {
                bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?)
            }
            _ => return Err(bad()),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

fn read_keywords(text: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(settings);
        }
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next() != Some('=') {
            // The word may be the tail of a password with a space: it is not repeated.
            return Err(Error::new(Kind::Plan, "the connection string has a word without `=` after it").hint(
                "Write keyword=value pairs, with values that contain spaces in single quotes, or a postgresql:// URI.",
            ));
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let value = read_value(&mut rest)?;
        settings.insert(key, value);
    }
}

fn read_value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    while let Some(c) = rest.peek().copied() {
        if !quoted && c.is_whitespace() {
            return Ok(value);
        }
        rest.next();
        match c {
            '\'' if quoted => return Ok(value),
            '\\' => value.extend(rest.next()),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(Error::new(Kind::Plan, "the connection string has an opening quote only")
            .hint("End the value with a single quote; write \\' for a quote inside."));
    }
    Ok(value)
}
