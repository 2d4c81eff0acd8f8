//! DNS answers (RFC 1035) for `SUBDOMAIN.apps.internal`, from the live table alone.

use std::net::Ipv4Addr;
use std::time::Duration;

use buddo_shared::host_wire::manifest::ServiceSpec;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::table::TableReader;
use crate::config::SpecialAddresses;
use crate::model::live_table::{LiveTable, Target};

/// Suffix of the names that Caddy's route files ask for.
pub const SUFFIX: &str = "apps.internal";

/// The largest question that is read, in bytes; a longer one is truncated and thus malformed.
const MAX_QUESTION: usize = 512;

/// As many addresses as surely fit in 512 bytes along with the question (RFC 1035, 2.3.4), and as an
/// app can have.
const MAX_ADDRESSES: usize = ServiceSpec::MAX_REPLICAS as usize;

/// Answers each datagram at once until `stop`. Between answers it signals liveness through `beats`,
/// every `pulse` if anybody wants to know.
pub(super) async fn serve(
    socket: &UdpSocket,
    table: &TableReader,
    specials: SpecialAddresses,
    pulse: Option<Duration>,
    beats: &watch::Sender<u64>,
    stop: &CancellationToken,
) {
    let mut buffer = [0; MAX_QUESTION];
    let mut due = pulse.map(tokio::time::interval);
    loop {
        let beat = async {
            match &mut due {
                Some(due) => due.tick().await,
                None => std::future::pending().await,
            }
        };
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
            _ = beat => {
                // What an answer needs besides the socket.
                drop(table.current());
                beats.send_modify(|beats| *beats = beats.wrapping_add(1));
                continue;
            }
        };
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                // On Linux these are errors of earlier answers, whose recipient has gone.
                tracing::debug!(reason = %error, "cannot receive a datagram");
                continue;
            }
        };
        let table = table.current();
        let Some(answer) = answer(&buffer[..length], table.as_deref(), specials) else { continue };
        // Never wait here: a full buffer is like a lost datagram, which Caddy asks for again.
        if let Err(error) = socket.try_send_to(&answer, peer) {
            tracing::debug!(reason = %error, %peer, "cannot send an answer");
        }
    }
}

/// The answer to one datagram; `None` if it is not a question, which gets no answer.
///
/// A name of ours always has an address: there is no `NXDOMAIN`, which Caddy would turn into an
/// error page of its own. Record types other than `A` are answered NODATA, and other names are
/// refused.
fn answer(
    datagram: &[u8],
    table: Option<&LiveTable>,
    specials: SpecialAddresses,
) -> Option<Vec<u8>> {
    let asked = Message::from_vec(datagram).ok()?;
    let metadata = asked.metadata;
    if metadata.message_type != MessageType::Query || metadata.op_code != OpCode::Query {
        return None;
    }
    let [query] = asked.queries.as_slice() else { return None };
    let mut message = Message::response(metadata.id, OpCode::Query);
    message.metadata.recursion_desired = metadata.recursion_desired;
    message.metadata.authoritative = true;
    message.add_query(query.clone());
    match subdomain(query.name()) {
        Some(app) if query.query_class() == DNSClass::IN => {
            if query.query_type() == RecordType::A {
                // Without a table nothing is known, and holding loses no request.
                let target = table.map_or(Some(&Target::Hold), |table| table.apps.get(&app));
                for address in addresses(target, specials) {
                    let data = RData::A(A(address));
                    // TTL 0: who is live may change before the next question.
                    message.add_answer(Record::from_rdata(query.name().clone(), 0, data));
                }
            }
        }
        _ => message.metadata.response_code = ResponseCode::Refused,
    }
    message.to_vec().ok()
}

/// The one label in front of [`SUFFIX`], in lower case.
fn subdomain(name: &Name) -> Option<String> {
    let mut labels = name.iter();
    let first = labels.next()?;
    let suffix = SUFFIX.split('.');
    if labels.len() != suffix.clone().count()
        || !labels.zip(suffix).all(|(a, b)| a.eq_ignore_ascii_case(b.as_bytes()))
    {
        return None;
    }
    Some(std::str::from_utf8(first).ok()?.to_ascii_lowercase())
}

