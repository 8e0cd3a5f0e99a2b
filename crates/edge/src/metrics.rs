//! What the edge counts for its operator: answers by status and code with the time that each took.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::problem::Problem;

/// The classes of statuses (RFC 9110 §15).
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The code of an answer that is the VM's own.
const OF_VM: &str = "";

/// The class of the status, and the code of the edge's own answer.
type Labels = [(&'static str, &'static str); 2];

/// The numbers of one edge. Clones count together.
#[derive(Debug, Clone)]
pub struct EdgeMetrics {
    requests: Family<Labels, Histogram>,
}

impl EdgeMetrics {
    /// Counts in `registry`. Each series is there from the beginning, so that a rate of nothing is 0 and not absent.
    pub fn new(registry: &mut Registry) -> Self {
        let requests = Family::new_with_constructor(seconds as fn() -> Histogram);
        for class in CLASSES {
            drop(requests.get_or_create(&labels(class, OF_VM)));
        }
        for problem in Problem::ALL {
            drop(requests.get_or_create(&labels(class_of(problem.status().as_u16()), problem.code())));
        }
        let help = "Time from a request's head to the answer's, waits for a VM included";
        registry.register_with_unit("cakework_edge_request", help, Unit::Seconds, requests.clone());
        Self { requests }
    }

    /// A request was answered: by the VM, or with the edge's own problem.
    pub(crate) fn answered(&self, status: u16, problem: Option<Problem>, took: Duration) {
        let code = problem.map_or(OF_VM, Problem::code);
        self.requests.get_or_create(&labels(class_of(status), code)).observe(took.as_secs_f64());
    }
}

const fn labels(class: &'static str, code: &'static str) -> Labels {
    [("status", class), ("code", code)]
}

/// A status that is none counts as the VM's failure.
fn class_of(status: u16) -> &'static str {
    CLASSES.get(usize::from(status / 100).wrapping_sub(1)).copied().unwrap_or("5xx")
}

/// From a millisecond to about a minute: longer than any request waits.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.001, 2.0, 17))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_class_and_code() {
        let mut registry = Registry::default();
        let metrics = EdgeMetrics::new(&mut registry);
        metrics.answered(204, None, Duration::from_millis(3));
        metrics.answered(503, Some(Problem::VmStopped), Duration::from_millis(1));
        metrics.answered(999, None, Duration::ZERO);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all");
        for line in [
            r#"cakework_edge_request_seconds_count{status="2xx",code=""} 1"#,
            r#"cakework_edge_request_seconds_count{status="5xx",code="vm_stopped"} 1"#,
            r#"cakework_edge_request_seconds_count{status="5xx",code=""} 1"#,
            r#"cakework_edge_request_seconds_count{status="4xx",code="host_not_found"} 0"#,
            r#"cakework_edge_request_seconds_bucket{le="0.004",status="2xx",code=""} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
