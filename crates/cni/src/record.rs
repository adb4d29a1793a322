//! The note that the plugin leaves for the agent about each pod interface: one
//! file `HOSTINTERFACE.json` in the node's `endpoints` folder.
//!
//! Written before the link is up, by rename, so a reader sees all of it or
//! nothing. What does not read as a record is refused with its path: a guess
//! about an endpoint would be a guess about a right.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::{EndpointRecord, PodName};
use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};
use crate::file;
use crate::result::{mac_from_text, mac_text};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Larger than any record.
const LARGEST: u64 = 64 * 1024;

/// Why a record could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a record.
    #[error("`{}` is not an endpoint record: {reason}", path.display())]
    Junk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        let code = match &error {
            RecordError::Junk { .. } => Code::Decode,
            RecordError::Io { .. } => Code::Io,
        };
        Self::caused_by(code, &error)
    }
}

/// All records of a folder, and the files that are none.
#[derive(Debug, Default)]
pub struct Listing {
    /// The records, sorted by file name.
    pub records: Vec<EndpointRecord>,
    /// Files that could not be read as records. One bad file hides no other.
    pub refused: Vec<RecordError>,
}

/// The file's contents.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RecordFile {
    version: u32,
    container_id: String,
    pod_namespace: String,
    pod_name: String,
    pod_interface: String,
    host_interface: String,
    ifindex: u32,
    mac: String,
    addresses: Vec<IpAddr>,
    netns_id: i32,
}

/// Where the record of a host interface lies.
pub fn path(endpoints: &Path, host_interface: &str) -> PathBuf {
    endpoints.join(format!("{host_interface}.json"))
}

/// Writes a record, in place of an earlier one of the same interface.
pub fn write(endpoints: &Path, record: &EndpointRecord) -> Result<(), RecordError> {
    fs::create_dir_all(endpoints).map_err(|source| RecordError::Io {
        action: "create the folder",
        path: endpoints.to_owned(),
        source,
    })?;
    let path = path(endpoints, &record.host_interface);
    let json = serde_json::to_vec_pretty(&RecordFile::from(record)).map_err(io::Error::from);
    json.and_then(|json| file::replace(&path, &json)).map_err(|source| RecordError::Io {
        action: "write",
        path,
        source,
    })
}

