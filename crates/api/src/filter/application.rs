//! Tests on what applications said to each other: DNS questions and HTTP.
//!
//! Patterns are regular expressions of RE2's syntax, matched anywhere in the text
//! and in linear time whatever a client sends.

use regex::{Regex, RegexBuilder};

use super::FilterError;
use super::lower::{Tests, parsed};
use crate::proto::flow::layer7::Record;
use crate::proto::flow::{Dns, Flow, FlowFilter, Http, HttpHeader};

/// Event type of an application record.
const EVENT_L7: i32 = 129;

/// Bytes that a compiled pattern may take.
const PATTERN_SIZE: usize = 1 << 20;

fn http(flow: &Flow) -> Option<&Http> {
    match flow.l7.as_ref()?.record.as_ref()? {
        Record::Http(http) => Some(http),
        Record::Dns(_) | Record::Kafka(_) => None,
    }
}

fn dns(flow: &Flow) -> Option<&Dns> {
    match flow.l7.as_ref()?.record.as_ref()? {
        Record::Dns(dns) => Some(dns),
        Record::Http(_) | Record::Kafka(_) => None,
    }
}

pub(super) fn pattern(text: &str) -> Option<Regex> {
    RegexBuilder::new(text).size_limit(PATTERN_SIZE).build().ok()
}

impl Tests {
    /// What the application record says.
    pub(super) fn application(&mut self, filter: &FlowFilter) -> Result<(), FilterError> {
        possible(filter)?;
        let reason = "is no regular expression, or too large a one";
        let values = parsed("dns_query", &filter.dns_query, reason, |text| pattern(text))?;
        self.any(values, |wanted, flow| dns(flow).is_some_and(|dns| wanted.is_match(&dns.query)));

        let reason = "is no status: give 404, 40+ or 4+";
        let field = "http_status_code";
        let values = parsed(field, &filter.http_status_code, reason, |text| StatusCode::new(text))?;
        self.any(values, |wanted, flow| http(flow).is_some_and(|http| wanted.matches(http.code)));

        self.any(filter.http_method.clone(), |wanted, flow| {
            http(flow).is_some_and(|http| http.method.eq_ignore_ascii_case(wanted))
        });
        let reason = "is no regular expression, or too large a one";
        let values = parsed("http_path", &filter.http_path, reason, |text| pattern(text))?;
        self.any(values, |wanted, flow| {
            http(flow).and_then(|http| path(&http.url)).is_some_and(|path| wanted.is_match(&path))
        });
        let values = parsed("http_url", &filter.http_url, reason, |text| pattern(text))?;
        self.any(values, |wanted, flow| http(flow).is_some_and(|http| wanted.is_match(&http.url)));
        self.any(filter.http_header.clone(), |wanted: &HttpHeader, flow| {
            http(flow).is_some_and(|http| http.headers.contains(wanted))
        });
        Ok(())
    }
}

/// A filter on HTTP that also asks for other kinds of events is a mistake.
fn possible(filter: &FlowFilter) -> Result<(), FilterError> {
    let fields = [
        ("http_status_code", filter.http_status_code.is_empty()),
        ("http_method", filter.http_method.is_empty()),
        ("http_path", filter.http_path.is_empty()),
        ("http_url", filter.http_url.is_empty()),
        ("http_header", filter.http_header.is_empty()),
    ];
    let types = &filter.event_type;
    if types.is_empty() || types.iter().any(|wanted| wanted.r#type == EVENT_L7) {
        return Ok(());
    }
    match fields.into_iter().find(|(_, empty)| !empty) {
        Some((field, _)) => Err(FilterError::OtherEventType { field }),
        None => Ok(()),
    }
}

/// `404`, or the first digits of one: `40+`, `4+`.
struct StatusCode {
    digits: String,
    whole: bool,
}

impl StatusCode {
    fn new(text: &str) -> Option<Self> {
        let (digits, whole) = match text.strip_suffix('+') {
            Some(digits) => (digits, false),
            None => (text, true),
        };
        let length = if whole { 3..=3 } else { 1..=2 };
        let valid = length.contains(&digits.len())
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && matches!(digits.as_bytes().first(), Some(b'1'..=b'5'));
        valid.then(|| Self { digits: digits.to_owned(), whole })
    }

    /// Requests have no code, and never match.
    fn matches(&self, code: u32) -> bool {
        let code = code.to_string();
        code != "0" && if self.whole { code == self.digits } else { code.starts_with(&self.digits) }
    }
}

