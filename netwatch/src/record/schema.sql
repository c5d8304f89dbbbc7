-- Schema 7 of netwatch recordings, described in docs/recording.md. Times are nanoseconds since the
-- Unix epoch, durations are nanoseconds, counts are plain integers. Tables are read and written by
-- column position. A change of a table raises the version and comes with an upgrade step in
-- schema.rs.

CREATE TABLE recording (
    state           TEXT NOT NULL,
    until_ns        INTEGER NOT NULL,
    waiting_flows   INTEGER NOT NULL
);

CREATE TABLE run (
    id              TEXT NOT NULL,
    command         TEXT NOT NULL,
    user            TEXT NOT NULL,
    pid             INTEGER,
    started_ns      INTEGER NOT NULL,
    duration_ns     INTEGER NOT NULL,
    exit_code       INTEGER,
    exit_signal     INTEGER,
    ended_by        TEXT,
    ended_by_signal INTEGER,
    interface       TEXT NOT NULL,
    mtu_bytes       INTEGER NOT NULL,
    local           TEXT NOT NULL,
    gateway         TEXT NOT NULL,
    host_loopback   TEXT NOT NULL,
    resolvers       TEXT NOT NULL,
    is_final        INTEGER NOT NULL,
    attribution     TEXT NOT NULL,
    attribution_off TEXT,
    kernel          TEXT NOT NULL,
    netwatch        TEXT NOT NULL,
    cpu_user_ns     INTEGER,
    cpu_system_ns   INTEGER,
    memory_peak_bytes INTEGER,
    published       TEXT NOT NULL
);

CREATE TABLE replay (
    file                TEXT NOT NULL,
    format              TEXT NOT NULL,
    link_types          TEXT NOT NULL,
    by_kernel           INTEGER NOT NULL,
    local               TEXT NOT NULL,
    started_ns          INTEGER NOT NULL,
    duration_ns         INTEGER NOT NULL,
    frames_skbs         INTEGER NOT NULL,
    frames_bytes        INTEGER NOT NULL,
    cut_frames          INTEGER NOT NULL,
    left_out_skbs       INTEGER NOT NULL,
    left_out_bytes      INTEGER NOT NULL,
    ended_early_offset  INTEGER,
    ended_early_cause   TEXT,
    missing             INTEGER NOT NULL
);

