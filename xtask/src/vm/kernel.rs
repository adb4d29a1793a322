//! A kernel and the initramfs that boots it, fetched and built when missing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::{process, repository};

/// What QEMU needs to boot, and what the guest needs of the kernel afterwards.
#[derive(Debug)]
pub struct Kernel {
    /// The compressed kernel.
    pub image: PathBuf,
    /// For this kernel and these scripts.
    pub initramfs: PathBuf,
    /// `lib/modules/VERSION` of this kernel, on the host.
    pub modules: PathBuf,
}

/// The newest kernel of the series that this machine has, or the newest that there is.
pub fn prepare(series: &str) -> Result<Kernel, process::Error> {
    let scripts = repository::root().join("vm");
    let printed = process::output(process::command(scripts.join("kernel")).arg(series))?;
    let directory = PathBuf::from(String::from_utf8_lossy(&printed).trim_end());
    let version = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();

    // The name tells what is in it, so it is never stale and two runs never clash.
    let name = format!("initramfs-{version}-{:016x}", fingerprint(&scripts).unwrap_or_default());
    let initramfs = repository::target().join("vm").join(name);
    if !initramfs.exists() {
        let mut build = process::command(scripts.join("initramfs"));
        process::output(build.arg(&directory).arg(&initramfs))?;
    }
    Ok(Kernel {
        image: directory.join(format!("boot/vmlinuz-{version}")),
        modules: directory.join("lib/modules").join(version),
        initramfs,
    })
}

/// Changes whenever the initramfs would.
fn fingerprint(scripts: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for script in ["init", "initramfs"] {
        fs::read(scripts.join(script))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}
