//! Every metric: its name, its kind, its labels, a line about it. `host/METRICS.md` has the same table for people.

/// A metric, with all its members.
#[derive(Debug)]
pub struct Family {
    /// Its name, with the ending that its members have.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What its members are told apart by. One that has no value is left out.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows, from 0 at the start.
    Counter,
    /// What is now.
    Gauge,
    /// Durations in seconds, by length.
    Histogram,
    /// Always 1: its labels are what it tells.
    Info,
}

impl Kind {
    /// The word for it in OpenMetrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

impl Family {
    /// The name without the ending.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(ending).unwrap_or(self.name)
    }
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:expr),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All of them, in the order of the page.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

/// OpenTelemetry's names for labels, and ours.
pub const METHOD: &str = "http_request_method";
/// See [`METHOD`].
pub const STATUS: &str = "http_response_status_code";
/// See [`METHOD`].
pub const ROUTE: &str = "http_route";
/// See [`METHOD`].
pub const ERROR: &str = "error_type";
/// The handler's name.
pub const HANDLER: &str = "host_handler";
/// The name of the handler's tenant.
pub const TENANT: &str = "host_tenant";
/// Which of a few states.
pub const STATE: &str = "host_state";
/// How it went.
pub const OUTCOME: &str = "host_outcome";
/// Where it came from.
pub const SOURCE: &str = "host_source";
/// What it is.
pub const KIND: &str = "host_kind";
/// A certificate's file.
pub const CERTIFICATE: &str = "host_certificate";
/// The first of the names that a certificate is for.
pub const NAME: &str = "host_name";
/// What happened.
pub const EVENT: &str = "host_event";
/// What was asked for.
pub const OPERATION: &str = "host_operation";

