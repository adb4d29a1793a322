//! The `CNI_*` variables: which command, for which container, for which pod.
//!
//! Reads no process environment itself: the caller hands in a look-up.

use std::path::PathBuf;

use model::PodName;

use crate::attachment::Attachment;
use crate::failure::{Code, Failure};

/// A command with all that it needs from the environment, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Give the container its interface.
    Add {
        /// Which interface of which container.
        attachment: Attachment,
        /// Its network namespace.
        netns: PathBuf,
        /// The pod it is part of.
        pod: PodName,
    },
    /// Take the interface away.
    Del {
        /// Which interface of which container.
        attachment: Attachment,
    },
    /// Compare what is with what ADD answered.
    Check {
        /// Which interface of which container.
        attachment: Attachment,
        /// Its network namespace.
        netns: PathBuf,
    },
    /// Remove what belongs to no attachment that the runtime still knows.
    Gc,
    /// Say whether ADD would work.
    Status,
    /// Say which versions are spoken.
    Version,
}

/// Keys of `CNI_ARGS` that runtimes for Kubernetes set.
const KNOWN_ARGS: &[&str] = &[
    "IgnoreUnknown",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_NAME",
    "K8S_POD_NAMESPACE",
    "K8S_POD_UID",
];

/// Collects what is wrong, so that the operator sees all of it at once.
struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

/// Reads the request from the variables that `variable` looks up.
pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Request, Failure> {
    let mut reader = Reader { variable, problems: Vec::new() };
    let request = match reader.required("CNI_COMMAND").as_str() {
        "ADD" => {
            let (attachment, netns) = (reader.attachment(), reader.netns());
            let pod = reader.pod();
            attachment.zip(pod).map(|(attachment, pod)| Request::Add { attachment, netns, pod })
        }
        // The namespace may be gone and the arguments with it: neither is asked for.
        "DEL" => reader.attachment().map(|attachment| Request::Del { attachment }),
        "CHECK" => {
            let (attachment, netns) = (reader.attachment(), reader.netns());
            attachment.map(|attachment| Request::Check { attachment, netns })
        }
        "GC" => Some(Request::Gc),
        "STATUS" => Some(Request::Status),
        "VERSION" => Some(Request::Version),
        "" => None,
        other => {
            reader.problems.push(format!(
                "CNI_COMMAND `{other}` is none of ADD, DEL, CHECK, GC, STATUS, VERSION"
            ));
            None
        }
    };
    match request {
        Some(request) if reader.problems.is_empty() => Ok(request),
        _ => Err(Failure::new(Code::InvalidEnvironment, reader.problems.join("; "))),
    }
}

