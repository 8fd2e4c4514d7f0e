//! What libpq takes from around the process: variables, the service file, the password file. The only place
//! where connections look at them.

use super::{KEYWORDS, Settings, refuse_unknown, wrong};
use crate::error::{Doing, Error, Kind, Result};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The process's surroundings, as far as connections depend on them.
pub(super) struct Environment {
    pub variables: HashMap<String, String>,
    pub home: Option<PathBuf>,
}

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Environment {
        let text = |name: std::ffi::OsString| name.into_string().ok();
        let variables: HashMap<_, _> =
            std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        let home = variables.get("HOME").map(PathBuf::from);
        Environment { variables, home }
    }

    fn variable(&self, name: &str) -> Option<&String> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    /// Adds what the string left open: first from the service it names, then from the variables.
    pub fn fill(&self, settings: &mut Settings) -> Result<()> {
        let service = settings.get("service").or_else(|| self.variable("PGSERVICE")).cloned();
        if let Some(service) = service.filter(|service| !service.is_empty()) {
            for (key, value) in self.service(&service, settings.get("servicefile"))? {
                settings.entry(key).or_insert(value);
            }
        }
        for (key, variable) in KEYWORDS {
            if let (false, Some(value)) = (variable.is_empty(), self.variable(variable)) {
                settings.entry(key.to_owned()).or_insert_with(|| value.clone());
            }
        }
        Ok(())
    }

    /// The entries of a service: the user's file first, then the system's.
    fn service(&self, service: &str, file: Option<&String>) -> Result<Vec<(String, String)>> {
        let own = file
            .or_else(|| self.variable("PGSERVICEFILE"))
            .map(PathBuf::from)
            .or_else(|| self.home.as_ref().map(|home| home.join(".pg_service.conf")));
        let directory = self.variable("PGSYSCONFDIR").map_or("/etc/postgresql-common", String::as_str);
        for path in own.into_iter().chain([Path::new(directory).join("pg_service.conf")]) {
            if !path.exists() {
                continue;
            }
            let text = fs::read_to_string(&path)
                .doing(Kind::Plan, || format!("the service file {} cannot be read", path.display()))?;
            if let Some(entries) = read_service(&text, service, &path)? {
                return Ok(entries);
            }
        }
        Err(Error::new(Kind::Plan, format!("connection service `{service}` is defined nowhere"))
            .hint("Define [it] in ~/.pg_service.conf, or name the file in PGSERVICEFILE."))
    }

    /// Looks a password up in the password file. A file others can read is not used, as libpq does not.
    pub fn password(
        &self,
        settings: &Settings,
        host: &str,
        port: u16,
        database: &str,
        user: &str,
    ) -> Option<String> {
        let path = settings
            .get("passfile")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| self.home.as_ref().map(|home| home.join(".pgpass")))?;
        let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        if meta.mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "the password file is ignored: others can read it (chmod 600)");
            return None;
        }
        let text = fs::read_to_string(&path).ok()?;
        let host = if host.starts_with('/') { "localhost" } else { host };
        let sought = [host, &port.to_string(), database, user];
        text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let fields = divide_pass_line(line);
            let matches = fields.len() >= 5
                && fields.iter().zip(sought).all(|(field, sought)| field == "*" || *field == sought);
            matches.then(|| fields[4].clone()).filter(|password| !password.is_empty())
        })
    }

    /// A file of `~/.postgresql`, if it is there.
    pub fn home_file(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".postgresql").join(name)).filter(|path| path.is_file())
    }

    /// The role libpq would take: the name of the user who runs us.
    pub fn user(&self) -> Option<String> {
        self.variable("USER").or_else(|| self.variable("LOGNAME")).cloned()
    }

    /// Where a server is looked for when no host is named: a local socket, else localhost.
    pub fn default_host(&self, port: u16) -> String {
        ["/var/run/postgresql", "/tmp"]
            .into_iter()
            .find(|directory| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists())
            .unwrap_or("localhost")
            .to_owned()
    }
}

fn read_service(text: &str, service: &str, path: &Path) -> Result<Option<Vec<(String, String)>>> {
    let mut found = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            if found.is_some() {
                break;
            }
            found = (line == format!("[{service}]")).then(Vec::new);
            continue;
        }
        let Some(entries) = &mut found else { continue };
        let place = format!("line {} of {}", number + 1, path.display());
        let Some((key, value)) = line.split_once('=') else {
            return Err(
                Error::new(Kind::Plan, format!("{place} is not key=value")).hint("Correct the service file.")
            );
        };
        refuse_unknown(key.trim(), &place)?;
        if key.trim() == "service" {
            return Err(wrong("service", &format!("is nested ({place})"), "A service may not name another."));
        }
        entries.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(found)
}

/// The fields of a line of the password file: divided by `:`, where a backslash protects the next character.
fn divide_pass_line(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.next() } else { None };
        match (c, escaped) {
            (':', _) => fields.push(String::new()),
            (c, escaped) => fields.last_mut().into_iter().for_each(|field| field.push(escaped.unwrap_or(c))),
        }
    }
    fields
}
