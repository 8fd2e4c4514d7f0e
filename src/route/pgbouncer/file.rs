//! Replacing a configuration file: whole or not at all, with the same owner and mode.
//!
//! Access control lists and extended attributes are not carried over.

use crate::error::{Doing, Error, Kind, Result};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// Reads the file.
///
/// # Errors
/// [`Kind::Request`] when it cannot be read or is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).doing(Kind::Request, || format!("cannot read {}", path.display())).map_err(
        |error| {
            error.hint(
                "Run migrate on the machine of this PgBouncer, as a user that may read and replace its file.",
            )
        },
    )
}

/// Replaces `old` by `new`: a temporary file beside it, fsync, rename, fsync of the directory.
///
/// A crash leaves the old file or the new one, and perhaps the temporary file, which the next call removes. A symbolic
/// link stays one; the file it leads to is replaced.
///
/// # Errors
/// [`Kind::Request`] when the file is not `old` any more, or cannot be replaced with the same owner and mode.
pub fn replace(path: &Path, old: &str, new: &str) -> Result<()> {
    let doing = || format!("cannot replace {}", path.display());
    let path = &fs::canonicalize(path).doing(Kind::Request, doing)?;
    let draft = Draft::beside(path)?;
    draft.file.try_clone().and_then(|mut file| file.write_all(new.as_bytes())).doing(Kind::Request, doing)?;
    draft.file.sync_all().doing(Kind::Request, doing)?;
    if read(path)? != old {
        return Err(Error::new(
            Kind::Request,
            format!("{} was changed by somebody else meanwhile", path.display()),
        )
        .hint("Let nothing else write this file during a cutover, and try again."));
    }
    fs::rename(&draft.path, path).doing(Kind::Request, doing)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory).and_then(|directory| directory.sync_all()).doing(Kind::Request, doing)
}

/// Proves that [`replace`] could work, by making the temporary file and removing it.
///
/// # Errors
/// [`Kind::Request`] with the reason.
pub fn prove_replaceable(path: &Path) -> Result<()> {
    let path = fs::canonicalize(path).doing(Kind::Request, || format!("cannot find {}", path.display()))?;
    Draft::beside(&path).map(drop)
}

/// A temporary file beside the real one, with its owner and mode; removed when dropped before it was renamed.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        let _ = fs::remove_file(&self.path);
    }
}

impl Draft {
    fn beside(path: &Path) -> Result<Draft> {
        let doing = || format!("cannot write a file like {} beside it", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft_path = path.with_file_name(format!(".{name}.migrate"));
        let wanted = fs::metadata(path).doing(Kind::Request, doing)?;
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft_path);
        let opened = match open() {
            // Left by a crash: whoever holds the lease is alone here.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                fs::remove_file(&draft_path).and_then(|()| open())
            }
            other => other,
        };
        let draft = Draft { file: opened.doing(Kind::Request, doing)?, path: draft_path };
        let made = draft.file.metadata().doing(Kind::Request, doing)?;
        if (made.uid(), made.gid()) != (wanted.uid(), wanted.gid()) {
            fchown(&draft.file, Some(wanted.uid()), Some(wanted.gid())).doing(Kind::Request, || {
                format!("cannot give a new {} its owner {}:{}", path.display(), wanted.uid(), wanted.gid())
            })?;
        }
        // After the owner, since a change of owner clears bits of the mode.
        let mode = Permissions::from_mode(wanted.mode() & 0o7777);
        draft.file.set_permissions(mode).doing(Kind::Request, doing)?;
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("migrate-file-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn content_changes_and_owner_and_mode_stay() {
        let scratch = Scratch::new("mode");
        let path = scratch.0.join("a.ini");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        // Another owner only where we may.
        let _ = std::os::unix::fs::chown(&path, Some(65534), Some(65534));
        let before = fs::metadata(&path).unwrap();
        fs::write(scratch.0.join(".a.ini.migrate"), "left by a crash").unwrap();
        replace(&path, "old", "new").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
        assert_eq!(scratch.names(), ["a.ini"]);
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let scratch = Scratch::new("changed");
        let path = scratch.0.join("a.ini");
        fs::write(&path, "theirs").unwrap();
        assert!(replace(&path, "old", "new").unwrap_err().what.contains("meanwhile"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(scratch.names(), ["a.ini"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let scratch = Scratch::new("link");
        let (path, link) = (scratch.0.join("real.ini"), scratch.0.join("link.ini"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, "old", "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn replaceable_is_proved_without_a_trace() {
        let scratch = Scratch::new("prove");
        let path = scratch.0.join("a.ini");
        assert!(prove_replaceable(&path).is_err());
        fs::write(&path, "x").unwrap();
        prove_replaceable(&path).unwrap();
        assert_eq!(scratch.names(), ["a.ini"]);
    }
}
