//! The addresses of this node's pods: who has which, kept in one file.
//!
//! [`Ledger`] decides, [`Ipam`] holds the lock and the file. Neither looks at
//! interfaces: an address is taken when the ledger says so.

mod ledger;

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::attachment::Attachment;
use crate::failure::{Code, Failure};
use crate::file;

pub use ledger::{Lease, Ledger};

/// Why addresses could not be given or taken back.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Every address of the subnet is taken.
    #[error(
        "no free address in {subnet}: all {taken} are taken; delete pods or give the node a \
         wider subnet"
    )]
    Exhausted {
        /// The subnet.
        subnet: IpNet,
        /// How many addresses it has for pods.
        taken: usize,
    },
    /// The ledger's file is not what this plugin writes.
    #[error(
        "`{}` is not a ledger of addresses ({reason}); once no pod of this node runs, remove it",
        path.display()
    )]
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
        /// The file.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl From<IpamError> for Failure {
    fn from(error: IpamError) -> Self {
        let code = match &error {
            IpamError::Exhausted { .. } => Code::TryLater,
            IpamError::Junk { .. } => Code::Decode,
            IpamError::Io { .. } => Code::Io,
        };
        Self::caused_by(code, &error)
    }
}

/// The ledger of a node, locked against other plugins until dropped.
#[derive(Debug)]
pub struct Ipam {
    path: PathBuf,
    ledger: Ledger,
    /// Closing the file lets the lock go.
    _lock: File,
}

impl Ipam {
    /// Waits for the lock and reads the ledger; a missing one is empty.
    pub fn lock(state_dir: &Path) -> Result<Self, IpamError> {
        let lock_path = state_dir.join("ipam.lock");
        let at_lock = |action| {
            let path = lock_path.clone();
            move |source| IpamError::Io { action, path, source }
        };
        fs::create_dir_all(state_dir).map_err(at_lock("create the folder of"))?;
        let lock = File::create(&lock_path).map_err(at_lock("create"))?;
        lock.lock().map_err(at_lock("lock"))?;
        let path = state_dir.join("ipam.json");
        let ledger = match fs::read(&path) {
            Ok(bytes) => Ledger::from_json(&bytes)
                .map_err(|reason| IpamError::Junk { path: path.clone(), reason })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ledger::default(),
            Err(source) => return Err(IpamError::Io { action: "read", path, source }),
        };
        Ok(Self { path, ledger, _lock: lock })
    }

    /// One address of each subnet for this attachment: the ones it has, or the
    /// next free ones. On disk when this returns.
    pub fn allocate(
        &mut self,
        network: &str,
        attachment: &Attachment,
        subnets: &[IpNet],
    ) -> Result<Vec<IpAddr>, IpamError> {
        let before = self.ledger.clone();
        let addresses = self.ledger.allocate(network, attachment, subnets)?;
        if self.ledger != before {
            self.save()?;
        }
        Ok(addresses)
    }

    /// Takes the attachment's addresses back; it may have none.
    pub fn release(&mut self, attachment: &Attachment) -> Result<(), IpamError> {
        if self.ledger.release(attachment) {
            self.save()?;
        }
        Ok(())
    }

    /// What the ledger says.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn save(&self) -> Result<(), IpamError> {
        file::replace(&self.path, &self.ledger.to_json()).map_err(|source| IpamError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    fn subnets() -> Vec<IpNet> {
        ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse().unwrap()).into()
    }

    fn attachment(number: usize) -> Attachment {
        Attachment::new(&format!("c{number}"), "eth0").unwrap()
    }

    #[test]
    fn addresses_survive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let given =
            Ipam::lock(folder.path()).unwrap().allocate("n", &attachment(1), &subnets()).unwrap();
        let mut later = Ipam::lock(folder.path()).unwrap();
        assert_eq!(later.ledger().addresses(&attachment(1)), given);
        assert_eq!(later.allocate("n", &attachment(1), &subnets()).unwrap(), given);
    }

    #[test]
    fn plugins_at_once_never_give_an_address_twice() {
        let folder = tempfile::tempdir().unwrap();
        let given: Vec<Vec<IpAddr>> = thread::scope(|scope| {
            let plugins: Vec<_> = (0..16)
                .map(|number| {
                    let path = folder.path();
                    scope.spawn(move || {
                        let mut ipam = Ipam::lock(path).unwrap();
                        ipam.allocate("n", &attachment(number), &subnets()).unwrap()
                    })
                })
                .collect();
            plugins.into_iter().map(|plugin| plugin.join().unwrap()).collect()
        });
        let distinct: BTreeSet<IpAddr> = given.into_iter().flatten().collect();
        assert_eq!(distinct.len(), 32);
    }

    #[test]
    fn a_junk_ledger_is_refused_with_its_path_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipam.json");
        fs::write(&path, "{").unwrap();
        let error = Ipam::lock(folder.path()).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{");
    }
}
