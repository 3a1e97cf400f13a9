//! From a name to the addresses behind it, without a thread that waits: a thousand names whose servers are silent
//! hold up no other.

use anyhow::Context as _;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};
use std::net::IpAddr;

/// The most look-ups at a time over one connection to a name server (those over UDP have one each).
const AT_ONCE: usize = 4096;

/// Looks names up as `/etc/resolv.conf` and `/etc/hosts` say. Cheap to clone; clones share their cache.
#[derive(Debug, Clone)]
pub(super) struct Names {
    resolver: TokioResolver,
}

impl Names {
    /// As this machine is configured. Without `/etc/resolv.conf` there is `/etc/hosts` alone.
    ///
    /// # Errors
    /// The configuration of the machine cannot be used.
    pub(super) fn of_the_system() -> anyhow::Result<Self> {
        let (config, options) = read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "no name servers are configured on this machine: names are unknown but for /etc/hosts");
            (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default())
        });
        Self::with(config, options)
    }

    /// By these name servers.
    pub(super) fn with(config: ResolverConfig, mut options: ResolverOpts) -> anyhow::Result<Self> {
        // Every address is vetted, so every address is asked for.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.max_active_requests = AT_ONCE;
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().context("cannot set up name resolution")?;
        Ok(Self { resolver })
    }

    /// Every address of a name, IPv4 first.
    ///
    /// # Errors
    /// There is none, or no name server answers.
    pub(super) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let mut found: Vec<IpAddr> = self.resolver.lookup_ip(name).await?.iter().collect();
        found.sort_unstable_by_key(IpAddr::is_ipv6);
        Ok(found)
    }
}
