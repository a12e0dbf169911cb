//! Answers of DNS that are proven: a resolver on this machine checks signatures (DNSSEC), and says so by a bit of its answer.
//! [RFC 4035 §3.2.3] [RFC 6840 §5.7] [RFC 7672 §2.1]
//!
//! The bit is as good as the way it came: so it is asked for nowhere but on loopback, where the operator said that the
//! resolver can be believed. An answer whose signatures are wrong never comes: the resolver says SERVFAIL instead.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    proto::{
        op::{Message, Query, ResponseCode},
        rr::{RData, RecordType, rdata::TLSA},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::mx::{Answering, Found, Lookup, LookupError, full_name, host, some};

/// How long an answer may take; the resolver may have to ask around.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often a question is asked.
const ATTEMPTS: usize = 2;
/// Largest answer by UDP that is asked for: what fits a packet anywhere.
const DATAGRAM_BYTES_MAX: u16 = 1_232;
/// Records of an answer that are looked at.
const RECORDS_MAX: usize = 200;

/// Asks a resolver that validates; texts, which prove nothing, are asked of the usual one.
#[derive(Clone)]
pub struct Proven {
    resolver: SocketAddr,
    usual: TokioResolver,
}

impl Proven {
    /// A resolver that validates, on this machine.
    ///
    /// # Errors
    /// A sentence, if it is elsewhere.
    pub fn new(resolver: SocketAddr, usual: TokioResolver) -> Result<Self, String> {
        match resolver.ip().to_canonical().is_loopback() {
            true => Ok(Self { resolver, usual }),
            false => Err(format!(
                "mail.resolver_validates: what {resolver} says of signatures could be changed on its way; only a resolver on this machine can be believed"
            )),
        }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Message, LookupError> {
        let mut query = Message::query();
        query.add_query(Query::query(full_name(name)?, kind));
        query.metadata.recursion_desired = true;
        // [RFC 6840 §5.7] Whoever sets it wants to know.
        query.metadata.authentic_data = true;
        let mut last = LookupError::Failed("no answer".to_owned());
        for _ in 0..ATTEMPTS {
            match timeout(ANSWER_MAX, self.exchange(&mut query)).await {
                Ok(Ok(answer)) => return judged(answer),
                Ok(Err(error)) => last = LookupError::Failed(error.to_string()),
                Err(_) => last = LookupError::Failed(format!("no answer for {} s", ANSWER_MAX.as_secs())),
            }
        }
        Err(last)
    }

    async fn exchange(&self, query: &mut Message) -> std::io::Result<Message> {
        query.metadata.id = rand::random();
        let mut edns = hickory_resolver::proto::op::Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES_MAX);
        query.set_edns(edns);
        let question = query.to_vec().map_err(std::io::Error::other)?;
        let any: IpAddr =
            if self.resolver.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.resolver).await?;
        socket.send(&question).await?;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX.into()];
        let answer = loop {
            let count = socket.recv(&mut buffer).await?;
            match Message::from_vec(buffer.get(..count).unwrap_or_default()) {
                Ok(answer) if answers(&answer, query) => break answer,
                _ => {}
            }
        };
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        let mut stream = TcpStream::connect(self.resolver).await?;
        let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
        let mut whole = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut whole).await?;
        let answer = Message::from_vec(&whole).map_err(std::io::Error::other)?;
        match answers(&answer, query) {
            true => Ok(answer),
            false => Err(std::io::Error::other("the resolver answers another question")),
        }
    }

    async fn find<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Found<T>, LookupError> {
        let answer = self.ask(name, kind).await?;
        let mut answers = answer.answers.iter().take(RECORDS_MAX);
        let records = some(answers.clone().filter_map(|record| read(&record.data)).collect())?;
        // Where the aliases led to.
        let last = answers.rfind(|record| record.record_type() == kind);
        let name = last.map_or_else(|| name.to_owned(), |record| host(&record.name));
        Ok(Found { records, name, is_proven: answer.metadata.authentic_data })
    }
}

/// Whether an answer is one to a question.
fn answers(answer: &Message, query: &Message) -> bool {
    answer.metadata.id == query.metadata.id && answer.queries == query.queries
}

fn judged(answer: Message) -> Result<Message, LookupError> {
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(answer),
        ResponseCode::NXDomain => Err(LookupError::NotFound),
        // Also what is signed wrongly.
        other => Err(LookupError::Failed(format!("the resolver says {other}"))),
    }
}