CREATE TABLE total (
    part               TEXT PRIMARY KEY,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE folded (
    flows       INTEGER NOT NULL,
    at_least    INTEGER NOT NULL,
    icmp_errors INTEGER NOT NULL
);

CREATE TABLE balance (
    part          TEXT PRIMARY KEY,
    egress_skbs   INTEGER NOT NULL,
    egress_bytes  INTEGER NOT NULL,
    ingress_skbs  INTEGER NOT NULL,
    ingress_bytes INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE balance_state (
    state                 TEXT NOT NULL,
    dropped_skbs          INTEGER NOT NULL,
    file_frames_skbs      INTEGER,
    file_frames_bytes     INTEGER,
    file_left_out_skbs    INTEGER,
    file_left_out_bytes   INTEGER,
    file_difference_skbs  INTEGER,
    file_difference_bytes INTEGER
);

CREATE TABLE remainder (
    kind               TEXT NOT NULL,
    what               TEXT NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL
);

CREATE TABLE lost (
    reason TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE flow (
    number                       INTEGER PRIMARY KEY,
    scope                        TEXT NOT NULL,
    protocol                     INTEGER NOT NULL,
    fragment                     INTEGER NOT NULL,
    local                        TEXT NOT NULL,
    local_port                   INTEGER NOT NULL,
    remote                       TEXT NOT NULL,
    remote_port                  INTEGER NOT NULL,
    epoch                        INTEGER NOT NULL,
    egress_skbs                  INTEGER NOT NULL,
    egress_packets               INTEGER NOT NULL,
    egress_bytes                 INTEGER NOT NULL,
    egress_wire_bytes            INTEGER NOT NULL,
    ingress_skbs                 INTEGER NOT NULL,
    ingress_packets              INTEGER NOT NULL,
    ingress_bytes                INTEGER NOT NULL,
    ingress_wire_bytes           INTEGER NOT NULL,
    first_seen_ns                INTEGER NOT NULL,
    last_seen_ns                 INTEGER NOT NULL,
    direction                    TEXT NOT NULL,
    connections                  INTEGER NOT NULL,
    egress_tcp_flags             INTEGER,
    ingress_tcp_flags            INTEGER,
    handshake_rtt_ns             INTEGER,
    egress_syns                  INTEGER,
    ingress_syns                 INTEGER,
    egress_syn_acks              INTEGER,
    ingress_syn_acks             INTEGER,
    egress_resets                INTEGER,
    ingress_resets               INTEGER,
    egress_retransmitted_packets INTEGER,
    ingress_retransmitted_packets INTEGER,
    egress_retransmitted_bytes   INTEGER,
    ingress_retransmitted_bytes  INTEGER,
    egress_zero_windows          INTEGER,
    ingress_zero_windows         INTEGER,
    round_trips                  INTEGER,
    round_trips_sum_ns           INTEGER,
    round_trips_min_ns           INTEGER,
    icmp_error_type              INTEGER,
    icmp_error_code              INTEGER,
    end_reason                   INTEGER,
    name                         TEXT,
    name_source                  TEXT,
    application                  TEXT,
    application_evidence         TEXT,
    hidden                       TEXT,
    tls_offered_version          TEXT,
    tls_alpn                     TEXT,
    tls_ja4                      TEXT,
    tls_post_quantum             INTEGER,
    payload_unknown              TEXT,
    payload_egress_bytes         INTEGER,
    payload_ingress_bytes        INTEGER
);

CREATE TABLE flow_name (
    flow          INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    name          TEXT NOT NULL,
    source        TEXT NOT NULL,
    question      TEXT,
    first_seen_ns INTEGER NOT NULL,
    PRIMARY KEY (flow, position)
) WITHOUT ROWID;

CREATE TABLE flow_user (
    flow     INTEGER NOT NULL,
    position INTEGER NOT NULL,
    process  INTEGER NOT NULL,
    evidence TEXT NOT NULL,
    is_maker INTEGER NOT NULL,
    PRIMARY KEY (flow, position)
) WITHOUT ROWID;

CREATE TABLE endpoint (
    number               INTEGER PRIMARY KEY,
    remote               TEXT,
    protocol             INTEGER NOT NULL,
    port                 INTEGER NOT NULL,
    direction            TEXT NOT NULL,
    fragment             INTEGER NOT NULL,
    flows                INTEGER NOT NULL,
    connections          INTEGER NOT NULL,
    egress_skbs          INTEGER NOT NULL,
    egress_packets       INTEGER NOT NULL,
    egress_bytes         INTEGER NOT NULL,
    egress_wire_bytes    INTEGER NOT NULL,
    ingress_skbs         INTEGER NOT NULL,
    ingress_packets      INTEGER NOT NULL,
    ingress_bytes        INTEGER NOT NULL,
    ingress_wire_bytes   INTEGER NOT NULL,
    handshake_rtt_ns     INTEGER,
    refused              INTEGER NOT NULL,
    unanswered           INTEGER NOT NULL,
    unanswered_tries     INTEGER NOT NULL,
    reset                INTEGER NOT NULL,
    unreachable          INTEGER NOT NULL,
    name                 TEXT,
    name_source          TEXT,
    application          TEXT,
    application_evidence TEXT,
    payload_unknown       TEXT,
    payload_egress_bytes  INTEGER,
    payload_ingress_bytes INTEGER
);

CREATE TABLE endpoint_name (
    endpoint      INTEGER NOT NULL,
    position      INTEGER NOT NULL,
    name          TEXT NOT NULL,
    source        TEXT NOT NULL,
    question      TEXT,
    first_seen_ns INTEGER NOT NULL,
    PRIMARY KEY (endpoint, position)
) WITHOUT ROWID;

CREATE TABLE endpoint_process (
    endpoint INTEGER NOT NULL,
    position INTEGER NOT NULL,
    process  INTEGER NOT NULL,
    PRIMARY KEY (endpoint, position)
) WITHOUT ROWID;

CREATE TABLE folded_endpoint (
    scope              TEXT NOT NULL,
    remote             TEXT,
    protocol           INTEGER NOT NULL,
    port               INTEGER NOT NULL,
    direction          TEXT NOT NULL,
    fragment           INTEGER NOT NULL,
    flows              INTEGER NOT NULL,
    connections        INTEGER NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL,
    payload_unknown       TEXT,
    payload_egress_bytes  INTEGER,
    payload_ingress_bytes INTEGER,
    refused               INTEGER NOT NULL,
    unanswered            INTEGER NOT NULL,
    unanswered_tries      INTEGER NOT NULL,
    reset                 INTEGER NOT NULL,
    unreachable           INTEGER NOT NULL
);

CREATE TABLE lookup (
    number          INTEGER PRIMARY KEY,
    name            TEXT NOT NULL,
    type            INTEGER NOT NULL,
    application     TEXT NOT NULL,
    asked_by        TEXT NOT NULL,
    asked           INTEGER NOT NULL,
    answered        INTEGER NOT NULL,
    truncated       INTEGER NOT NULL,
    response_count  INTEGER NOT NULL,
    response_min_ns INTEGER NOT NULL,
    response_max_ns INTEGER NOT NULL,
    response_sum_ns INTEGER NOT NULL,
    first_seen_ns   INTEGER NOT NULL,
    addresses       TEXT NOT NULL,
    aliases         TEXT NOT NULL
);

CREATE TABLE lookup_outcome (
    lookup INTEGER NOT NULL,
    rcode  INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (lookup, rcode)
) WITHOUT ROWID;

CREATE TABLE naming (
    flows              INTEGER NOT NULL,
    wire_bytes         INTEGER NOT NULL,
    unnamed_flows      INTEGER NOT NULL,
    unnamed_wire_bytes INTEGER NOT NULL,
    unused             TEXT NOT NULL,
    never_looked_up    TEXT NOT NULL
);

CREATE TABLE hidden (
    position   INTEGER PRIMARY KEY,
    reason     TEXT NOT NULL,
    flows      INTEGER NOT NULL,
    wire_bytes INTEGER NOT NULL
);

CREATE TABLE process (
    number      INTEGER PRIMARY KEY,
    pid         INTEGER NOT NULL,
    start_ns    INTEGER NOT NULL,
    ppid        INTEGER NOT NULL,
    parent      INTEGER,
    comm        TEXT NOT NULL,
    exe         TEXT,
    cmdline     TEXT,
    cmdline_cut INTEGER NOT NULL,
    uid         INTEGER
);

CREATE TABLE unix_socket (
    position    INTEGER PRIMARY KEY,
    path        TEXT NOT NULL,
    connections INTEGER NOT NULL,
    failed      INTEGER NOT NULL,
    processes   TEXT NOT NULL,
    missing     INTEGER NOT NULL
);

CREATE TABLE attempt (
    position    INTEGER PRIMARY KEY,
    first_ns    INTEGER NOT NULL,
    last_ns     INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    target_kind TEXT NOT NULL,
    target      TEXT NOT NULL,
    target_type TEXT,
    protocol    INTEGER,
    cause       TEXT NOT NULL,
    icmp_type   INTEGER,
    icmp_code   INTEGER,
    errno       INTEGER,
    dns         TEXT,
    process     INTEGER
);

CREATE TABLE note (
    position INTEGER PRIMARY KEY,
    text     TEXT NOT NULL
);

CREATE TABLE step (
    start_ns           INTEGER PRIMARY KEY,
    length_ns          INTEGER NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL,
    opened             INTEGER NOT NULL,
    active             INTEGER NOT NULL,
    connections        INTEGER NOT NULL,
    closed             INTEGER NOT NULL,
    open               INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    tcp_packets        INTEGER NOT NULL,
    retransmitted      INTEGER NOT NULL,
    dns_failed         INTEGER NOT NULL,
    lost               INTEGER NOT NULL,
    cpu_ns             INTEGER NOT NULL,
    memory_bytes       INTEGER,
    connect_bins       TEXT NOT NULL,
    connect_max_ns     INTEGER NOT NULL,
    connect_sum_ns     INTEGER NOT NULL,
    round_trip_bins    TEXT NOT NULL,
    round_trip_max_ns  INTEGER NOT NULL,
    round_trip_sum_ns  INTEGER NOT NULL,
    dns_bins           TEXT NOT NULL,
    dns_max_ns         INTEGER NOT NULL,
    dns_sum_ns         INTEGER NOT NULL
);

CREATE TABLE endpoint_series (
    number             INTEGER PRIMARY KEY,
    remote             TEXT,
    protocol           INTEGER NOT NULL,
    port               INTEGER NOT NULL,
    direction          TEXT NOT NULL,
    fragment           INTEGER NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL
);

CREATE TABLE endpoint_step (
    series             INTEGER NOT NULL,
    start_ns           INTEGER NOT NULL,
    length_ns          INTEGER NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL,
    opened             INTEGER NOT NULL,
    active             INTEGER NOT NULL,
    connections        INTEGER NOT NULL,
    closed             INTEGER NOT NULL,
    open               INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    tcp_packets        INTEGER NOT NULL,
    retransmitted      INTEGER NOT NULL,
    dns_failed         INTEGER NOT NULL,
    lost               INTEGER NOT NULL,
    cpu_ns             INTEGER NOT NULL,
    memory_bytes       INTEGER,
    connect_bins       TEXT NOT NULL,
    connect_max_ns     INTEGER NOT NULL,
    connect_sum_ns     INTEGER NOT NULL,
    round_trip_bins    TEXT NOT NULL,
    round_trip_max_ns  INTEGER NOT NULL,
    round_trip_sum_ns  INTEGER NOT NULL,
    dns_bins           TEXT NOT NULL,
    dns_max_ns         INTEGER NOT NULL,
    dns_sum_ns         INTEGER NOT NULL
);

CREATE TABLE service_activity (
    protocol         INTEGER NOT NULL,
    port             INTEGER NOT NULL,
    unmeasured       INTEGER NOT NULL,
    status_1xx       INTEGER NOT NULL,
    status_2xx       INTEGER NOT NULL,
    status_3xx       INTEGER NOT NULL,
    status_4xx       INTEGER NOT NULL,
    status_5xx       INTEGER NOT NULL,
    request_bytes    INTEGER NOT NULL,
    times_bins       TEXT NOT NULL,
    times_max_ns     INTEGER NOT NULL,
    times_sum_ns     INTEGER NOT NULL,
    peak_connections INTEGER,
    peak_wire_bytes  INTEGER
);
