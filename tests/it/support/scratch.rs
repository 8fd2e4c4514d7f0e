//! A temporary directory, and the end of everything that was started in it.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// How a process is asked to end. It is killed when it has not after ten seconds.
#[derive(Debug, Clone, Copy)]
pub enum EndBy {
    /// SIGQUIT: Postgres' immediate shutdown.
    Quit,
    /// SIGTERM.
    Terminate,
    /// SIGKILL at once.
    Kill,
}

/// A directory and the processes that live in it. When it is dropped, or when this process ends in any way,
/// the processes are ended by their ids and the directory is removed, by a guard in a session of its own.
pub struct Scratch {
    path: PathBuf,
    guard: Mutex<Option<(Child, ChildStdin)>>,
}

impl Scratch {
    /// Makes a directory that the user of the servers can reach, and starts its guard.
    pub fn new(label: &str) -> Result<Scratch> {
        let path = make_directory(label)?;
        let mut guard = Command::new("bash")
            .args(["-c", include_str!("guard.sh"), "migrate-guard"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C on the terminal does not reach it.
            .process_group(0)
            .spawn()
            .context("cannot start bash, which watches over the servers")?;
        let Some(input) = guard.stdin.take() else { bail!("the guard has no input") };
        Ok(Scratch { path, guard: Mutex::new(Some((guard, input))) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory inside, owned by the user the servers run as.
    pub fn directory(&self, name: &str, owner: Option<(u32, u32)>) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&path, Some(user), Some(group))
                .with_context(|| format!("cannot give {} to user {user}", path.display()))?;
        }
        Ok(path)
    }

    /// Has a process ended when this scratch ends.
    pub fn watch(&self, pid: u32, end_by: EndBy) -> Result<()> {
        let signal = match end_by {
            EndBy::Quit => "QUIT",
            EndBy::Terminate => "TERM",
            EndBy::Kill => "KILL",
        };
        let mut guard = self.guard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some((_, input)) = guard.as_mut() else { bail!("this scratch directory has ended") };
        writeln!(input, "watch {signal} {pid}").context("the guard is gone")?;
        Ok(())
    }

    /// Ends everything now and waits for it.
    pub fn end(&self) {
        let taken = self.guard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some((mut guard, input)) = taken {
            drop(input);
            let _ = guard.wait();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.end();
    }
}

/// `TMPDIR` may lie in a home that another user cannot enter, so the first that everyone can enter is taken.
fn make_directory(label: &str) -> Result<PathBuf> {
    let candidates = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
    let open = |path: &Path| {
        path.ancestors().all(|part| {
            std::fs::metadata(part).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
        })
    };
    let Some(base) = candidates.iter().find(|path| open(path)) else {
        bail!("no temporary directory that every user can enter; set TMPDIR");
    };
    let path = base.join(format!("migrate-{label}-{}-{:08x}", std::process::id(), rand::random::<u32>()));
    std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