/// Reads the record at `path`.
pub fn read(path: &Path) -> Result<EndpointRecord, RecordError> {
    let refused = |source| RecordError::Io { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(refused)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(refused)?;
    parse(path, &bytes).map_err(|reason| RecordError::Junk { path: path.to_owned(), reason })
}

/// The record of a host interface, if there is one.
pub fn find(endpoints: &Path, host_interface: &str) -> Result<Option<EndpointRecord>, RecordError> {
    match read(&path(endpoints, host_interface)) {
        Ok(record) => Ok(Some(record)),
        Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads every record of the folder; a missing folder has none. Drafts and files
/// that are not `*.json` are nobody's business.
pub fn list(endpoints: &Path) -> Result<Listing, RecordError> {
    let refused = |source| RecordError::Io { action: "list", path: endpoints.to_owned(), source };
    let entries = match fs::read_dir(endpoints) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
        Err(error) => return Err(refused(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(refused)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut listing = Listing::default();
    for path in paths {
        match read(&path) {
            Ok(record) => listing.records.push(record),
            // Removed since the folder was listed: the pod is gone, not the file bad.
            Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => listing.refused.push(error),
        }
    }
    Ok(listing)
}

/// Removes the record of a host interface; it may be gone already.
pub fn remove(endpoints: &Path, host_interface: &str) -> Result<(), RecordError> {
    let path = path(endpoints, host_interface);
    file::remove(&path).map_err(|source| RecordError::Io { action: "remove", path, source })
}

impl From<&EndpointRecord> for RecordFile {
    fn from(record: &EndpointRecord) -> Self {
        let EndpointRecord {
            container_id,
            pod: PodName { namespace, name },
            pod_interface,
            host_interface,
            ifindex,
            mac,
            addresses,
            netns_id,
        } = record.clone();
        Self {
            version: FORMAT,
            container_id,
            pod_namespace: namespace,
            pod_name: name,
            pod_interface,
            host_interface,
            ifindex,
            mac: mac_text(mac),
            addresses,
            netns_id,
        }
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<EndpointRecord, String> {
    if bytes.len() as u64 > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    let file: RecordFile = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let RecordFile {
        version,
        container_id,
        pod_namespace: namespace,
        pod_name: name,
        pod_interface,
        host_interface,
        ifindex,
        mac,
        addresses,
        netns_id,
    } = file;
    if version != FORMAT {
        return Err(format!("version {version}, not {FORMAT}"));
    }
    if path.file_stem().is_none_or(|stem| stem != host_interface.as_str()) {
        return Err(format!("it is about `{host_interface}`, not about the file's name"));
    }
    if ifindex == 0 {
        return Err("ifindex 0 is no interface".into());
    }
    if container_id.is_empty() || namespace.is_empty() || name.is_empty() {
        return Err("container or pod without a name".into());
    }
    let families = |ipv4: bool| addresses.iter().filter(|a| a.is_ipv4() == ipv4).count();
    if addresses.is_empty() || families(true) > 1 || families(false) > 1 {
        return Err("it needs one address, or one of each family".into());
    }
    let mac = mac_from_text(&mac).ok_or_else(|| format!("`{mac}` is no MAC"))?;
    Ok(EndpointRecord {
        container_id,
        pod: PodName { namespace, name },
        pod_interface,
        host_interface,
        ifindex,
        mac,
        addresses,
        netns_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(host_interface: &str) -> EndpointRecord {
        EndpointRecord {
            container_id: "c1".into(),
            pod: PodName { namespace: "web".into(), name: "a".into() },
            pod_interface: "eth0".into(),
            host_interface: host_interface.into(),
            ifindex: 7,
            mac: [2, 0, 0, 0, 0, 0xb],
            addresses: vec!["10.1.0.2".parse().unwrap(), "fd00:1::2".parse().unwrap()],
            netns_id: 3,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let endpoints = folder.path().join("endpoints");
        write(&endpoints, &record("sg1")).unwrap();
        assert_eq!(read(&path(&endpoints, "sg1")).unwrap(), record("sg1"));
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(endpoints.join("sg1.json")).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "version": 1, "containerId": "c1", "podNamespace": "web", "podName": "a",
                "podInterface": "eth0", "hostInterface": "sg1", "ifindex": 7,
                "mac": "02:00:00:00:00:0b", "addresses": ["10.1.0.2", "fd00:1::2"], "netnsId": 3,
            })
        );
    }

    #[test]
    fn one_bad_file_hides_no_other_and_drafts_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &record("sg1")).unwrap();
        write(folder.path(), &record("sg3")).unwrap();
        fs::write(folder.path().join("sg2.json"), "{").unwrap();
        fs::write(folder.path().join(".sg4.json.1.tmp"), "{").unwrap();
        fs::write(folder.path().join("README"), "{").unwrap();
        let listing = list(folder.path()).unwrap();
        assert_eq!(listing.records, [record("sg1"), record("sg3")]);
        assert_eq!(listing.refused.len(), 1);
        assert!(listing.refused[0].to_string().contains("sg2.json"));
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_records() {
        let folder = tempfile::tempdir().unwrap();
        let listing = list(&folder.path().join("endpoints")).unwrap();
        assert!(listing.records.is_empty() && listing.refused.is_empty());
        assert!(find(folder.path(), "sg1").unwrap().is_none());
        remove(folder.path(), "sg1").unwrap();
    }

    /// A record with one field changed is refused for `reason`.
    #[track_caller]
    fn check_junk(field: &str, value: serde_json::Value, reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &record("sg1")).unwrap();
        let path = folder.path().join("sg1.json");
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[field] = value;
        fs::write(&path, json.to_string()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert_eq!(error, format!("`{}` is not an endpoint record: {reason}", path.display()));
    }

    #[test]
    fn records_that_cannot_be_true_are_refused() {
        use serde_json::json;
        check_junk("version", json!(2), "version 2, not 1");
        check_junk("ifindex", json!(0), "ifindex 0 is no interface");
        check_junk("mac", json!("02:00"), "`02:00` is no MAC");
        check_junk("podName", json!(""), "container or pod without a name");
        check_junk("addresses", json!([]), "it needs one address, or one of each family");
        check_junk(
            "addresses",
            json!(["10.1.0.2", "10.1.0.3"]),
            "it needs one address, or one of each family",
        );
        check_junk("hostInterface", json!("sg2"), "it is about `sg2`, not about the file's name");
    }
}