/// The decoded path of a URL (RFC 3986 §3.3); `None` where its escapes are wrong.
fn path(url: &str) -> Option<String> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end)?;
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |start| &rest[start..]),
        None => url,
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filters;
    use crate::proto::flow::{EventTypeFilter, Layer7};

    fn flow(record: Record) -> Flow {
        let l7 = Layer7 { record: Some(record), ..Layer7::default() };
        Flow { l7: Some(l7), ..Flow::default() }
    }

    fn answer() -> Flow {
        flow(Record::Http(Http {
            code: 404,
            method: "GET".into(),
            url: "http://shop.example/v1/a%20b?x=/secret".into(),
            protocol: "HTTP/1.1".into(),
            headers: vec![HttpHeader { key: "X-Team".into(), value: "pay".into() }],
        }))
    }

    fn question() -> Flow {
        flow(Record::Dns(Dns { query: "www.example.com.".into(), ..Dns::default() }))
    }

    /// A filter passes the first flow, and not the second.
    #[track_caller]
    fn check(filter: FlowFilter, passes: &Flow, fails: &Flow) {
        let filters = Filters::new(&[filter], &[]).unwrap();
        assert!(filters.matches(passes));
        assert!(!filters.matches(fails));
        assert!(!filters.matches(&Flow::default()), "no record at all");
    }

    fn strings(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn a_dns_query_is_a_pattern_on_the_name() {
        let dns_query = strings(r"\.example\.com\.$");
        check(FlowFilter { dns_query, ..FlowFilter::default() }, &question(), &answer());
    }

    #[test]
    fn a_status_is_a_number_or_its_first_digits() {
        let request = flow(Record::Http(Http { method: "GET".into(), ..Http::default() }));
        for text in ["404", "40+", "4+"] {
            let http_status_code = strings(text);
            check(FlowFilter { http_status_code, ..FlowFilter::default() }, &answer(), &request);
        }
        let code = |text: &str| StatusCode::new(text).is_some_and(|status| status.matches(404));
        assert!(!code("403") && !code("5+") && !code("41+"));
        for text in ["", "+", "4", "40", "4040", "600", "6+", "404+", "4x+", "-04"] {
            assert!(StatusCode::new(text).is_none(), "{text}");
        }
    }

    #[test]
    fn methods_have_no_case_and_headers_do() {
        let http_method = strings("get");
        check(FlowFilter { http_method, ..FlowFilter::default() }, &answer(), &question());
        let header = |key: &str| FlowFilter {
            http_header: vec![HttpHeader { key: key.into(), value: "pay".into() }],
            ..FlowFilter::default()
        };
        check(header("X-Team"), &answer(), &question());
        assert!(!Filters::new(&[header("x-team")], &[]).unwrap().matches(&answer()));
    }

    #[test]
    fn a_path_is_not_the_url() {
        let http_path = strings("^/v1/a b$");
        check(FlowFilter { http_path, ..FlowFilter::default() }, &answer(), &question());
        let secret = FlowFilter { http_path: strings("secret"), ..FlowFilter::default() };
        assert!(!Filters::new(&[secret], &[]).unwrap().matches(&answer()));
        let http_url = strings("secret$");
        check(FlowFilter { http_url, ..FlowFilter::default() }, &answer(), &question());
    }

    #[track_caller]
    fn check_path(url: &str, want: Option<&str>) {
        assert_eq!(path(url).as_deref(), want, "{url}");
    }

    #[test]
    fn paths_are_taken_from_urls_of_every_form() {
        check_path("http://d/v1?q", Some("/v1"));
        check_path("http://d", Some(""));
        check_path("/only/path#f", Some("/only/path"));
        check_path("/%41%zz", None);
        check_path("/%4", None);
    }

    #[track_caller]
    fn check_refused(filter: FlowFilter, want: &str) {
        let error = Filters::new(&[filter], &[]).err().unwrap().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        check_refused(
            FlowFilter { dns_query: strings("("), ..FlowFilter::default() },
            "filter field `dns_query`: `(` is no regular expression",
        );
        let huge = strings("(a{1000}){1000}");
        check_refused(FlowFilter { http_url: huge, ..FlowFilter::default() }, "too large");
        check_refused(
            FlowFilter { http_status_code: strings("4"), ..FlowFilter::default() },
            "is no status",
        );
        let drops = vec![EventTypeFilter { r#type: 1, ..EventTypeFilter::default() }];
        let http_method = strings("GET");
        let filter = FlowFilter { http_method, event_type: drops, ..FlowFilter::default() };
        check_refused(filter, "filter field `http_method` needs `event_type`");
    }

    #[test]
    fn the_event_type_of_records_goes_with_them() {
        let event_type = vec![
            EventTypeFilter { r#type: 1, ..EventTypeFilter::default() },
            EventTypeFilter { r#type: EVENT_L7, ..EventTypeFilter::default() },
        ];
        let http_method = strings("GET");
        let filter = FlowFilter { http_method, event_type, ..FlowFilter::default() };
        assert!(Filters::new(&[filter], &[]).is_ok());
    }
}
