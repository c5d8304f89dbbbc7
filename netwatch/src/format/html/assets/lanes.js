// Assigns flows to rows, and to lanes of a row so that they do not overlap. No drawing here.

const MAX_ROWS = 40;
const MAX_LANES = 12;
const FLOW = {
  remote: "Remote", service: "Service", direction: "Direction", program: "Program", start: "Start", duration: "Duration", sent: "Sent", received: "Received", failed: "Failed",
};

// Replaces the titles by the indices of the columns.
function findFlowColumns(columns) {
  for (const [name, title] of Object.entries(FLOW)) FLOW[name] = columns.findIndex((column) => column.title === title);
}

const GROUPS = {
  endpoint: (table, row) => `${table.value(FLOW.remote, row)} ${table.value(FLOW.service, row)}`,
  program: (table, row) => table.value(FLOW.program, row) ?? "(unknown program)",
  service: (table, row) => table.value(FLOW.service, row),
};

// Rows by bytes, largest first; the smallest share one row if there are too many.
function timelineRows(table, by) {
  const groups = new Map();
  for (let row = 0; row < table.data.length; row += 1) {
    const name = GROUPS[by](table, row);
    let group = groups.get(name);
    if (!group) groups.set(name, (group = { name, flows: [], bytes: 0 }));
    group.flows.push(row);
    group.bytes += table.value(FLOW.sent, row) + table.value(FLOW.received, row);
  }
  const sorted = [...groups.values()].sort((a, b) => b.bytes - a.bytes);
  if (sorted.length > MAX_ROWS + 1) {
    const rest = sorted.splice(MAX_ROWS);
    const flows = rest.flatMap((group) => group.flows);
    sorted.push({ name: `… ${units.count(rest.length)} more`, flows, bytes: rest.reduce((sum, group) => sum + group.bytes, 0), isRest: true });
  }
  sorted.forEach((group) => assignLanes(table, group));
  return sorted;
}

// Assigns the first free lane, or if all are busy, the one that becomes free first.
function assignLanes(table, group) {
  group.flows.sort((a, b) => table.value(FLOW.start, a) - table.value(FLOW.start, b));
  const ends = [];
  group.lanes = group.flows.map((row) => {
    const start = table.value(FLOW.start, row);
    let lane = ends.findIndex((end) => end <= start);
    if (lane < 0) lane = ends.length < MAX_LANES ? ends.length : ends.indexOf(Math.min(...ends));
    ends[lane] = start + table.value(FLOW.duration, row);
    return lane;
  });
  group.depth = Math.max(1, ends.length);
  group.laneHeight = group.depth <= 2 ? 10 : group.depth <= 5 ? 6 : 4;
  group.height = Math.max(28, group.depth * group.laneHeight + 10);
}
