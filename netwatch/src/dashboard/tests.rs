//! Snapshots of every view, and what inputs do.
//!
//! After an intended change run `SNAPSHOTS=overwrite cargo test -p netwatch --lib dashboard::`, and
//! review the difference.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use snapbox::{assert_data_eq, file};

use super::update::{AttemptFacts, FlowUpdate, LookupFacts, ProcessFacts, RunFacts};
use super::{Dashboard, Input, Key, Tick, Update};

const SECOND: u64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600 * SECOND;

fn flow(id: u64, remote: &str, seconds: u64, sent: u64, received: u64) -> FlowUpdate {
    FlowUpdate {
        id,
        protocol: 6,
        loopback: false,
        local: format!("10.73.4.2:{}", 40_000 + id).parse().expect("an address"),
        remote: remote.parse().expect("an address"),
        out: true,
        first_ns: START + SECOND,
        last_ns: START + seconds * SECOND,
        amounts: (super::update::Volume(sent / 100, sent), super::update::Volume(received / 1_000, received)),
        connections: 1,
        failed: 0,
        causes: String::new(),
        handshake_ns: Some(12_300_000),
        rtt_ns: None,
        retransmitted: 0,
        is_open: true,
        ended: None,
        name: None,
        application: None,
        processes: vec![(1, "socket".to_owned())],
    }
}

fn named(flow: FlowUpdate, name: &str) -> Update {
    let name = Some((name.to_owned(), "sni".to_owned()));
    Update::Flow(Box::new(FlowUpdate { name, application: Some("tls".to_owned()), ..flow }))
}

fn tick(seconds: u64, sent: u64, received: u64) -> Update {
    Update::Tick(Tick {
        time_ns: START + seconds * SECOND,
        duration_ns: seconds * SECOND,
        totals: (super::update::Volume(sent / 100, sent), super::update::Volume(received / 1_000, received)),
        opened: 5,
        open: 2,
        failures: 6,
        lost: 3,
        cpu_ns: Some(seconds * SECOND / 4),
        memory: Some(48 << 20),
    })
}

/// A run of some seconds with something in every view.
fn updates() -> Vec<Update> {
    let process = |number, parent, comm: &str, arguments: &[&str]| {
        Update::Process(ProcessFacts {
            number,
            parent,
            pid: 4_000 + number,
            comm: comm.to_owned(),
            exe: None,
            arguments: Some(arguments.iter().map(|&word| word.to_owned()).collect()),
        })
    };
    let lookup = |number, name: &str, kind: &str, errors: &[(&str, u64)], addresses: &[&str]| {
        let errors = errors.iter().map(|&(code, count)| (code.to_owned(), count)).collect();
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        let (name, kind) = (name.to_owned(), kind.to_owned());
        let mean_ns = Some(1_500_000);
        let (queries, responses, is_own) = (1, 1, true);
        Update::Lookup(
            number,
            LookupFacts { name, kind, queries, responses, errors, is_own, mean_ns, addresses, first_ns: START },
        )
    };
    let refused = FlowUpdate {
        failed: 1,
        causes: "refused".to_owned(),
        is_open: false,
        ended: Some("end of flow".to_owned()),
        handshake_ns: None,
        ..flow(4, "198.51.100.9:81", 2, 60, 54)
    };
    let inbound = FlowUpdate {
        out: false,
        local: "10.73.4.2:8080".parse().expect("an address"),
        ..flow(5, "203.0.113.4:50123", 3, 900, 300)
    };
    let closed = FlowUpdate {
        is_open: false,
        ended: Some("end of flow".to_owned()),
        ..flow(2, "198.51.100.7:443", 2, 2_000, 90_000)
    };
    vec![
        Update::Started(RunFacts {
            id: "3f2a91bc".to_owned(),
            command: vec!["make".to_owned(), "all".to_owned()],
            user: "ada".to_owned(),
            started_ns: START,
            gateways: Vec::new(),
        }),
        process(0, None, "make", &["make", "all"]),
        process(1, Some(0), "curl", &["curl", "-sS", "https://app.example/"]),
        named(flow(1, "198.51.100.7:443", 2, 5_000, 1_000_000), "app.example"),
        named(closed, "app.example"),
        Update::Flow(Box::new(flow(3, "[2001:db8::9]:22", 2, 400, 500))),
        Update::Flow(Box::new(refused)),
        Update::Flow(Box::new(inbound)),
        lookup(0, "app.example", "A", &[], &["198.51.100.7", "198.51.100.8"]),
        lookup(1, "old.example", "AAAA", &[("nxdomain", 2)], &[]),
        Update::Attempts(vec![AttemptFacts {
            target: "2001:db8::1".to_owned(),
            service: "tcp/443".to_owned(),
            cause: "no route".to_owned(),
            count: 3,
            last_ns: START + SECOND,
            process: Some(1),
        }]),
        Update::Losses(vec![("samples".to_owned(), 3)], Some(vec!["the command runs without a cgroup".to_owned()])),
        tick(2, 8_360, 1_090_854),
        named(flow(1, "198.51.100.7:443", 3, 6_000, 3_000_000), "app.example"),
        tick(3, 9_360, 3_090_854),
    ]
}

