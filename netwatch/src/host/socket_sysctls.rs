//! Copies the sysctls that a socket can notice from the host to the namespace of a run, because a
//! new namespace has the kernel's defaults. Those of interfaces (`conf`, `neigh`), forwarding,
//! netfilter, routing of marked packets, and keys are never copied.
//!
//! docs/limits.md lists what cannot be copied.

use super::sysctl::{self, SysctlSetting};
use crate::error::{Error, Result};

/// Paths below `/proc/sys/net`, as in docs/reference.md. Keys that a kernel lacks are skipped.
pub const COPIED: &[&str] = &[
    "core/optmem_max",
    "core/somaxconn",
    "core/tstamp_allow_data",
    "core/txrehash",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/icmp_echo_ignore_broadcasts",
    "ipv4/icmp_errors_use_inbound_ifaddr",
    "ipv4/icmp_ignore_bogus_error_responses",
    "ipv4/icmp_ratelimit",
    "ipv4/icmp_ratemask",
    "ipv4/igmp_max_memberships",
    "ipv4/igmp_max_msf",
    "ipv4/igmp_qrv",
    "ipv4/ip_autobind_reuse",
    "ipv4/ip_default_ttl",
    "ipv4/ip_dynaddr",
    "ipv4/ip_local_port_range",
    "ipv4/ip_local_reserved_ports",
    "ipv4/ip_no_pmtu_disc",
    "ipv4/ip_nonlocal_bind",
    "ipv4/ip_unprivileged_port_start",
    "ipv4/ipfrag_high_thresh",
    "ipv4/ipfrag_low_thresh",
    "ipv4/ipfrag_max_dist",
    "ipv4/ipfrag_time",
    "ipv4/ping_group_range",
    "ipv4/route/min_adv_mss",
    "ipv4/route/min_pmtu",
    "ipv4/route/mtu_expires",
    "ipv4/tcp_abort_on_overflow",
    "ipv4/tcp_adv_win_scale",
    "ipv4/tcp_app_win",
    "ipv4/tcp_autocorking",
    "ipv4/tcp_backlog_ack_defer",
    "ipv4/tcp_base_mss",
    "ipv4/tcp_challenge_ack_limit",
    "ipv4/tcp_comp_sack_delay_ns",
    "ipv4/tcp_comp_sack_nr",
    "ipv4/tcp_comp_sack_rtt_percent",
    "ipv4/tcp_comp_sack_slack_ns",
    "ipv4/tcp_congestion_control",
    "ipv4/tcp_dsack",
    "ipv4/tcp_early_retrans",
    "ipv4/tcp_ecn",
    "ipv4/tcp_ecn_fallback",
    "ipv4/tcp_ecn_option",
    "ipv4/tcp_ecn_option_beacon",
    "ipv4/tcp_fastopen",
    "ipv4/tcp_fastopen_blackhole_timeout_sec",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_frto",
    "ipv4/tcp_invalid_ratelimit",
    "ipv4/tcp_keepalive_intvl",
    "ipv4/tcp_keepalive_probes",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_limit_output_bytes",
    "ipv4/tcp_max_reordering",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_migrate_req",
    "ipv4/tcp_min_rtt_wlen",
    "ipv4/tcp_min_snd_mss",
    "ipv4/tcp_min_tso_segs",
    "ipv4/tcp_moderate_rcvbuf",
    "ipv4/tcp_mtu_probe_floor",
    "ipv4/tcp_mtu_probing",
    "ipv4/tcp_no_metrics_save",
    "ipv4/tcp_no_ssthresh_metrics_save",
    "ipv4/tcp_notsent_lowat",
    "ipv4/tcp_orphan_retries",
    "ipv4/tcp_pacing_ca_ratio",
    "ipv4/tcp_pacing_ss_ratio",
    "ipv4/tcp_pingpong_thresh",
    "ipv4/tcp_plb_cong_thresh",
    "ipv4/tcp_plb_enabled",
    "ipv4/tcp_plb_idle_rehash_rounds",
    "ipv4/tcp_plb_rehash_rounds",
    "ipv4/tcp_plb_suspend_rto_sec",
    "ipv4/tcp_probe_interval",
    "ipv4/tcp_probe_threshold",
    "ipv4/tcp_rcvbuf_low_rtt",
    "ipv4/tcp_recovery",
    "ipv4/tcp_reflect_tos",
    "ipv4/tcp_reordering",
    "ipv4/tcp_retrans_collapse",
    "ipv4/tcp_retries1",
    "ipv4/tcp_retries2",
    "ipv4/tcp_rfc1337",
    "ipv4/tcp_rmem",
    "ipv4/tcp_rto_max_ms",
    "ipv4/tcp_rto_min_us",
    "ipv4/tcp_sack",
    "ipv4/tcp_shrink_window",
    "ipv4/tcp_slow_start_after_idle",
    "ipv4/tcp_stdurg",
    "ipv4/tcp_syn_linear_timeouts",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_thin_linear_timeouts",
    "ipv4/tcp_timestamps",
    "ipv4/tcp_tso_rtt_log",
    "ipv4/tcp_tso_win_divisor",
    "ipv4/tcp_tw_reuse",
    "ipv4/tcp_tw_reuse_delay",
    "ipv4/tcp_window_scaling",
    "ipv4/tcp_wmem",
    "ipv4/tcp_workaround_signed_windows",
    "ipv4/udp_rmem_min",
    "ipv4/udp_wmem_min",
    "ipv6/auto_flowlabels",
    "ipv6/bindv6only",
    "ipv6/flowlabel_consistency",
    "ipv6/flowlabel_reflect",
    "ipv6/flowlabel_state_ranges",
    "ipv6/icmp/echo_ignore_all",
    "ipv6/icmp/echo_ignore_anycast",
    "ipv6/icmp/echo_ignore_multicast",
    "ipv6/icmp/ratelimit",
    "ipv6/icmp/ratemask",
    "ipv6/ip6frag_high_thresh",
    "ipv6/ip6frag_low_thresh",
    "ipv6/ip6frag_time",
    "ipv6/ip_nonlocal_bind",
    "ipv6/max_dst_opts_length",
    "ipv6/max_dst_opts_number",
    "ipv6/max_hbh_length",
    "ipv6/max_hbh_opts_number",
    "ipv6/route/min_adv_mss",
    "ipv6/route/mtu_expires",
    "mptcp/add_addr_timeout",
    "mptcp/allow_join_initial_addr_port",
    "mptcp/blackhole_timeout",
    "mptcp/checksum_enabled",
    "mptcp/close_timeout",
    "mptcp/enabled",
    "mptcp/scheduler",
    "mptcp/stale_loss_cnt",
    "mptcp/syn_retrans_before_tcp_fallback",
    "unix/max_dgram_qlen",
];

