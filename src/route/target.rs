//! Where a route entry points: host, port and database, and nothing else. Pure.

use super::connstr;
use crate::error::{Error, Kind, Result};
use std::{fmt, str::FromStr};

/// Where clients are sent. A part that is `None` stays as the entry has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Host name, address, list of them, or directory of a Unix socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Database.
    pub dbname: Option<String>,
}

impl FromStr for Target {
    type Err = Error;

    /// Reads `host=… port=… dbname=…`; any other key is refused, since nothing else of an entry is changed.
    ///
    /// # Errors
    /// [`Kind::Plan`] when it cannot be read, is empty, or has another key. The value is never quoted.
    fn from_str(text: &str) -> Result<Target> {
        let refuse = |what: String| {
            Error::new(Kind::Plan, format!("the route's `to` cannot be used: {what}"))
                .hint("Write it as `host=… port=… dbname=…`; user and password stay as the pooler has them.")
        };
        let mut target = Target::default();
        for pair in connstr::pairs(text).map_err(refuse)? {
            if pair.value.is_empty() || pair.value.chars().any(char::is_control) {
                return Err(refuse(format!("`{}` is empty or has a control character", pair.key)));
            }
            match pair.key.as_str() {
                "host" => target.host = Some(pair.value),
                "dbname" => target.dbname = Some(pair.value),
                "port" => match pair.value.parse() {
                    Ok(port) if port > 0 => target.port = Some(port),
                    _ => return Err(refuse("`port` is not a number from 1 to 65535".into())),
                },
                other => return Err(refuse(format!("it has `{other}`"))),
            }
        }
        if target == Target::default() {
            return Err(refuse("it is empty".into()));
        }
        Ok(target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| port.to_string());
        let parts = [("host", &self.host), ("port", &port), ("dbname", &self.dbname)];
        let given = parts.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        for (count, (key, value)) in given.enumerate() {
            let blank = if count == 0 { "" } else { " " };
            write!(f, "{blank}{key}={}", connstr::write_value(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read_back() {
        for text in ["host=db2 port=5433 dbname=app", "host=a,b", "port=1 dbname='my app'"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_host_port_and_dbname_are_taken() {
        for text in
            ["", "host=", "port=0", "port=70000", "host=a password=s3cret", "host=a host=b", "nonsense"]
        {
            let error = text.parse::<Target>().unwrap_err();
            assert_eq!(error.kind, Kind::Plan);
            assert!(!error.what.contains("s3cret"));
        }
    }
}