impl Reader<'_> {
    /// The variable's value; missing or empty is a problem, and then empty.
    fn required(&mut self, name: &str) -> String {
        let value = (self.variable)(name).unwrap_or_default();
        if value.is_empty() {
            self.problems.push(format!("{name} is missing"));
        }
        value
    }

    fn attachment(&mut self) -> Option<Attachment> {
        let container_id = self.required("CNI_CONTAINERID");
        let interface = self.required("CNI_IFNAME");
        if container_id.is_empty() || interface.is_empty() {
            return None;
        }
        match Attachment::new(&container_id, &interface) {
            Ok(attachment) => Some(attachment),
            Err(error) => {
                self.problems.push(error.to_string());
                None
            }
        }
    }

    fn netns(&mut self) -> PathBuf {
        let netns = PathBuf::from(self.required("CNI_NETNS"));
        if netns.is_relative() && !netns.as_os_str().is_empty() {
            self.problems.push(format!("CNI_NETNS `{}` is not absolute", netns.display()));
        }
        netns
    }

    /// The pod that `CNI_ARGS` names.
    fn pod(&mut self) -> Option<PodName> {
        let text = (self.variable)("CNI_ARGS").unwrap_or_default();
        let mut args = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(pair) => args.push(pair),
                None => self.problems.push(format!("CNI_ARGS: `{pair}` is not KEY=VALUE")),
            }
        }
        let value = |wanted: &str| args.iter().find(|(key, _)| *key == wanted).map(|pair| pair.1);
        if !matches!(value("IgnoreUnknown"), Some("1" | "true" | "True" | "TRUE" | "t" | "T")) {
            for (key, _) in args.iter().filter(|(key, _)| !KNOWN_ARGS.contains(key)) {
                self.problems
                    .push(format!("CNI_ARGS: `{key}` is unknown (IgnoreUnknown=1 allows)"));
            }
        }
        let namespace = self.pod_part("K8S_POD_NAMESPACE", value("K8S_POD_NAMESPACE"), 63, "");
        let name = self.pod_part("K8S_POD_NAME", value("K8S_POD_NAME"), 253, ".");
        namespace.zip(name).map(|(namespace, name)| PodName { namespace, name })
    }

    /// A name as Kubernetes allows it (RFC 1123): these go into files and logs.
    fn pod_part(
        &mut self,
        key: &str,
        value: Option<&str>,
        longest: usize,
        also: &str,
    ) -> Option<String> {
        let Some(value) = value else {
            self.problems
                .push(format!("CNI_ARGS lacks {key}: the plugin serves pods and must know which"));
            return None;
        };
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: char| edge(Some(c)) || c == '-' || also.contains(c);
        let valid = value.len() <= longest
            && edge(value.chars().next())
            && edge(value.chars().next_back())
            && value.chars().all(inner);
        if !valid {
            self.problems.push(format!("CNI_ARGS: {key} `{value}` is not a name of Kubernetes"));
            return None;
        }
        Some(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "K8S_POD_NAMESPACE=web;K8S_POD_NAME=a-1";

    fn request(variables: &[(&str, &str)]) -> Result<Request, Failure> {
        read(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn add_with(args: &str) -> Result<Request, Failure> {
        request(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
        ])
    }

    #[track_caller]
    fn check_refused(result: Result<Request, Failure>, message: &str) {
        let failure = result.unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (Code::InvalidEnvironment, message));
    }

    #[test]
    fn add_needs_container_namespace_interface_and_pod() {
        assert_eq!(
            add_with(POD).unwrap(),
            Request::Add {
                attachment: Attachment::new("c1", "eth0").unwrap(),
                netns: "/run/netns/a".into(),
                pod: PodName { namespace: "web".into(), name: "a-1".into() },
            }
        );
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        check_refused(
            request(&[("CNI_COMMAND", "CHECK")]),
            "CNI_CONTAINERID is missing; CNI_IFNAME is missing; CNI_NETNS is missing",
        );
        check_refused(request(&[]), "CNI_COMMAND is missing");
    }

    #[test]
    fn del_works_without_a_namespace_and_without_a_pod() {
        let variables = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
        let attachment = Attachment::new("c1", "eth0").unwrap();
        assert_eq!(request(&variables).unwrap(), Request::Del { attachment });
    }

    #[test]
    fn a_container_that_is_no_pod_is_refused() {
        check_refused(
            add_with("K8S_POD_NAMESPACE=web"),
            "CNI_ARGS lacks K8S_POD_NAME: the plugin serves pods and must know which",
        );
    }

    #[test]
    fn unknown_arguments_are_refused_unless_allowed() {
        check_refused(
            add_with(&format!("{POD};COLOUR=red")),
            "CNI_ARGS: `COLOUR` is unknown (IgnoreUnknown=1 allows)",
        );
        assert!(add_with(&format!("IgnoreUnknown=1;{POD};COLOUR=red")).is_ok());
        check_refused(add_with(&format!("{POD};red")), "CNI_ARGS: `red` is not KEY=VALUE");
    }

    #[test]
    fn names_that_kubernetes_does_not_allow_are_refused() {
        check_refused(
            add_with("K8S_POD_NAMESPACE=a.b;K8S_POD_NAME=../x"),
            "CNI_ARGS: K8S_POD_NAMESPACE `a.b` is not a name of Kubernetes; \
             CNI_ARGS: K8S_POD_NAME `../x` is not a name of Kubernetes",
        );
    }

    #[test]
    fn an_unknown_command_is_refused() {
        check_refused(
            request(&[("CNI_COMMAND", "PATCH")]),
            "CNI_COMMAND `PATCH` is none of ADD, DEL, CHECK, GC, STATUS, VERSION",
        );
    }
}
