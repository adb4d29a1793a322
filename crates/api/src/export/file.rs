//! Flows in a file, one JSON object a line, as Hubble's exporter writes them and
//! `observe --input-file` reads them. Only its owner may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::json;
use crate::proto::observer::GetFlowsResponse;

/// When a file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rotation {
    /// Bytes after which a new file is begun.
    pub bytes: u64,
    /// Files that are kept beside the present one.
    pub backups: u32,
    /// Whether these are compressed (RFC 1952), as `.1.gz` and so on.
    pub compress: bool,
}

impl Default for Rotation {
    /// Hubble's own: ten megabytes, five files.
    fn default() -> Self {
        Self { bytes: 10 << 20, backups: 5, compress: false }
    }
}

/// A file that flows are appended to.
pub struct FileSink {
    path: PathBuf,
    rotation: Rotation,
    open: Option<(File, u64)>,
    /// Compresses what was put aside last, beside the writing.
    compressing: Option<JoinHandle<io::Result<()>>>,
}

/// Ends of the names under which a file may be put aside.
const FORMS: [&str; 2] = ["", ".gz"];

impl FileSink {
    /// Opens nothing yet: a disk that is not there now may be there later.
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None, compressing: None }
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
    fn rotate(&mut self) -> io::Result<()> {
        self.wait_for_compression();
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let Rotation { backups, compress, .. } = self.rotation;
        if backups == 0 {
            return fs::remove_file(&self.path);
        }
        for form in FORMS {
            missing_is_fine(fs::remove_file(self.backup(backups, form)))?;
            for number in (1..backups).rev() {
                let (from, to) = (self.backup(number, form), self.backup(number + 1, form));
                missing_is_fine(fs::rename(from, to))?;
            }
        }
        let (plain, packed) = (self.backup(1, ""), self.backup(1, ".gz"));
        fs::rename(&self.path, &plain)?;
        if compress {
            self.compressing = Some(thread::spawn(move || pack(&plain, &packed)));
        }
        Ok(())
    }

    fn backup(&self, number: u32, form: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}{form}"));
        name.into()
    }

    /// What cannot be compressed stays as it is.
    fn wait_for_compression(&mut self) {
        let Some(ended) = self.compressing.take().map(JoinHandle::join) else { return };
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, file = %self.path.display(), "a file is not compressed");
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.wait_for_compression();
    }
}

/// Puts a compressed file in the place of a plain one; never half of one.
fn pack(plain: &Path, packed: &Path) -> io::Result<()> {
    let draft = packed.with_extension("gz.tmp");
    let mut options = OpenOptions::new();
    let target = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    io::copy(&mut File::open(plain)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(draft, packed)?;
    fs::remove_file(plain)
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
        let mut sink =
            FileSink::new(path.clone(), Rotation { bytes: 40, backups: 2, compress: false });
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

    /// Read back by the `gzip` program.
    #[test]
    fn what_is_put_aside_can_be_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.log");
        let rotation = Rotation { bytes: 40, backups: 2, compress: false };
        let mut sink = FileSink::new(path.clone(), rotation);
        sink.write(&[flow("a")]).unwrap();
        sink.write(&[flow("b")]).unwrap();
        // From here on compressed: what was plain stays plain, and goes in its turn.
        let mut sink = FileSink::new(path, Rotation { compress: true, ..rotation });
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        sink.write(&[flow("c")]).unwrap();
        sink.wait_for_compression();
        assert_eq!(names(folder.path()), ["flows.log", "flows.log.1.gz", "flows.log.2"]);
        sink.write(&[flow("d")]).unwrap();
        drop(sink);
        assert_eq!(names(folder.path()), ["flows.log", "flows.log.1.gz", "flows.log.2.gz"]);
        for (name, uuid) in [("flows.log.1.gz", "c"), ("flows.log.2.gz", "b")] {
            let packed = folder.path().join(name);
            assert_eq!(fs::metadata(&packed).unwrap().permissions().mode() & 0o777, 0o600);
            let run = std::process::Command::new("gzip").arg("-cd").arg(packed).output().unwrap();
            let text = String::from_utf8(run.stdout).unwrap();
            assert_eq!(text, format!("{{\"flow\":{{\"uuid\":\"{uuid}\"}}}}\n"));
        }
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