fn dashboard() -> Dashboard {
    let mut dashboard = Dashboard::new(false);
    dashboard.apply(updates());
    dashboard
}

fn screen_of(dashboard: &mut Dashboard, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    terminal.draw(|frame| dashboard.draw(frame.buffer_mut())).expect("drawn");
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..rows).map(|y| row(y).trim_end().replace('\u{a0}', " ") + "\n").collect()
}

fn press(dashboard: &mut Dashboard, keys: &[Key]) {
    keys.iter().for_each(|key| dashboard.input(Input::Key(*key)));
}

#[test]
fn every_view_equals_its_snapshot_at_80_columns() {
    let mut dashboard = dashboard();
    let mut screens = String::new();
    for digit in '1'..='6' {
        press(&mut dashboard, &[Key::Char(digit)]);
        screens += &screen_of(&mut dashboard, 80, 24);
        screens += "\n";
    }
    assert_data_eq!(screens, file!["snapshots/views_80.txt"].raw());
}

#[test]
fn a_wide_terminal_has_more_columns() {
    let mut dashboard = dashboard();
    let mut screens = screen_of(&mut dashboard, 140, 16);
    press(&mut dashboard, &[Key::Char('2')]);
    screens += &screen_of(&mut dashboard, 140, 16);
    assert_data_eq!(screens, file!["snapshots/views_140.txt"].raw());
}

#[test]
fn help_and_details_equal_their_snapshots() {
    let mut dashboard = dashboard();
    press(&mut dashboard, &[Key::Char('?')]);
    let mut screens = screen_of(&mut dashboard, 80, 24);
    press(&mut dashboard, &[Key::Escape, Key::Enter, Key::Enter]);
    screens += &screen_of(&mut dashboard, 80, 24);
    assert_data_eq!(screens, file!["snapshots/help_and_details.txt"].raw());
}

