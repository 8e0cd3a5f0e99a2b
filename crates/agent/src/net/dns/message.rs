//! Reading guests' questions and upstreams' answers, as far as forwarding needs it. Pure; both come from strangers.

use hickory_proto::op::{Header, HeaderCounts, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// Longest question that is forwarded: what fits a packet on every path (DNS Flag Day 2020).
pub const QUERY_MAX_BYTES: usize = 1232;
/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER_BYTES: usize = 12;

/// A question of a guest, fit to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    id: u16,
    query: Query,
    recursion_desired: bool,
    bytes: Vec<u8>,
}

/// Bytes that are not forwarded.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// They are no question at all: an answer to them would make the forwarder a tool.
    Silence,
    /// The question is refused with this answer.
    Answer(Vec<u8>),
}

impl Question {
    /// Reads a guest's message: a standard query with one question is forwarded.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let header = Header::from_bytes(bytes.get(..HEADER_BYTES).ok_or(Refusal::Silence)?);
        let metadata = header.map_err(|_| Refusal::Silence)?.metadata;
        if metadata.message_type != MessageType::Query {
            return Err(Refusal::Silence);
        }
        let refuse = |code| Refusal::Answer(error(metadata.id, metadata.op_code, code, None, false));
        if metadata.op_code != OpCode::Query {
            return Err(refuse(ResponseCode::NotImp));
        }
        if bytes.len() > QUERY_MAX_BYTES {
            return Err(refuse(ResponseCode::FormErr));
        }
        let message = Message::from_vec(bytes).map_err(|_| refuse(ResponseCode::FormErr))?;
        let [query] = &message.queries[..] else { return Err(refuse(ResponseCode::FormErr)) };
        Ok(Self {
            id: metadata.id,
            query: query.clone(),
            recursion_desired: metadata.recursion_desired,
            bytes: bytes.to_vec(),
        })
    }

    /// The question's bytes under another id: an upstream's answer must not be guessable from what the guest chose.
    pub fn with_id(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    /// The guest's form of an upstream's answer; `None` where `bytes` do not answer this question as asked with `id`.
    pub fn accept(&self, id: u16, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut decoder = BinDecoder::new(bytes);
        let Header { metadata, counts: HeaderCounts { queries, .. }, .. } = Header::read(&mut decoder).ok()?;
        if metadata.id != id || metadata.message_type != MessageType::Response {
            return None;
        }
        // Servers leave the question out of some errors.
        let echoed = match queries {
            0 => metadata.response_code != ResponseCode::NoError,
            1 => Query::read(&mut decoder).is_ok_and(|query| query == self.query),
            _ => false,
        };
        echoed.then(|| {
            let mut bytes = bytes.to_vec();
            bytes[..2].copy_from_slice(&self.id.to_be_bytes());
            bytes
        })
    }

    /// "I could not find out": what a guest is told when no upstream answers.
    pub fn servfail(&self) -> Vec<u8> {
        error(self.id, OpCode::Query, ResponseCode::ServFail, Some(self.query.clone()), self.recursion_desired)
    }
}

fn error(id: u16, op_code: OpCode, code: ResponseCode, query: Option<Query>, recursion_desired: bool) -> Vec<u8> {
    let mut message = Message::error_msg(id, op_code, code);
    message.metadata.recursion_desired = recursion_desired;
    message.metadata.recursion_available = true;
    message.queries.extend(query);
    message.to_vec().expect("a header and a name that was read before fit a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    fn query(name: &str) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
        message
    }

    fn read(message: &Message) -> Result<Question, Refusal> {
        Question::read(&message.to_vec().expect("encodable"))
    }

    fn answer_to(message: &Message, id: u16) -> Message {
        let mut answer = message.clone();
        answer.metadata.id = id;
        answer.metadata.message_type = MessageType::Response;
        answer
    }

    #[test]
    fn an_answer_must_carry_the_id_and_the_question() {
        let asked = query("app.example.com.");
        let question = read(&asked).expect("a question");
        let accepts = |answer: &Message| question.accept(99, &answer.to_vec().expect("encodable"));
        let accepted = accepts(&answer_to(&asked, 99)).expect("its own answer");
        assert_eq!(&accepted[..2], [0, 7]);
        assert_eq!(accepts(&answer_to(&asked, 98)), None);
        assert_eq!(accepts(&answer_to(&query("evil.example.com."), 99)), None);
        let mut echo = asked.clone();
        echo.metadata.id = 99;
        assert_eq!(accepts(&echo), None);
    }

    #[test]
    fn what_is_no_plain_question_is_refused_in_words_or_silence() {
        let code = |refusal| match refusal {
            Err(Refusal::Answer(bytes)) => Message::from_vec(&bytes).expect("a message").metadata.response_code,
            other => panic!("{other:?}"),
        };
        let mut update = query("a.");
        update.metadata.op_code = OpCode::Update;
        assert_eq!(code(read(&update)), ResponseCode::NotImp);
        let mut two = query("a.");
        two.add_query(Query::query(Name::root(), RecordType::A));
        assert_eq!(code(read(&two)), ResponseCode::FormErr);
        let mut long = query("a.").to_vec().expect("encodable");
        long.resize(QUERY_MAX_BYTES + 1, 0);
        assert_eq!(code(Question::read(&long)), ResponseCode::FormErr);
        assert_eq!(read(&answer_to(&query("a."), 7)), Err(Refusal::Silence));
        assert_eq!(Question::read(b"short"), Err(Refusal::Silence));
    }

    #[test]
    fn a_failure_repeats_the_question() {
        let asked = query("app.example.com.");
        let failure = Message::from_vec(&read(&asked).expect("a question").servfail()).expect("a message");
        assert_eq!(failure.metadata.response_code, ResponseCode::ServFail);
        assert_eq!((failure.metadata.id, &failure.queries), (7, &asked.queries));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1400)) {
            if let Ok(question) = Question::read(&bytes) {
                let _ = question.servfail();
            }
            let question = read(&query("app.example.com.")).expect("a question");
            let _ = question.accept(u16::from_be_bytes([bytes.first().copied().unwrap_or(0), 0]), &bytes);
        }
    }
}
