//! From a query to an answer, without I/O.

use super::zone::{Found, Zone};
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SOA, SRV},
    },
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds that clients may keep an answer; CoreDNS' value in clusters.
const TTL_SECONDS: u32 = 30;
/// Seconds that clients may keep an absence.
const NEGATIVE_TTL_SECONDS: u32 = 5;

/// Answers `query` from the zone; `None` when the name belongs to somebody else and should be forwarded.
#[must_use]
pub fn answer(zone: &Zone, query: &Message) -> Option<Message> {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.queries.clone_from(&query.queries);
    response.edns.clone_from(&query.edns);
    let (MessageType::Query, OpCode::Query, [question]) = (
        query.metadata.message_type,
        query.metadata.op_code,
        query.queries.as_slice(),
    ) else {
        response.metadata.response_code = ResponseCode::FormErr;
        return Some(response);
    };
    let text = question.name.to_ascii().to_ascii_lowercase();
    let text = text.trim_end_matches('.');
    if let Some(ip) = parse_reverse(text) {
        let names = zone.reverse(ip);
        if names.is_empty() {
            return None;
        }
        response.metadata.authoritative = true;
        if question.query_type == RecordType::PTR {
            for name in names.iter().filter_map(|n| Name::from_ascii(n).ok()) {
                response.add_answer(record(&question.name, RData::PTR(PTR(name))));
            }
        }
        return Some(response);
    }
    let inside = text.strip_suffix(zone.domain())?;
    if !(inside.is_empty() || inside.ends_with('.')) {
        return None;
    }
    let labels: Vec<&str> = inside
        .trim_end_matches('.')
        .split('.')
        .filter(|l| !l.is_empty())
        .collect();
    response.metadata.authoritative = true;
    match zone.lookup(&labels) {
        Found::Addresses(ips) => {
            for ip in &ips {
                add_address(&mut response, &question.name, question.query_type, *ip);
            }
        }
        Found::Services(targets) => {
            add_services(&mut response, &question.name, question.query_type, &targets);
        }
        Found::Alias(target) => {
            if let Ok(target) = Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) {
                response.add_answer(record(&question.name, RData::CNAME(CNAME(target))));
            }
        }
        Found::Empty => {}
        Found::Nothing => response.metadata.response_code = ResponseCode::NXDomain,
    }
    if response.answers.is_empty()
        && let Some(soa) = soa(zone.domain())
    {
        response.authorities.push(soa);
    }
    Some(response)
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

fn add_address(response: &mut Message, name: &Name, asked: RecordType, ip: IpAddr) {
    let data = match (ip, asked) {
        (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => RData::A(A(ip)),
        (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(ip)),
        _ => return,
    };
    response.add_answer(record(name, data));
}

fn add_services(
    response: &mut Message,
    name: &Name,
    asked: RecordType,
    targets: &[(u16, String, Vec<IpAddr>)],
) {
    if !matches!(asked, RecordType::SRV | RecordType::ANY) {
        return;
    }
    let weight = 100 / u16::try_from(targets.len().max(1)).unwrap_or(100);
    for (port, target, ips) in targets {
        let Ok(target) = Name::from_ascii(target) else {
            continue;
        };
        response.add_answer(record(
            name,
            RData::SRV(SRV::new(0, weight.max(1), *port, target.clone())),
        ));
        for ip in ips {
            let data = match ip {
                IpAddr::V4(ip) => RData::A(A(*ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
            };
            response.additionals.push(record(&target, data));
        }
    }
}

fn soa(domain: &str) -> Option<Record> {
    let zone = Name::from_ascii(format!("{domain}.")).ok()?;
    let primary = Name::from_ascii(format!("ns.dns.{domain}.")).ok()?;
    let contact = Name::from_ascii(format!("hostmaster.{domain}.")).ok()?;
    let data = SOA::new(primary, contact, 1, 7200, 1800, 86400, NEGATIVE_TTL_SECONDS);
    Some(Record::from_rdata(zone, NEGATIVE_TTL_SECONDS, RData::SOA(data)))
}

fn parse_reverse(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = labels
            .rsplit('.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        return <[u8; 4]>::try_from(octets)
            .ok()
            .map(|o| IpAddr::V4(Ipv4Addr::from(o)));
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let nibbles: String = labels.rsplit('.').collect();
    (nibbles.len() == 32)
        .then(|| u128::from_str_radix(&nibbles, 16).ok())
        .flatten()
        .map(|n| IpAddr::V6(Ipv6Addr::from(n)))
}
