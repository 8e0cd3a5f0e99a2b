//! The policy as it holds for one HTTP client: names are looked up here, and what they lead to is judged before
//! anything connects to it; an address in a URL is judged by whoever is about to ask it, first call or redirect.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::EgressConfig;
use crate::reference::host_name;

/// An address may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address is not one that builds may reach")]
pub struct Refused;

impl Refused {
    /// Whether a request failed because of this.
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::is_in)
    }
}

/// A policy, and the hosts that the operator named and that are therefore no strangers' choice. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    policy: EgressConfig,
    /// `host[:port]` in lower case.
    named: BTreeSet<String>,
    /// Their names, without ports.
    names: BTreeSet<String>,
    /// Made within a runtime.
    resolver: OnceLock<TokioResolver>,
}

impl Gate {
    /// A gate that lets `policy` pass, and what is `named` as `host[:port]`.
    pub fn new(policy: EgressConfig, named: impl IntoIterator<Item = String>) -> Self {
        let named: BTreeSet<_> = named.into_iter().map(|host| host.to_ascii_lowercase()).collect();
        let names = named.iter().map(|host| host_name(host).to_owned()).collect();
        Self { inner: Arc::new(Inner { policy, named, names, resolver: OnceLock::new() }) }
    }

    /// Judges what a URL says by itself; a name is judged when it is looked up.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().ok_or(Refused)?;
        let named = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if self.inner.named.contains(&named) {
            return Ok(());
        }
        match host_name(host).parse() {
            Ok(address) if self.inner.policy.permits(address) => Ok(()),
            // The look-up lets a named host pass, whatever its port.
            Err(_) if !self.inner.names.contains(host) => Ok(()),
            Ok(_) | Err(_) => Err(Refused),
        }
    }

    fn judge(&self, name: &str, addresses: impl Iterator<Item = IpAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let is_named = self.inner.names.contains(&name.to_ascii_lowercase());
        let permitted: Vec<_> = addresses
            .filter(|address| is_named || self.inner.policy.permits(*address))
            .map(|address| SocketAddr::new(address, 0))
            .collect();
        if permitted.is_empty() { Err(Refused) } else { Ok(permitted) }
    }

    async fn look_up(&self, name: &str) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
        let resolver = match self.inner.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let made = new_resolver()?;
                self.inner.resolver.get_or_init(|| made)
            }
        };
        let found = resolver.lookup_ip(name).await?;
        let permitted = self.judge(name, found.iter())?;
        Ok(Box::new(permitted.into_iter()))
    }
}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let gate = self.clone();
        Box::pin(async move { gate.look_up(name.as_str()).await })
    }
}

/// As the system is configured, for both kinds of addresses.
fn new_resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(allow: &[&str], named: &[&str]) -> Gate {
        let allow = allow.iter().map(|net| net.parse().expect("a network")).collect();
        let policy = EgressConfig { allow, ..EgressConfig::default() };
        Gate::new(policy, named.iter().map(|host| (*host).to_owned()))
    }

    fn is_open(gate: &Gate, url: &str) -> bool {
        gate.check(&Url::parse(url).expect(url)).is_ok()
    }

    #[test]
    fn an_address_in_a_url_is_judged_in_every_spelling() {
        let strict = gate(&[], &[]);
        for url in [
            "http://127.0.0.1/",
            "http://127.1:8080/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://[::1]:80/",
            "http://[::ffff:169.254.169.254]/",
            "http://169.254.169.254./",
            "https://10.0.0.1:443/",
        ] {
            assert!(!is_open(&strict, url), "{url}");
        }
        assert!(is_open(&strict, "https://8.8.8.8/") && is_open(&strict, "http://[2606:4700::1]/"));
        assert!(is_open(&strict, "https://localhost/"), "a name is judged by what it leads to");
        assert!(is_open(&gate(&["127.0.0.0/8"], &[]), "http://127.1/"));
    }

    #[test]
    fn a_named_host_is_open_at_its_port_alone() {
        let gate = gate(&[], &["Registry.internal:5000", "10.0.0.5:5000", "[fd00::5]:5000", "plain.internal"]);
        for url in [
            "http://registry.internal:5000/",
            "http://10.0.0.5:5000/",
            "http://[fd00::5]:5000/",
            "http://plain.internal/",
            "http://other.internal/",
        ] {
            assert!(is_open(&gate, url), "{url}");
        }
        for url in [
            "http://registry.internal/",
            "http://registry.internal:22/",
            "http://10.0.0.5/",
            "http://10.0.0.6:5000/",
            "http://[fd00::5]/",
            "http://plain.internal:8080/",
        ] {
            assert!(!is_open(&gate, url), "{url}");
        }
    }

    #[test]
    fn of_what_a_name_leads_to_only_the_permitted_stays() {
        let addresses =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().expect(text)).collect() };
        let gate = gate(&[], &["registry.internal:5000"]);
        let mixed = addresses(&["10.0.0.1", "8.8.8.8", "fe80::1", "::1"]);
        let judged = gate.judge("mixed.example", mixed.clone().into_iter()).expect("one is public");
        assert_eq!(judged, [SocketAddr::new(addresses(&["8.8.8.8"])[0], 0)]);
        let rebound = addresses(&["127.0.0.1", "169.254.169.254"]);
        assert_eq!(gate.judge("rebound.example", rebound.clone().into_iter()), Err(Refused));
        assert_eq!(gate.judge("registry.internal", rebound.into_iter()).map(|all| all.len()), Ok(2));
        assert_eq!(gate.judge("nothing.example", std::iter::empty()), Err(Refused));
    }

    #[tokio::test]
    async fn a_look_up_that_leads_to_the_host_itself_is_refused() {
        let resolve = |gate: &Gate| gate.resolve("localhost".parse().expect("a name"));
        let refused = resolve(&gate(&[], &[])).await.err().expect("it is refused");
        assert!(Refused::is_in(&*refused), "{refused}");
        let mut found = resolve(&gate(&["127.0.0.0/8"], &[])).await.expect("it is allowed");
        assert!(found.all(|address| address.ip().is_loopback() && address.is_ipv4()));
        assert!(resolve(&gate(&[], &["localhost:5000"])).await.is_ok(), "the operator named it");
    }
}
