//! IP addresses and CIDRs, in the strict and the forgiving reading.

use crate::field::{FieldErrors, Path, quote};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NOT_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address as upstream's older code did: leading zeros in IPv4 are fine.
pub(crate) fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 4 {
        return None;
    }
    let mut octets = [0u8; 4];
    for (octet, part) in octets.iter_mut().zip(parts) {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
    }
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn mapped(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    }
}

/// An address as Go prints it: a mapped one as IPv4.
fn canonical(ip: IpAddr) -> String {
    mapped(ip).map_or_else(|| ip.to_string(), |v4| v4.to_string())
}

/// An address in a field that once took sloppy ones; values in `held` (of the old object) stay allowed.
pub(super) fn address(errors: &mut FieldErrors, path: &Path<'_>, value: &str, held: &[&str]) {
    if held.contains(&value) {
        return;
    }
    let Some(ip) = parse_sloppy(value) else {
        errors.invalid(path, value, NOT_IP);
        return;
    };
    if value.parse::<IpAddr>().is_err() {
        errors.invalid(path, value, "must not have leading 0s");
    }
    if mapped(ip).is_some() {
        errors.invalid(path, value, "must not be an IPv4-mapped IPv6 address");
    }
}

/// An address in canonical form.
pub(super) fn strict_address(errors: &mut FieldErrors, path: &Path<'_>, value: &str) {
    let before = errors.len();
    address(errors, path, value, &[]);
    if errors.len() == before
        && let Some(ip) = parse_sloppy(value)
        && canonical(ip) != value
    {
        errors.invalid(
            path,
            value,
            format!("must be in canonical form ({})", quote(&canonical(ip))),
        );
    }
}

struct Cidr {
    ip: IpAddr,
    network: IpAddr,
    length: u8,
}

fn network(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, length) = text.split_once('/')?;
    let ip = parse_sloppy(address)?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    (length <= longest).then(|| Cidr {
        ip,
        network: network(ip, length),
        length,
    })
}

fn strictly_written(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && (length == "0" || !length.starts_with('0'))
    })
}

/// A CIDR in a field that once took sloppy ones; values in `held` stay allowed.
pub(super) fn cidr(errors: &mut FieldErrors, path: &Path<'_>, value: &str, held: &[&str]) {
    if held.contains(&value) {
        return;
    }
    let Some(parsed) = parse_cidr(value) else {
        errors.invalid(path, value, NOT_CIDR);
        return;
    };
    if !strictly_written(value) {
        errors.invalid(path, value, "must not have leading 0s in IP or prefix length");
    } else if mapped(parsed.ip).is_some() {
        errors.invalid(path, value, "must not have an IPv4-mapped IPv6 address");
    } else if parsed.ip != parsed.network {
        errors.invalid(path, value, "must not have bits set beyond the prefix length");
    }
}

/// Whether the list holds exactly one address of each family.
pub(super) fn is_dual_stack(list: &[&str]) -> bool {
    let families = |four: bool| {
        list.iter()
            .filter(|ip| parse_sloppy(ip).is_some_and(|ip| ip.is_ipv4() == four))
            .count()
    };
    families(true) > 0 && families(false) > 0
}

/// Whether `text` is an IPv6 address.
pub(super) fn is_v6(text: &str) -> bool {
    parse_sloppy(text).is_some_and(|ip| ip.is_ipv6() && mapped(ip).is_none())
}

/// Warnings about an accepted address that is not written in the usual way.
pub(crate) fn ip_warnings(path: &Path<'_>, value: &str) -> Vec<String> {
    let Some(ip) = parse_sloppy(value) else {
        return Vec::new();
    };
    if value.parse::<IpAddr>().is_err() || mapped(ip).is_some() {
        let better = quote(&canonical(ip));
        return vec![format!(
            "{path}: non-standard IP address {} is invalid: use {better}",
            quote(value)
        )];
    }
    if ip.is_ipv6() && ip.to_string() != value {
        let better = quote(&ip.to_string());
        return vec![format!(
            "{path}: IPv6 address {} should be in RFC 5952 canonical format ({better})",
            quote(value)
        )];
    }
    Vec::new()
}

/// Warnings about an accepted CIDR that is not written in the usual way.
pub(crate) fn cidr_warnings(path: &Path<'_>, value: &str) -> Vec<String> {
    let Some(cidr) = parse_cidr(value) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let net = quote(&format!("{}/{}", canonical(cidr.network), cidr.length));
    if cidr.ip != cidr.network {
        let single = quote(&format!(
            "{}/{}",
            canonical(cidr.ip),
            if cidr.ip.is_ipv4() { 32 } else { 128 }
        ));
        out.push(format!(
            "{path}: CIDR value {} is ambiguous in this context (should be {net} or {single}?)",
            quote(value)
        ));
    }
    if !strictly_written(value) || mapped(cidr.ip).is_some() {
        out.push(format!(
            "{path}: non-standard CIDR value {} is invalid: use {net}",
            quote(value)
        ));
    }
    let written = format!("{}/{}", cidr.ip, cidr.length);
    if out.is_empty() && cidr.ip.is_ipv6() && written != value {
        out.push(format!(
            "{path}: IPv6 CIDR value {} should be in RFC 5952 canonical format ({})",
            quote(value),
            quote(&written)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |value: &str, expected: &str| {
            let mut errors = FieldErrors::new();
            address(&mut errors, &Path::new("ip"), value, &[]);
            assert_eq!(errors.to_string(), expected, "{value}");
        };
        check("10.0.0.1", "");
        check("::1", "");
        check(
            "010.0.0.1",
            "ip: Invalid value: \"010.0.0.1\": must not have leading 0s",
        );
        check(
            "::ffff:1.2.3.4",
            "ip: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address",
        );
        check("1.2.3", &format!("ip: Invalid value: \"1.2.3\": {NOT_IP}"));
        check("", &format!("ip: Invalid value: \"\": {NOT_IP}"));
    }

    #[test]
    fn cidrs() {
        let check = |value: &str, expected: &str| {
            let mut errors = FieldErrors::new();
            cidr(&mut errors, &Path::new("c"), value, &[]);
            assert_eq!(errors.to_string(), expected, "{value}");
        };
        check("10.0.0.0/8", "");
        check("0.0.0.0/0", "");
        check("::/0", "");
        check(
            "10.0.0.1/8",
            "c: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
        );
        check(
            "10.0.0.0/08",
            "c: Invalid value: \"10.0.0.0/08\": must not have leading 0s in IP or prefix length",
        );
        check(
            "10.0.0.0/33",
            &format!("c: Invalid value: \"10.0.0.0/33\": {NOT_CIDR}"),
        );
    }

    #[test]
    fn warned() {
        let path = Path::new("p");
        assert!(ip_warnings(&path, "1.2.3.4").is_empty());
        assert_eq!(
            ip_warnings(&path, "01.2.3.4"),
            ["p: non-standard IP address \"01.2.3.4\" is invalid: use \"1.2.3.4\""]
        );
        assert_eq!(
            ip_warnings(&path, "2001:DB8::1"),
            ["p: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"]
        );
        assert_eq!(
            cidr_warnings(&path, "10.1.0.0/8"),
            [
                "p: CIDR value \"10.1.0.0/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.0.0/32\"?)"
            ]
        );
    }
}