families! {
    REQUEST_DURATION: Histogram "http_server_request_duration_seconds" [METHOD, STATUS, ROUTE, HANDLER, TENANT, ERROR]
        "Requests, by the time from their head to the last byte of their response";
    ACTIVE_REQUESTS: Gauge "http_server_active_requests" []
        "Requests that have begun and not ended";
    QUEUE_WAIT: Histogram "host_queue_wait_seconds" [HANDLER, TENANT]
        "Requests that got a place, by how long they waited for it";
    INSTANTIATION: Histogram "host_instantiation_seconds" [HANDLER, TENANT]
        "Requests that needed a new instance, by how long it took to make one";
    GUEST_CPU: Histogram "host_guest_cpu_seconds" [HANDLER, TENANT]
        "Requests that reached their guest, by the CPU time it used until its response was sent";
    GUEST_CPU_AFTER: Counter "host_guest_cpu_after_seconds_total" [HANDLER, TENANT]
        "CPU time that guests used after their responses were sent";
    GUEST_MEMORY: Counter "host_guest_memory_byte_seconds_total" [HANDLER, TENANT]
        "Memory that requests had: what their instances had at most, each byte once for each second";
    RECEIVED: Counter "host_request_body_bytes_total" [HANDLER, TENANT]
        "Bytes of requests' bodies that guests took";
    SENT: Counter "host_response_body_bytes_total" [HANDLER, TENANT]
        "Bytes of responses' bodies that were handed to their connections";
    SECOND_TRIES: Counter "host_requests_tried_again_total" [HANDLER, TENANT]
        "Requests that were given to another instance because the one that they shared with others had failed";
    GUEST_FAULTS: Counter "host_guest_faults_total" [HANDLER, TENANT, ERROR]
        "What guests did wrong, before and after their responses";
    OUTBOUND_REQUESTS: Counter "host_outbound_requests_total" [HANDLER, TENANT, KIND, ERROR]
        "Requests that guests sent: calls of other handlers, and over HTTP to elsewhere";
    KEYVALUE: Counter "host_keyvalue_operations_total" [HANDLER, TENANT, OPERATION, OUTCOME]
        "What guests asked of buckets, by what became of it";
    BLOBSTORE: Counter "host_blobstore_operations_total" [HANDLER, TENANT, OPERATION, OUTCOME]
        "What guests asked of containers, by what became of it";
    BLOBSTORE_BYTES: Counter "host_blobstore_bytes_total" [HANDLER, TENANT, OPERATION]
        "Bytes that guests read out of objects of containers, and wrote into them";
    HANDLER_READY: Gauge "host_handler_ready" [HANDLER, TENANT]
        "1 if the handler can be served, 0 if it is quarantined or cannot be loaded";
    HANDLER_PERMITS: Gauge "host_handler_permits" [HANDLER, TENANT, STATE]
        "Requests of the handler that hold a place, or wait for one";
    HANDLER_PERMITS_MAX: Gauge "host_handler_permits_max" [HANDLER, TENANT]
        "Places of the handler";
    TENANT_PERMITS: Gauge "host_tenant_permits" [TENANT, STATE]
        "Requests of the tenant that hold a place, or wait for one";
    TENANT_PERMITS_MAX: Gauge "host_tenant_permits_max" [TENANT]
        "Places of the tenant, if it has a ceiling";
    TENANT_MEMORY: Gauge "host_tenant_memory_bytes" [TENANT]
        "Memory of all instances of the tenant, and what the host holds for them";
    TENANT_MEMORY_MAX: Gauge "host_tenant_memory_max_bytes" [TENANT]
        "What that may be, if it has a ceiling";
    READY: Gauge "host_ready" []
        "1 if the host is ready, as `/readyz` says it";
    PERMITS: Gauge "host_permits" [STATE]
        "Requests that hold a place of the host, or wait for one";
    PERMITS_MAX: Gauge "host_permits_max" []
        "Places of the host";
    INSTANCES: Gauge "host_instances" [STATE]
        "Instances of guests that run, or wait for their next request";
    INSTANCE_MEMORY: Gauge "host_instance_memory_bytes" []
        "Memory of all instances: what they have grown to, not what they touch of it";
    HANDLERS: Gauge "host_handlers" [STATE]
        "Handlers that are deployed, by whether they can be served";
    HANDLERS_LOADED: Gauge "host_handlers_loaded" []
        "Handlers whose guest is loaded";
    DEPLOYS: Counter "host_deploys_total" [SOURCE, OUTCOME]
        "Handlers that were put in place, or refused";
    COMPILATIONS: Counter "host_compilations_total" [OUTCOME]
        "Components that were compiled, or could not be";
    COMPILE_SECONDS: Counter "host_compile_seconds_total" []
        "Time on the clock that compiling took, all components together";
    CONNECTIONS: Gauge "host_connections" []
        "Connections that are open";
    CONNECTIONS_ACCEPTED: Counter "host_connections_accepted_total" []
        "Connections that were accepted";
    ACCEPT_ERRORS: Counter "host_accept_errors_total" []
        "Connections that could not be accepted, most often for want of file descriptors";
    CONNECTION_EVENTS: Counter "host_connection_events_total" [EVENT]
        "Connections, and streams of HTTP/2, that ended early and why";
    TLS_HANDSHAKES: Counter "host_tls_handshakes_total" [OUTCOME]
        "Handshakes of TLS, by whether and how they were done, or why they were not";
    CERTIFICATE_EXPIRY: Gauge "host_tls_certificate_expiry_timestamp_seconds" [CERTIFICATE, NAME]
        "When a certificate that clients are shown ends, in seconds of Unix time";
    LOG_LINES_LOST: Counter "host_log_lines_lost_total" [KIND]
        "Lines that were not written: of the access log, of the host's log, of what guests print";
    METRIC_SERIES: Gauge "host_metric_series" []
        "Sets of labels of `http_server_request_duration_seconds` that are told apart";
    METRIC_SERIES_MAX: Gauge "host_metric_series_max" []
        "What that may be: requests with other labels are counted together then, as `_OTHER`";
    BUILD: Info "host_build_info" ["version"]
        "What runs";
    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "CPU time of the process, in user and system mode";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes" []
        "Resident memory of the process";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" []
        "Address space of the process: most of it is room for instances and takes no memory";
    PROCESS_THREADS: Gauge "process_threads" []
        "Threads of the process";
    PROCESS_FDS: Gauge "process_open_fds" []
        "File descriptors that are open";
    PROCESS_FDS_MAX: Gauge "process_max_fds" []
        "What that may be";
    PROCESS_START: Gauge "process_start_time_seconds" []
        "When the process started, in seconds of Unix time";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_their_kind_and_each_is_there_once() {
        let mut names: Vec<_> = ALL.iter().map(|family| family.name).collect();
        for family in ALL {
            let is_counter = family.kind == Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), is_counter, "{family:?}");
            assert!(!family.stem().is_empty(), "{family:?}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    /// Rows: name, kind, labels, what it counts.
    #[test]
    fn the_table_for_people_says_the_same() {
        let page = include_str!("../../../METRICS.md");
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let rows: Vec<&str> = rows.collect();
        let expected: Vec<String> = ALL
            .iter()
            .map(|family| {
                let labels: Vec<_> = family.labels.iter().map(|it| format!("`{it}`")).collect();
                let (name, kind, help) = (family.name, family.kind.as_str(), family.help);
                format!("| `{name}` | {kind} | {} | {help} |", labels.join(" "))
            })
            .map(|row| row.replace("|  |", "| |"))
            .collect();
        assert_eq!(
            rows,
            expected,
            "the table should be:\n{}",
            expected.join("\n")
        );
    }
}
