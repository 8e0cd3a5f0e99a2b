//! The orders that a sandbox begins with: here is your network, now start your process or restore this memory.
//!
//! gVisor's own commands look into the network namespace for what they hand over, which takes a process, a namespace of
//! mounts and some tens of milliseconds. What they would find we know: so the same is said at the control socket
//! (`runsc/sandbox/network.go`, `runsc/boot/network.go`, `runsc/boot/controller.go`), to those builds whose words we know.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::Ipv4Net;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::urpc::{ControlSocket, UrpcError};
use super::{EngineError, Gvisor, RESTORE_TIMEOUT, START_TIMEOUT, failed};
use crate::net::{GUEST, GUEST_MAC, Told};
use crate::sys::packet::PacketSocket;

/// The builds, by their dates, whose control socket takes what is said here: their sources were compared.
const KNOWN: std::ops::RangeInclusive<u32> = 20_240_722..=20_251_103;
/// What the kernel lets a veth pair pass at once.
const GSO_MAX_BYTES: u32 = 65_536;
const MTU: u32 = 1500;
/// `QDiscFIFO` in `runsc/config/config.go`.
const QDISC_FIFO: u8 = 1;
/// The files of a memory image, in the order in which they are handed over.
const IMAGE_FILES: [&str; 3] = ["checkpoint.img", "pages_meta.img", "pages.img"];

/// How a build of the engine learns of its network.
pub fn told(build_date: u32) -> Told {
    if KNOWN.contains(&build_date) { Told::BySocket } else { Told::ByNamespace }
}

/// The first of the orders.
const LINKS: &str = "Network.CreateLinksAndRoutes";

impl EngineError {
    /// Whether the sandbox ended before it heard what it was to begin with: nothing of its image has run.
    pub fn is_unheard(&self) -> bool {
        matches!(self, Self::Socket { source: UrpcError::Connect(_) | UrpcError::Broken { method: LINKS, .. }, .. })
    }
}

impl Gvisor {
    /// Starts the process of a sandbox that was created. It is handed its network, where there is one to hand over.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn start(&self, id: &str, network: Option<PacketSocket>) -> Result<(), EngineError> {
        self.rouse("start", id).await?;
        let Some(network) = network else { return self.call_privately("start", &[id], START_TIMEOUT).await };
        self.order("start", id, LINKS, &links(&network), &[network.as_fd()], START_TIMEOUT).await?;
        self.order("start", id, "containerManager.StartRoot", &id, &[], START_TIMEOUT).await
    }

    /// Restores the memory image in the directory `image` into a sandbox that was created; it goes on at once.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn restore(
        &self,
        id: &str,
        network: Option<PacketSocket>,
        bundle: &Path,
        image: &Path,
    ) -> Result<(), EngineError> {
        self.rouse("restore", id).await?;
        let Some(network) = network else {
            let (bundle, image) = (bundle.display().to_string(), format!("--image-path={}", image.display()));
            let words = ["--detach", "--bundle", &bundle, &image, id];
            return self.call_privately("restore", &words, RESTORE_TIMEOUT).await;
        };
        let paths = IMAGE_FILES.map(|name| image.join(name));
        let opened =
            tokio::task::spawn_blocking(move || paths.iter().map(File::open).collect::<std::io::Result<Vec<_>>>());
        let files = opened.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let files = files.map_err(|source| EngineError::Start { verb: "restore", source })?;
        let files: Vec<_> = files.iter().map(File::as_fd).collect();
        let what = json!({"HavePagesFile": true, "HaveDeviceFile": false});
        self.order("restore", id, LINKS, &links(&network), &[network.as_fd()], START_TIMEOUT).await?;
        self.order("restore", id, "containerManager.Restore", &what, &files, RESTORE_TIMEOUT).await
    }

    async fn order<A: Serialize + Sync>(
        &self,
        verb: &'static str,
        id: &str,
        method: &'static str,
        argument: &A,
        files: &[std::os::fd::BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<(), EngineError> {
        let done = ControlSocket::new(self.control(id)).call::<_, IgnoredAny>(method, argument, files, limit).await;
        done.map(drop).map_err(|error| match error {
            // What its command would have said.
            UrpcError::Refused { said, .. } => EngineError::Failed { verb, complaint: said },
            other => failed(verb)(other),
        })
    }
}

/// What gVisor's commands would find in the namespace: `lo`, and the guest's end of its link.
fn links(network: &PacketSocket) -> Value {
    let guest = Ipv4Net::new_assert(GUEST.address, GUEST.prefix_len);
    let loopback = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8);
    let everywhere = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
    let address = |of: Ipv4Net| json!({"Address": of.addr(), "PrefixLen": of.prefix_len()});
    json!({
        "LoopbackLinks": [{"Name": "lo", "Addresses": [address(loopback)], "Routes": [route(loopback, None)]}],
        "FDBasedLinks": [{
            "Name": GUEST.interface,
            "MTU": MTU,
            "Addresses": [address(guest)],
            "Routes": [route(guest, None)],
            "GSOMaxSize": GSO_MAX_BYTES,
            // Without the kernel's help it cuts what is longer than the link's packets itself.
            "GVisorGSOEnabled": !network.offloads,
            "RXChecksumOffload": true,
            "LinkAddress": BASE64_STANDARD.encode(GUEST_MAC),
            "QDisc": QDISC_FIFO,
            "NumChannels": 1,
        }],
        "Defaultv4Gateway": {"Route": route(everywhere, Some(GUEST.gateway)), "Name": GUEST.interface},
        // An open connection must not abort a checkpoint.
        "DisconnectOk": true,
    })
}

/// Go's `net.IPNet` has its mask as bytes.
fn route(to: Ipv4Net, gateway: Option<Ipv4Addr>) -> Value {
    let gateway = gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
    json!({
        "Destination": {"IP": to.network(), "Mask": BASE64_STANDARD.encode(to.netmask().octets())},
        "Gateway": gateway,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_builds_are_told_by_their_socket() {
        assert_eq!(told(20_240_729), Told::BySocket);
        assert_eq!(told(20_240_101), Told::ByNamespace);
        assert_eq!(told(20_300_101), Told::ByNamespace);
    }

    #[test]
    fn a_route_is_what_go_reads() {
        let net = Ipv4Net::new_assert(GUEST.address, GUEST.prefix_len);
        let said = route(net, None);
        assert_eq!(said, json!({"Destination": {"IP": "10.0.0.0", "Mask": "////AA=="}, "Gateway": ""}));
    }
}
