//! The HTTP client of all fixtures, and free loopback ports.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A client that knows no proxy, follows no redirect and gives a call at most 60 s, the contract's own bound.
pub fn client() -> reqwest::Client {
    builder().build().expect("these options are valid together")
}

/// The same, which trusts one certificate authority more, given as PEM.
pub fn client_trusting(ca: &[u8]) -> reqwest::Result<reqwest::Client> {
    builder().tls_certs_merge([reqwest::Certificate::from_pem(ca)?]).build()
}

fn builder() -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60))
}

/// Chooses the process-wide TLS implementation: reqwest, built without one, panics on its first client otherwise.
pub fn install_crypto() {
    // The error says that another part of the process has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A loopback port that was free a moment ago, and that nobody in this process was told of before: it may be bound late.
/// Another process may take it first: callers try again.
pub fn free_port() -> io::Result<u16> {
    static TOLD: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}
