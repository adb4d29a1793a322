//! Rules about Kafka requests. The reference system dropped them; here they
//! keep their documented meaning.

/// A group of request types.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KafkaRole {
    /// Writes to topics, and what a writer needs to find them.
    Produce,
    /// Reads from topics, and what a reader needs.
    Consume,
}

impl KafkaRole {
    /// The request types of the role.
    pub fn keys(self) -> &'static [i16] {
        match self {
            Self::Produce => &[0, 3, 18],
            Self::Consume => &[1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18],
        }
    }
}

/// Names of request types; the position is the number.
pub const API_KEYS: [&str; 34] = [
    "produce",
    "fetch",
    "offsets",
    "metadata",
    "leaderandisr",
    "stopreplica",
    "updatemetadata",
    "controlledshutdown",
    "offsetcommit",
    "offsetfetch",
    "findcoordinator",
    "joingroup",
    "heartbeat",
    "leavegroup",
    "syncgroup",
    "describegroups",
    "listgroups",
    "saslhandshake",
    "apiversions",
    "createtopics",
    "deletetopics",
    "deleterecords",
    "initproducerid",
    "offsetforleaderepoch",
    "addpartitionstotxn",
    "addoffsetstotxn",
    "endtxn",
    "writetxnmarkers",
    "txnoffsetcommit",
    "describeacls",
    "createacls",
    "deleteacls",
    "describeconfigs",
    "alterconfigs",
];

/// Request types that name topics.
const WITH_TOPICS: [i16; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 19, 20, 21, 23, 24, 27, 28];

/// What one rule demands; all of it must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KafkaRule {
    /// Request types that pass; empty: all.
    pub keys: Vec<i16>,
    /// The version of the request type.
    pub version: Option<i16>,
    /// Who the client says it is.
    pub client: Option<String>,
    /// The topic of requests that name topics.
    pub topic: Option<String>,
}

/// One request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KafkaRequest {
    /// Its type.
    pub key: i16,
    /// The version of its type.
    pub version: i16,
    /// Who the client says it is.
    pub client: String,
    /// The topics that it names.
    pub topics: Vec<String>,
}

impl KafkaRule {
    /// Whether the rule is about requests such as this one, topics aside.
    fn is_about(&self, request: &KafkaRequest) -> bool {
        (self.keys.is_empty() || self.keys.contains(&request.key))
            && self.version.is_none_or(|version| version == request.version)
            && self.client.as_ref().is_none_or(|client| *client == request.client)
    }
}

/// Whether the rules let a request through: every topic that it names must be
/// allowed by some rule.
pub(super) fn admits(rules: &[KafkaRule], request: &KafkaRequest) -> bool {
    let mut about = rules.iter().filter(|rule| rule.is_about(request));
    if !WITH_TOPICS.contains(&request.key) {
        return about.next().is_some();
    }
    let about: Vec<&KafkaRule> = about.collect();
    let allows = |topic: Option<&String>| {
        about.iter().any(|rule| match (&rule.topic, topic) {
            (None, _) => true,
            (Some(wanted), Some(topic)) => wanted == topic,
            (Some(_), None) => false,
        })
    };
    match request.topics.as_slice() {
        [] => allows(None),
        topics => topics.iter().all(|topic| allows(Some(topic))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `KEYS|* TOPIC|*`, one rule a word pair.
    fn rules(texts: &[&str]) -> Vec<KafkaRule> {
        texts
            .iter()
            .map(|text| {
                let (keys, topic) = text.split_once(' ').unwrap();
                let keys = match keys {
                    "produce" => KafkaRole::Produce.keys().to_vec(),
                    "consume" => KafkaRole::Consume.keys().to_vec(),
                    "*" => vec![],
                    number => vec![number.parse().unwrap()],
                };
                let topic = (topic != "*").then(|| topic.to_owned());
                KafkaRule { keys, topic, ..KafkaRule::default() }
            })
            .collect()
    }

    #[track_caller]
    fn check(texts: &[&str], key: i16, topics: &[&str], want: bool) {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let request = KafkaRequest { key, topics, ..KafkaRequest::default() };
        assert_eq!(admits(&rules(texts), &request), want, "{texts:?} {request:?}");
    }

    #[test]
    fn roles_are_groups_of_request_types() {
        check(&["produce a"], 0, &["a"], true);
        check(&["produce a"], 1, &["a"], false);
        check(&["consume a"], 1, &["a"], true);
        check(&["consume a"], 12, &[], true);
        check(&["produce a"], 18, &[], true);
        check(&["produce a"], 12, &[], false);
    }

    #[test]
    fn every_topic_must_be_allowed_by_some_rule() {
        check(&["0 a"], 0, &["a", "b"], false);
        check(&["0 a", "0 b"], 0, &["a", "b"], true);
        check(&["0 *"], 0, &["a", "b"], true);
        check(&["0 a"], 0, &[], false);
    }

    #[test]
    fn a_list_without_rules_admits_nothing() {
        check(&[], 0, &["a"], false);
        check(&["* *"], 33, &[], true);
    }

    #[test]
    fn numbers_of_request_types_are_the_protocols() {
        assert_eq!(API_KEYS[18], "apiversions");
        assert_eq!(API_KEYS[33], "alterconfigs");
    }
}
