//! Flows in a file, one JSON object a line, as Hubble's exporter writes them and
//! `observe --input-file` reads them. Only its owner may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::json;
use crate::proto::observer::GetFlowsResponse;

/// When a file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rotation {
    /// Bytes after which a new file is begun.
    pub bytes: u64,
    /// Files that are kept beside the present one.
    pub backups: u32,
}

impl Default for Rotation {
    /// Hubble's own: ten megabytes, five files.
    fn default() -> Self {
        Self { bytes: 10 << 20, backups: 5 }
    }
}

/// A file that flows are appended to.
pub struct FileSink {
    path: PathBuf,
    rotation: Rotation,
    open: Option<(File, u64)>,
}

impl FileSink {
    /// Opens nothing yet: a disk that is not there now may be there later.
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None }
    }

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends all, or fails; after a failure the file is opened again, and a line
    /// that was cut is ended, so that the next begins one of its own.
    pub fn write(&mut self, batch: &[GetFlowsResponse]) -> io::Result<()> {
        let mut text = String::new();
        for answer in batch {
            text.push_str(&json::to_json(answer).map_err(io::Error::other)?);
            text.push('\n');
        }
        let result = self.append(text.as_bytes());
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        if size > 0 && size + length > self.rotation.bytes {
            drop(file);
            self.rotate()?;
            (file, size) = self.reopen()?;
        }
        file.write_all(bytes)?;
        self.open = Some((file, size + length));
        Ok(())
    }

    fn reopen(&self) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).read(true).mode(0o600).open(&self.path)?;
        let size = file.metadata()?.len();
        if size > 0 && !ends_a_line(&file, size)? {
            file.write_all(b"\n")?;
            return Ok((file, size + 1));
        }
        Ok((file, size))
    }

    /// `flows.log` becomes `flows.log.1`, that `.2`, and so on; the last goes.
    fn rotate(&self) -> io::Result<()> {
        let backup = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.rotation.backups == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.rotation.backups).rev() {
            missing_is_fine(fs::rename(backup(number), backup(number + 1)))?;
        }
        fs::rename(&self.path, backup(1))
    }
}

fn ends_a_line(file: &File, size: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    file.read_exact_at(&mut last, size - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::flow::to_response;
    use crate::proto::flow::Flow;

    fn flow(uuid: &str) -> GetFlowsResponse {
        to_response(Flow { uuid: uuid.into(), ..Flow::default() })
    }

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn files_are_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.log");
        let mut sink = FileSink::new(path.clone(), Rotation { bytes: 40, backups: 2 });
        for uuid in ["a", "b", "c", "d", "e"] {
            sink.write(&[flow(uuid)]).unwrap();
        }
        let of = |name: &str| lines(&folder.path().join(name));
        assert_eq!(of("flows.log"), [r#"{"flow":{"uuid":"e"}}"#]);
        assert_eq!(of("flows.log.1"), [r#"{"flow":{"uuid":"d"}}"#]);
        assert_eq!(of("flows.log.2"), [r#"{"flow":{"uuid":"c"}}"#]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_is_continued_and_a_line_that_was_cut_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.log");
        fs::write(&path, "{\"flow\":{\"uu").unwrap();
        let mut sink = FileSink::new(path.clone(), Rotation::default());
        sink.write(&[flow("a")]).unwrap();
        assert_eq!(lines(&path)[1], r#"{"flow":{"uuid":"a"}}"#);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_an_error_and_later_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/flows.log");
        let mut sink = FileSink::new(path.clone(), Rotation::default());
        assert!(sink.write(&[flow("a")]).is_err());
        fs::create_dir(path.parent().unwrap()).unwrap();
        sink.write(&[flow("a")]).unwrap();
        assert_eq!(lines(&path).len(), 1);
    }
}
