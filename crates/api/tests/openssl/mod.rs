//! Certificates of another make.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Certificates in a folder, made with the `openssl` program.
pub struct Authority(tempfile::TempDir);

#[track_caller]
fn openssl(arguments: &[&str]) -> String {
    let run = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "openssl {arguments:?}: {error}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

impl Authority {
    /// One that nobody knows yet.
    pub fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let (key, certificate) = (this.text("ca.key"), this.text("ca.pem"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
        // Not two of one name: they would be taken for each other.
        let subject = format!("/CN={}", this.0.path().file_name().unwrap().display());
        let own = ["-keyout", &key, "-out", &certificate, "-subj", &subject, "-days", "2"];
        openssl(&[&["req", "-x509"][..], &curve, &own].concat());
        this
    }

    /// Where a file lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same, as an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A certificate for a name; its SHA-256 as a list of readers has it.
    pub fn issue(&self, name: &str) -> String {
        let (key, request, pem) =
            [".key", ".csr", ".pem"].map(|end| self.text(&format!("{name}{end}"))).into();
        let subject = format!("/CN={name}");
        let alternative = format!("subjectAltName=DNS:{name}");
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
        let own = ["-keyout", &key, "-out", &request, "-subj", &subject, "-addext", &alternative];
        openssl(&[&["req"][..], &curve, &own].concat());
        let (ca, ca_key) = (self.text("ca.pem"), self.text("ca.key"));
        let signed = ["-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-out", &pem, "-days", "2"];
        openssl(&[&["x509", "-req", "-copy_extensions", "copyall"][..], &signed].concat());
        let shown = openssl(&["x509", "-in", &pem, "-noout", "-fingerprint", "-sha256"]);
        shown.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase()
    }
}
