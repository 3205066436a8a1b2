//! `/debug/api_priority_and_fairness/dump_priority_levels`: the levels of a cluster at this moment, as kube-apiserver
//! writes them.

use freewheel_hub_fairness::LevelState;

const COLUMNS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];

/// These, in columns.
pub(crate) fn dump(levels: &[LevelState]) -> String {
    let rows = levels.iter().map(|level| {
        let [served, refused, timed_out, given_up] = level.counts.map(|count| count.to_string());
        let is_idle = level.waiting == 0 && level.executing == 0;
        [
            level.name.to_string(),
            level.active_queues.to_string(),
            is_idle.to_string(),
            level.goes.to_string(),
            level.waiting.to_string(),
            level.executing.to_string(),
            served,
            refused,
            timed_out,
            given_up,
        ]
    });
    let rows: Vec<_> = std::iter::once(COLUMNS.map(str::to_owned)).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            let last = at + 1 == COLUMNS.len();
            let wide = rows.iter().filter_map(|row| row.get(at)).map(String::len).max();
            text.push_str(cell);
            if !last {
                text.push(',');
                let pad = wide.unwrap_or_default() + 1 - cell.len();
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_in_columns() {
        let level = LevelState {
            name: "system".into(),
            is_exempt: false,
            goes: false,
            active_queues: 2,
            waiting: 3,
            executing: 4,
            seats_in_use: 5,
            nominal: 6,
            current: 7,
            counts: [8, 9, 10, 11],
        };
        let text = dump(&[level]);
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap().split(", ").count(), 10);
        let row: Vec<_> = lines.next().unwrap().split(',').map(str::trim).collect();
        assert_eq!(row, ["system", "2", "false", "false", "3", "4", "8", "9", "10", "11"]);
    }
}