fn addresses(target: Option<&Target>, specials: SpecialAddresses) -> Vec<Ipv4Addr> {
    match target {
        // An empty set is the writer's mistake; holding loses no request.
        Some(Target::Live { addresses }) if !addresses.is_empty() => {
            addresses.iter().take(MAX_ADDRESSES).copied().collect()
        }
        Some(Target::Live { .. } | Target::Hold) => vec![specials.hold],
        Some(Target::Stopped) => vec![specials.stopped],
        Some(Target::Suspended) => vec![specials.suspended],
        None => vec![specials.missing],
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use proptest::prelude::*;

    use super::*;

    const SPECIALS: SpecialAddresses = SpecialAddresses {
        hold: Ipv4Addr::new(127, 63, 0, 1),
        stopped: Ipv4Addr::new(127, 63, 0, 2),
        suspended: Ipv4Addr::new(127, 63, 0, 3),
        missing: Ipv4Addr::new(127, 63, 0, 4),
    };

    fn live(addresses: &[Ipv4Addr]) -> Target {
        Target::Live { addresses: addresses.into() }
    }

    fn table() -> LiveTable {
        let many: Vec<_> = (1..60).map(|n| Ipv4Addr::new(127, 64, 0, n)).collect();
        let apps = [
            ("one", live(&[Ipv4Addr::new(127, 64, 0, 7), Ipv4Addr::new(127, 96, 0, 7)])),
            ("none", live(&[])),
            ("many", live(&many)),
            ("hold", Target::Hold),
            ("stopped", Target::Stopped),
            ("suspended", Target::Suspended),
        ];
        LiveTable {
            apps: apps.into_iter().map(|(app, target)| (app.to_owned(), target)).collect(),
            ..LiveTable::default()
        }
    }

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut question = Message::new(77, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let bytes = answer(&question.to_vec().unwrap(), Some(&table()), SPECIALS).unwrap();
        assert!(bytes.len() <= 512);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, 77);
        message
    }

    fn found(name: &str) -> Vec<String> {
        let message = ask(name, RecordType::A);
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.answers.iter().all(|record| record.ttl == 0));
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn every_app_resolves_to_the_address_for_its_state() {
        assert_eq!(found("one.apps.internal."), ["127.64.0.7", "127.96.0.7"]);
        assert_eq!(found("OnE.ApPs.InTeRnAl."), ["127.64.0.7", "127.96.0.7"]);
        assert_eq!(found("hold.apps.internal."), ["127.63.0.1"]);
        assert_eq!(found("none.apps.internal."), ["127.63.0.1"]);
        assert_eq!(found("stopped.apps.internal."), ["127.63.0.2"]);
        assert_eq!(found("suspended.apps.internal."), ["127.63.0.3"]);
        assert_eq!(found("unknown.apps.internal."), ["127.63.0.4"]);
        assert_eq!(found("many.apps.internal.").len(), MAX_ADDRESSES);
    }

    #[test]
    fn other_queries_get_no_address() {
        let v6 = ask("one.apps.internal.", RecordType::AAAA);
        assert_eq!(v6.metadata.response_code, ResponseCode::NoError);
        assert!(v6.answers.is_empty());
        for name in ["example.com.", "apps.internal.", "a.one.apps.internal.", "."] {
            let other = ask(name, RecordType::A);
            assert_eq!(other.metadata.response_code, ResponseCode::Refused, "{name}");
            assert!(other.answers.is_empty());
        }
    }

    #[test]
    fn without_a_table_requests_are_held() {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("one.apps.internal.").unwrap();
        question.add_query(Query::query(name, RecordType::A));
        let bytes = answer(&question.to_vec().unwrap(), None, SPECIALS).unwrap();
        let answers = Message::from_vec(&bytes).unwrap().answers;
        let found: Vec<_> = answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(found, ["127.63.0.1"]);
    }

    #[test]
    fn dns_responses_are_not_answered() {
        let reply = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert_eq!(answer(&reply, Some(&table()), SPECIALS), None);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&bytes, Some(&table()), SPECIALS);
        }

        #[test]
        fn damaged_queries_do_not_panic(at in 0usize..40, byte: u8, cut in 0usize..40) {
            let mut question = Message::new(77, MessageType::Query, OpCode::Query);
            let name = Name::from_ascii("one.apps.internal.").unwrap();
            question.add_query(Query::query(name, RecordType::A));
            let mut bytes = question.to_vec().unwrap();
            let length = bytes.len();
            bytes[at % length] = byte;
            let _ = answer(&bytes[..length - cut % length], Some(&table()), SPECIALS);
        }
    }
}