/// The first cell of each row of the table.
fn first_cells(dashboard: &mut Dashboard) -> Vec<String> {
    let screen = screen_of(dashboard, 80, 24);
    let rows = screen.lines().skip(7).take(16).filter(|row| !row.is_empty());
    rows.map(|row| row.split("  ").next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn rows_are_sorted_reversed_filtered_and_searched() {
    let mut dashboard = dashboard();
    assert_eq!(first_cells(&mut dashboard), ["app.example", "2001:db8::9", "← 203.0.113.4", "198.51.100.9"]);
    press(&mut dashboard, &[Key::Char('r')]);
    assert_eq!(first_cells(&mut dashboard).last().map(String::as_str), Some("app.example"));
    // The next column is the rate, largest first.
    press(&mut dashboard, &[Key::Char('s')]);
    assert_eq!(first_cells(&mut dashboard)[0], "app.example");
    press(&mut dashboard, &[Key::Char('f'), Key::Char('T'), Key::Char('c'), Key::Char('p'), Key::Char('/')]);
    press(&mut dashboard, &[Key::Char('2'), Key::Char('2'), Key::Enter]);
    assert_eq!(first_cells(&mut dashboard), ["2001:db8::9"]);
    press(&mut dashboard, &[Key::Escape, Key::Char('/'), Key::Char('9'), Key::Enter]);
    assert_eq!(first_cells(&mut dashboard).len(), 4, "the filter was cleared");
    let found = |dashboard: &Dashboard| dashboard.rows[dashboard.selected_place()];
    let first = found(&dashboard);
    press(&mut dashboard, &[Key::Char('n')]);
    assert_ne!(found(&dashboard), first);
    press(&mut dashboard, &[Key::Char('N')]);
    assert_eq!(found(&dashboard), first, "and back");
    press(&mut dashboard, &[Key::Char('/'), Key::Char('%'), Key::Enter]);
    assert!(screen_of(&mut dashboard, 80, 24).contains("\"%\" was not found"));
}

#[test]
fn an_endpoint_leads_to_its_connections_and_back() {
    let mut dashboard = dashboard();
    press(&mut dashboard, &[Key::Enter]);
    let screen = screen_of(&mut dashboard, 80, 24);
    assert!(screen.contains("of 198.51.100.7 tcp/443"), "{screen}");
    assert_eq!(first_cells(&mut dashboard), ["app.example", "app.example"]);
    press(&mut dashboard, &[Key::Char('e')]);
    assert_eq!(first_cells(&mut dashboard), ["app.example"], "the one that ended is hidden");
    press(&mut dashboard, &[Key::Char('e'), Key::Escape]);
    assert_eq!(first_cells(&mut dashboard).len(), 4);
    press(&mut dashboard, &[Key::Char('3'), Key::Down, Key::Enter]);
    assert!(screen_of(&mut dashboard, 80, 24).contains("of curl (4001)"));
}

#[test]
fn failures_have_the_name_and_the_process() {
    let process = |number, comm: &str| {
        Update::Process(ProcessFacts { number, pid: 4_000 + number, comm: comm.to_owned(), ..ProcessFacts::default() })
    };
    let lookup = |number, name: &str, errors: Vec<(String, u64)>, addresses: Vec<String>| {
        let (name, kind, first_ns) = (name.to_owned(), "A".to_owned(), START + 2 * SECOND);
        let facts = LookupFacts {
            name,
            kind,
            queries: 1,
            responses: 1,
            errors,
            is_own: true,
            mean_ns: None,
            addresses,
            first_ns,
        };
        Update::Lookup(number, facts)
    };
    let attempt = AttemptFacts {
        target: "203.0.113.9".to_owned(),
        service: "tcp/443".to_owned(),
        cause: "no route".to_owned(),
        count: 1,
        last_ns: START + 2 * SECOND,
        process: Some(2),
    };
    let mut dashboard = Dashboard::new(false);
    dashboard.apply([
        process(1, "curl"),
        process(2, "wget"),
        Update::Flow(Box::new(flow(1, "10.73.4.1:53", 3, 60, 60))),
        Update::Flow(Box::new(FlowUpdate {
            processes: vec![(2, "socket".to_owned())],
            ..flow(2, "10.73.4.1:53", 1, 9, 9)
        })),
        lookup(0, "old.example", vec![("nxdomain".to_owned(), 1)], vec![]),
        lookup(1, "app.example", vec![], vec!["203.0.113.9".to_owned()]),
        Update::Attempts(vec![attempt]),
        tick(3, 1, 1),
    ]);
    press(&mut dashboard, &[Key::Char('5')]);
    let screen = screen_of(&mut dashboard, 120, 24);
    for words in [["old.example", "DNS", "NXDOMAIN", "curl"], ["app.example", "tcp/443", "no route", "wget"]] {
        let is_row = |line: &&str| words.iter().all(|word| line.contains(word));
        assert!(screen.lines().any(|line| is_row(&line)), "{words:?}: {screen}");
    }
}

#[test]
fn failures_are_those_of_the_command_and_a_lookup_of_two_types_is_one() {
    let mut dashboard = Dashboard::new(false);
    let refused =
        FlowUpdate { failed: 1, causes: "refused".to_owned(), is_open: false, ..flow(1, "192.0.2.1:81", 1, 60, 54) };
    let of_a_remote = FlowUpdate { id: 2, out: false, ..refused.clone() };
    let lookup = |number, kind: &str, responses, errors: &[(&str, u64)], is_own| {
        let errors = errors.iter().map(|&(code, count)| (code.to_owned(), count)).collect();
        let name = if is_own { "old.example" } else { "mine.local" };
        let (name, kind) = (name.to_owned(), kind.to_owned());
        Update::Lookup(
            number,
            LookupFacts { name, kind, queries: 1, responses, errors, is_own, ..LookupFacts::default() },
        )
    };
    let updates = [
        Update::Flow(Box::new(refused)),
        Update::Flow(Box::new(of_a_remote)),
        tick(1, 1, 1),
        lookup(0, "A", 1, &[("nxdomain", 1)], true),
        lookup(1, "AAAA", 1, &[("nxdomain", 1)], true),
        lookup(2, "A", 1, &[("nxdomain", 1)], false),
        lookup(3, "HTTPS", 0, &[], true),
        tick(2, 1, 1),
    ];
    dashboard.apply(updates);
    press(&mut dashboard, &[Key::Char('5')]);
    assert_eq!(first_cells(&mut dashboard), ["old.example", "192.0.2.1"]);
    assert!(screen_of(&mut dashboard, 80, 24).contains("DNS       NXDOMAIN                  1"));
    dashboard.apply([tick(7, 1, 1)]);
    let screen = screen_of(&mut dashboard, 80, 24);
    assert!(screen.contains("DNS       timeout                   1"), "no program waits longer: {screen}");
}

#[test]
fn only_tcp_connections_are_open() {
    let mut dashboard = Dashboard::new(false);
    let query = FlowUpdate { protocol: 17, is_open: false, ..flow(1, "192.0.2.53:53", 2, 60, 90) };
    dashboard.apply([Update::Flow(Box::new(query)), tick(60, 1, 1)]);
    let row = |dashboard: &mut Dashboard| screen_of(dashboard, 80, 24).lines().nth(7).unwrap_or_default().to_owned();
    assert!(row(&mut dashboard).contains("udp/53              60 B"), "{}", row(&mut dashboard));
    press(&mut dashboard, &[Key::Char('2')]);
    assert!(row(&mut dashboard).contains("udp/53    -             1 s"), "{}", row(&mut dashboard));
}

#[test]
fn rows_of_one_name_have_their_addresses() {
    let mut dashboard = Dashboard::new(false);
    let addresses = ["198.51.100.7:443", "[2001:db8::7]:443", "198.51.100.8:443", "198.51.100.9:80"];
    let names = ["app.example", "app.example", "other.example", "app.example"];
    let updates =
        (1..).zip(addresses).zip(names).map(|((id, end), name)| named(flow(id, end, 1, 9 - id, 9 - id), name));
    dashboard.apply(updates.chain([tick(2, 1, 1)]).collect::<Vec<_>>());
    assert_eq!(
        first_cells(&mut dashboard),
        ["198.51.100.7 app.example", "2001:db8::7 app.example", "other.example", "app.example"]
    );
}

#[test]
fn a_frozen_moment_stays_while_the_run_goes_on() {
    let mut dashboard = dashboard();
    press(&mut dashboard, &[Key::Char('p')]);
    dashboard.apply([tick(60, 10_000, 9_000_000)]);
    let screen = screen_of(&mut dashboard, 80, 24);
    assert!(screen.contains("PAUSED") && screen.contains("3 s") && !screen.contains("9.00 MB"), "{screen}");
    press(&mut dashboard, &[Key::Char(' ')]);
    let screen = screen_of(&mut dashboard, 80, 24);
    assert!(screen.contains("1 min 00 s") && screen.contains("9.00 MB"), "{screen}");
}

#[test]
fn the_mouse_selects_tabs_heads_and_rows() {
    let mut dashboard = dashboard();
    screen_of(&mut dashboard, 80, 24);
    // The head of the first column, twice: by name, then reversed.
    dashboard.input(Input::Click(1, 6));
    assert_eq!(first_cells(&mut dashboard)[0], "198.51.100.9");
    dashboard.input(Input::Click(1, 6));
    assert_eq!(first_cells(&mut dashboard)[0], "← 203.0.113.4");
    // A row, twice: selected, then opened.
    dashboard.input(Input::Click(3, 9));
    assert_eq!((dashboard.selected_place(), first_cells(&mut dashboard).len()), (2, 4));
    dashboard.input(Input::Click(3, 9));
    assert_eq!(first_cells(&mut dashboard), ["2001:db8::9"]);
    dashboard.input(Input::Click(2, 1));
    dashboard.input(Input::Scroll(-3));
    assert_eq!(dashboard.selected_place(), 0);
    dashboard.input(Input::Scroll(3));
    assert_eq!(dashboard.selected_place(), 3);
    // The tab of the first view.
    dashboard.input(Input::Click(2, 1));
    assert_eq!(first_cells(&mut dashboard).len(), 4);
    // Below the last row.
    dashboard.input(Input::Click(3, 22));
    assert_eq!(first_cells(&mut dashboard).len(), 4);
}

#[test]
fn every_size_and_key_is_drawn_without_a_panic() {
    let keys = "123456?fx\t/\n\\ssr<pe p";
    for columns in [1, 39, 40, 130] {
        for rows in [1, 8, 15, 30] {
            for mut dashboard in [dashboard(), Dashboard::new(true)] {
                screen_of(&mut dashboard, columns, rows);
                for key in keys.chars() {
                    press(&mut dashboard, &[if key == '\n' { Key::Enter } else { Key::Char(key) }]);
                    press(&mut dashboard, &[Key::Enter, Key::End, Key::PageUp, Key::Escape]);
                    screen_of(&mut dashboard, columns, rows);
                }
                dashboard.input(Input::Click(columns / 2, rows / 2));
                screen_of(&mut dashboard, columns, rows);
            }
        }
    }
}

#[test]
fn text_from_outside_is_harmless() {
    let mut dashboard = dashboard();
    dashboard.apply([named(flow(9, "192.0.2.1:443", 3, 1, 9_000_000), "\x1b[2Jevil\u{202e}.example"), tick(4, 1, 1)]);
    let screen = screen_of(&mut dashboard, 80, 24);
    assert!(screen.contains("evil") && !screen.contains('\x1b') && !screen.contains('\u{202e}'), "{screen}");
}

#[test]
fn updates_pass_as_json() {
    for update in updates() {
        let text = serde_json::to_string(&update).expect("plain data");
        assert_eq!(serde_json::from_str::<Update>(&text).expect("the same"), update);
    }
}

#[test]
fn connections_beyond_the_limit_are_dropped_and_their_endpoints_keep_the_sums() {
    let count = super::MAX_FLOWS as u64 + 10;
    let mut dashboard = Dashboard::new(false);
    let ended =
        |id| FlowUpdate { ended: Some("end of flow".to_owned()), ..flow(id % 20_000, "198.51.100.7:443", 2, 10, 20) };
    dashboard.apply((0..count).map(|id| Update::Flow(Box::new(FlowUpdate { id, ..ended(id) }))));
    dashboard.apply([tick(2, 1, 1)]);
    let model = dashboard.shown();
    assert_eq!((model.flows.len(), model.dropped), (super::MAX_FLOWS, 10));
    let endpoint = model.endpoints.values().next().expect("one endpoint");
    assert_eq!((endpoint.connections, endpoint.growth.amounts.1.1), (count, 20 * count));
    press(&mut dashboard, &[Key::Char('2')]);
    assert!(screen_of(&mut dashboard, 80, 24).contains("without the 10 oldest"));
}

#[test]
fn a_dropped_connection_that_continues_counts_once() {
    let count = super::MAX_FLOWS as u64;
    let mut dashboard = Dashboard::new(false);
    let live = |id, received| FlowUpdate { id, ..flow(id % 20_000, "198.51.100.7:443", 2, 10, received) };
    let update = |flow| Update::Flow(Box::new(flow));
    dashboard.apply((0..=count).map(|id| update(live(id, 20))));
    assert!(dashboard.shown().dropped == 1 && !dashboard.shown().flows.contains_key(&0));
    // It grows, which drops the next one.
    dashboard.apply([update(live(0, 50)), tick(2, 1, 1)]);
    let model = dashboard.shown();
    assert_eq!((model.flows.len(), model.dropped), (super::MAX_FLOWS, 1));
    let endpoint = model.endpoints.values().next().expect("one endpoint");
    assert_eq!((endpoint.connections, endpoint.open), (count + 1, count));
    assert_eq!((endpoint.growth.amounts.0.1, endpoint.growth.amounts.1.1), (10 * (count + 1), 20 * count + 50));
}

#[test]
fn a_connection_that_continued_after_its_end_is_not_the_first_to_be_dropped() {
    let count = super::MAX_FLOWS as u64;
    let mut dashboard = Dashboard::new(false);
    let live = |id| FlowUpdate { id, ..flow(id % 20_000, "198.51.100.7:443", 2, 10, 20) };
    let ended = |id| FlowUpdate { ended: Some("idle timeout".to_owned()), ..live(id) };
    let updates = [live(0), ended(1), live(1), ended(2)].into_iter().chain((3..=count).map(live));
    dashboard.apply(updates.map(|flow| Update::Flow(Box::new(flow))));
    let flows = &dashboard.shown().flows;
    assert!(flows.contains_key(&0) && flows.contains_key(&1) && !flows.contains_key(&2));
}

#[test]
fn a_click_on_a_view_that_was_not_drawn_has_no_effect() {
    let mut dashboard = Dashboard::new(false);
    screen_of(&mut dashboard, 130, 30);
    let heads = dashboard.places.heads.clone();
    let (last, _, _) = *heads.1.last().expect("a column");
    press(&mut dashboard, &[Key::Char('4'), Key::Char('6')]);
    dashboard.input(Input::Click(last, heads.0));
    // Not even on places that belong to another view.
    dashboard.places.heads = heads;
    let row = dashboard.places.heads.0;
    dashboard.input(Input::Click(last, row));
    screen_of(&mut dashboard, 130, 30);
}

#[test]
fn a_connection_that_ended_has_no_rate() {
    let mut model = super::Model::default();
    let closed = |id, received| FlowUpdate {
        is_open: false,
        ended: Some("end of flow".to_owned()),
        ..flow(id, "198.51.100.7:443", 3, 60, received)
    };
    model.apply(tick(1, 0, 0));
    for id in 1..=3 {
        model.apply(Update::Flow(Box::new(closed(id, 1_000))));
    }
    model.apply(Update::Flow(Box::new(flow(4, "198.51.100.9:443", 3, 60, 1_000))));
    let rates = |model: &super::Model| -> Vec<u64> { model.flows.values().map(|flow| flow.growth.rates.1).collect() };
    model.apply(tick(2, 240, 4_000));
    assert_eq!(rates(&model), [1_000; 4]);
    model.apply(tick(3, 240, 4_000));
    assert_eq!(rates(&model), [0, 0, 0, 1_000], "the growth of a live one may be delivered later");
    let of = |port: &str| {
        let found = model.endpoints.iter().find(|(key, _)| key.remote.to_string().ends_with(port));
        found.expect("an endpoint").1.growth.rates.1
    };
    assert_eq!((of(".7"), of(".9")), (0, 1_000));
}