/// Number of times that the values are written. Some limit each other (ip_local_port_range and
/// ip_unprivileged_port_start, the thresholds of fragments), so one that is refused at first may be
/// accepted after the others.
const PASSES: usize = 2;

/// Values of [`COPIED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSysctls(Vec<SysctlSetting>);

impl SocketSysctls {
    /// Reads those of the calling thread's network namespace.
    pub fn read() -> Result<Self> {
        let read = |key: &&str| sysctl::read(key).map(|value| Some(SysctlSetting::new(*key, value?))).transpose();
        COPIED.iter().filter_map(read).collect::<Result<_>>().map(Self)
    }

    /// Writes the values that differ in the calling thread's network namespace. Returns the errors
    /// of those that the kernel refuses.
    pub fn apply(&self) -> Vec<Error> {
        let mut left: Vec<&SysctlSetting> = self.0.iter().collect();
        let mut refused = Vec::new();
        for _ in 0..PASSES {
            (left, refused) = left.into_iter().filter_map(|setting| Some((setting, adapt(setting).err()?))).unzip();
        }
        refused
    }
}

/// A key that the namespace lacks is global, so it needs no copy.
fn adapt(setting: &SysctlSetting) -> Result<()> {
    match sysctl::read(&setting.key)? {
        Some(value) if value != setting.value => setting.write_own(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::namespace;
    use crate::host::testing::in_fresh_namespace;

    /// A value other than the default for each key, in an order in which the kernel accepts them.
    const TUNED: [(&str, &str); 16] = [
        ("core/somaxconn", "77"),
        ("ipv4/ip_default_ttl", "99"),
        ("ipv4/ip_unprivileged_port_start", "80"),
        ("ipv4/ip_local_port_range", "100\t900"),
        ("ipv4/ip_local_reserved_ports", "200-205,300"),
        ("ipv4/ipfrag_low_thresh", "2000000"),
        ("ipv4/ipfrag_high_thresh", "3000000"),
        ("ipv4/ping_group_range", "0\t2147483647"),
        ("ipv4/tcp_ecn", "1"),
        ("ipv4/tcp_fin_timeout", "17"),
        ("ipv4/tcp_keepalive_time", "300"),
        ("ipv4/tcp_mtu_probing", "1"),
        ("ipv4/tcp_rmem", "4096\t100000\t1000000"),
        ("ipv4/tcp_syn_retries", "3"),
        ("ipv6/bindv6only", "1"),
        ("unix/max_dgram_qlen", "44"),
    ];

    #[test]
    fn tuned_values_are_copied_whatever_bounds_them() {
        in_fresh_namespace(|| {
            let apply = |values: &SocketSysctls| {
                let refused = values.apply();
                assert!(refused.is_empty(), "{refused:?}");
                SocketSysctls::read().unwrap()
            };
            let defaults = SocketSysctls::read().unwrap();
            TUNED.iter().for_each(|(key, value)| SysctlSetting::new(*key, *value).write().unwrap());
            let tuned = SocketSysctls::read().unwrap();
            assert_ne!(tuned, defaults);
            for (key, value) in TUNED {
                assert!(tuned.0.contains(&SysctlSetting::new(key, value)), "{key}");
            }
            assert_eq!(namespace::in_new(|| apply(&tuned)).unwrap(), tuned);
            assert_eq!(apply(&defaults), defaults, "from the tuned values back");
        });
    }

    #[test]
    fn only_sysctls_of_sockets_are_copied() {
        assert!(COPIED.is_sorted(), "so that nothing is listed twice");
        let excluded = ["/conf/", "/neigh/", "forward", "netfilter", "fwmark", "l3mdev", "key", "xfrm"];
        for key in COPIED {
            assert!(!excluded.iter().any(|word| key.contains(word)), "{key}");
        }
    }
}
