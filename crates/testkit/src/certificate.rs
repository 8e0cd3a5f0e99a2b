//! A certificate for loopback, and the authority that nobody else knows which signed it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::run;

/// Writes a certificate authority (`ca.pem`) and a certificate of it (`<name>.pem`, `<name>.key`) into a directory;
/// gives the authority in PEM.
pub fn write(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let openssl = |words: &[&str], name: &str| {
        let common = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let (key, out) = (format!("{name}.key"), format!("{name}.pem"));
        run(Command::new("openssl").current_dir(dir).args(common).args(words).args(["-keyout", &key, "-out", &out]))
    };
    openssl(&["-subj", "/CN=cakework test authority"], "ca")?;
    let names =
        ["-addext", "subjectAltName=IP:127.0.0.1,IP:0.0.0.0,DNS:localhost", "-addext", "basicConstraints=CA:FALSE"];
    let signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=localhost"];
    openssl(&[signer.as_slice(), names.as_slice()].concat(), name)?;
    Ok(std::fs::read(dir.join("ca.pem"))?)
}
