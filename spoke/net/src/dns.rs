//! Names as pods see them: the cluster's DNS with a pod's search list, without a DNS server.
//!
//! ```text
//! web  web.shop  web.shop.svc  web.shop.svc.cluster.local     a Service: its address, or its ready pods
//! db-0.db  db-0.db.shop.svc.cluster.local                     one pod of a headless Service
//! 10-64-0-7.shop.pod.cluster.local                            a pod's address
//! localhost, the pod's own hostname, hostAliases              before everything else
//! ```

use std::net::{IpAddr, Ipv4Addr};

use freewheel_spoke_agent::ports::PodNetwork;

use crate::error::NetError;
use crate::tables::RealmTables;

/// Longest chain of ExternalName Services; a longer one is a loop.
const MAX_ALIASES: u8 = 8;

/// Addresses behind a name for a pod. All names are of the pod's own realm.
pub(crate) fn resolve<P>(
    tables: &RealmTables<P>,
    domain: &str,
    pod: &PodNetwork,
    name: &str,
) -> Result<Vec<IpAddr>, NetError> {
    if let Ok(ip) = name.parse() {
        return Ok(vec![ip]);
    }
    // RFC 1035: a name has at most 253 characters; longer ones are not looked at.
    if name.is_empty() || 254 < name.len() {
        return Err(NetError::Invalid);
    }
    let absolute = name.ends_with('.');
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let aliases = pod.aliases.iter().filter(|(_, alias)| alias.eq_ignore_ascii_case(&name));
    let aliases: Vec<_> = aliases.filter_map(|(ip, _)| ip.parse().ok()).collect();
    if !aliases.is_empty() {
        return Ok(aliases);
    }
    if name == pod.hostname {
        return Ok(vec![pod.ip.into()]);
    }
    let names = if absolute { vec![name] } else { search(&name, &pod.namespace, domain) };
    let mut found = names.iter().map(|name| lookup(tables, domain, name, MAX_ALIASES));
    found.find_map(Result::ok).ok_or(NetError::NameUnknown)
}

/// The names that a pod's resolver tries, in its order.
fn search(name: &str, namespace: &str, domain: &str) -> Vec<String> {
    vec![
        format!("{name}.{namespace}.svc.{domain}"),
        format!("{name}.svc.{domain}"),
        format!("{name}.{domain}"),
        name.to_owned(),
    ]
}

/// Addresses behind an absolute name.
fn lookup<P>(
    tables: &RealmTables<P>,
    domain: &str,
    name: &str,
    left: u8,
) -> Result<Vec<IpAddr>, NetError> {
    let inside = name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    let inside = inside.ok_or(NetError::NameUnknown)?;
    let parts: Vec<&str> = inside.split('.').collect();
    let (host, service, namespace) = match parts.as_slice() {
        [address, _, "pod"] => return pod_address(tables, address),
        [service, namespace, "svc"] => (None, service, namespace),
        [host, service, namespace, "svc"] => (Some(*host), service, namespace),
        _ => return Err(NetError::NameUnknown),
    };
    let service = tables.service(namespace, service).ok_or(NetError::NameUnknown)?;
    let spec = service.spec();
    if let (Some(target), None) = (&spec.external_name, host) {
        let target = target.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(ip) = target.parse() {
            return Ok(vec![ip]);
        }
        return match left.checked_sub(1) {
            Some(left) => lookup(tables, domain, &target, left),
            None => Err(NetError::NameUnknown),
        };
    }
    let addresses = match (spec.cluster_ip, host) {
        (Some(ip), None) => vec![ip],
        (_, host) => service.addresses(host),
    };
    if addresses.is_empty() { Err(NetError::NameUnknown) } else { Ok(addresses) }
}

/// `10-64-0-7` for a pod that is there, on this node or another.
fn pod_address<P>(tables: &RealmTables<P>, label: &str) -> Result<Vec<IpAddr>, NetError> {
    let ip: Ipv4Addr = label.replace('-', ".").parse().map_err(|_| NetError::NameUnknown)?;
    if tables.knows(ip) { Ok(vec![ip.into()]) } else { Err(NetError::NameUnknown) }
}