impl Lookup for Proven {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answering<'a, Found<(u16, String)>> {
        Box::pin(self.find(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some((mx.preference, host(&mx.exchange))),
            _ => None,
        }))
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answering<'a, Found<IpAddr>> {
        let four = self.find(host, RecordType::A, |data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        });
        let six = self.find(host, RecordType::AAAA, |data| match data {
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        Box::pin(async move {
            match tokio::join!(four, six) {
                (Ok(four), Ok(six)) => Ok(Found {
                    records: four.records.into_iter().chain(six.records).collect(),
                    name: four.name,
                    is_proven: four.is_proven && six.is_proven,
                }),
                (Ok(found), Err(LookupError::NotFound)) | (Err(LookupError::NotFound), Ok(found)) => Ok(found),
                (Err(LookupError::NotFound), Err(LookupError::NotFound)) => Err(LookupError::NotFound),
                // [RFC 7672 §2.1.2] Half an answer may be the half that somebody wants us to see.
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        })
    }

    fn certificates<'a>(&'a self, name: &'a str) -> Answering<'a, Found<TLSA>> {
        Box::pin(self.find(name, RecordType::TLSA, |data| match data {
            RData::TLSA(record) => Some(record.clone()),
            _ => None,
        }))
    }

    fn texts<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<String>> {
        self.usual.texts(name)
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::{Record, rdata::A};

    use super::*;

    /// A resolver that answers each question as `answer` makes of it, several times if it likes.
    async fn resolver(answer: impl Fn(&Message) -> Vec<Message> + Send + 'static) -> Proven {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..count]).expect("a question");
                for answer in answer(&query) {
                    socket.send_to(&answer.to_vec().expect("an answer"), peer).await.expect("it is sent");
                }
            }
        });
        let dns = crate::Dns::open(Some(address)).expect("a resolver");
        Proven::new(address, dns.resolver().clone()).expect("it is on loopback")
    }

    fn says(query: &Message, code: ResponseCode, address: Option<[u8; 4]>) -> Message {
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.add_queries(query.queries.clone());
        answer.metadata.response_code = code;
        answer.metadata.authentic_data = query.metadata.authentic_data;
        let is_four = query.queries.iter().any(|query| query.query_type() == RecordType::A);
        if let Some(address) = address.filter(|_| is_four) {
            let name = query.queries[0].name().clone();
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A(address.into()))));
        }
        answer
    }

    #[tokio::test]
    async fn what_the_resolver_checked_is_proven_and_what_answers_another_question_is_nothing() {
        let lying = resolver(|query| {
            let right = says(query, ResponseCode::NoError, Some([192, 0, 2, 1]));
            let mut other_id = says(query, ResponseCode::NoError, Some([192, 0, 2, 66]));
            other_id.metadata.id = query.metadata.id.wrapping_add(1);
            let mut other_name = says(query, ResponseCode::NoError, Some([192, 0, 2, 66]));
            other_name.queries = vec![Query::query(full_name("evil.example").expect("a name"), RecordType::A)];
            vec![other_id, other_name, right]
        });
        let found = lying.await.addresses("mx.example.net").await.expect("an address");
        assert_eq!((found.records, found.is_proven), (vec![[192, 0, 2, 1].into()], true));
        let unsigned = resolver(|query| {
            let mut answer = says(query, ResponseCode::NoError, Some([192, 0, 2, 1]));
            answer.metadata.authentic_data = false;
            vec![answer]
        });
        assert!(!unsigned.await.addresses("mx.example.net").await.expect("an address").is_proven);
    }

    #[tokio::test]
    async fn no_answer_is_told_from_none_there_are() {
        for (code, there_is_none) in
            [(ResponseCode::NXDomain, true), (ResponseCode::NoError, true), (ResponseCode::ServFail, false)]
        {
            let proven = resolver(move |query| vec![says(query, code, None)]).await;
            let found = proven.certificates("_25._tcp.mx.example.net").await.expect_err("there are none");
            assert_eq!(found == LookupError::NotFound, there_is_none, "{found}");
        }
    }

    #[tokio::test]
    async fn a_resolver_elsewhere_is_not_believed() {
        let dns = crate::Dns::open(None).expect("a resolver");
        for elsewhere in ["192.0.2.1:53", "[2001:db8::1]:53", "0.0.0.0:53"] {
            assert!(
                Proven::new(elsewhere.parse().expect("an address"), dns.resolver().clone()).is_err(),
                "{elsewhere}"
            );
        }
    }
}
