-- Groups of mutual exclusion. A lane that has one says so in its queue: queue!group.

CREATE TABLE onebeat_groups (
    name TEXT NOT NULL PRIMARY KEY,
    run_id TEXT
) WITHOUT ROWID;

DROP VIEW onebeat_view_schedules;

-- Live schedules: as they stand, and what came of the newest run of each.
CREATE VIEW onebeat_view_schedules AS SELECT
    s.name AS name,
    d.title AS title,
    d.tags AS tags,
    c.paused AS paused,
    c.quarantined AS quarantined,
    strftime('%Y-%m-%d %H:%M:%S', (s.next_at - (s.next_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (s.next_at % 1000000 + 1000000) % 1000000) AS next_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.holder AS last_run_holder,
    strftime('%Y-%m-%d %H:%M:%S', (r.due_at - (r.due_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.due_at % 1000000 + 1000000) % 1000000) AS last_run_due_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.started_at - (r.started_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.started_at % 1000000 + 1000000) % 1000000) AS last_run_started_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.finished_at - (r.finished_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.finished_at % 1000000 + 1000000) % 1000000) AS last_run_finished_at,
    r.error AS last_run_error,
    d."trigger" AS "trigger",
    d.policy AS policy,
    d.target AS target,
    CASE instr(t.queue, '!') WHEN 0 THEN t.queue ELSE substr(t.queue, 1, instr(t.queue, '!') - 1) END AS queue,
    c.owner AS owner,
    s.version AS version,
    strftime('%Y-%m-%d %H:%M:%S', (c.cut_at - (c.cut_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (c.cut_at % 1000000 + 1000000) % 1000000) AS cut_at,
    strftime('%Y-%m-%d %H:%M:%S', (c.created_at - (c.created_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (c.created_at % 1000000 + 1000000) % 1000000) AS created_at,
    CASE instr(t.queue, '!') WHEN 0 THEN NULL ELSE substr(t.queue, instr(t.queue, '!') + 1) END AS exclusive
    FROM onebeat_schedules AS s
    JOIN onebeat_changes AS c ON c.id = s.change_id
    JOIN onebeat_definitions AS d ON d.id = s.definition_id
    JOIN onebeat_targets AS t ON t.id = s.target_id
    LEFT JOIN onebeat_runs AS r
        ON r.seq = (SELECT max(n.seq) FROM onebeat_runs AS n WHERE n.schedule_id = s.id)
    WHERE s.dormant < 4;

DROP VIEW onebeat_view_runs;

-- Runs: from fire to outcome.
CREATE VIEW onebeat_view_runs AS SELECT
    r.seq AS seq,
    r.id AS id,
    r.schedule AS schedule,
    r.state AS state,
    r.attempt AS attempt,
    r.holder AS holder,
    strftime('%Y-%m-%d %H:%M:%S', (r.occurrence_at - (r.occurrence_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.occurrence_at % 1000000 + 1000000) % 1000000) AS occurrence_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.due_at - (r.due_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.due_at % 1000000 + 1000000) % 1000000) AS due_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.ready_at - (r.ready_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.ready_at % 1000000 + 1000000) % 1000000) AS ready_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.created_at - (r.created_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.created_at % 1000000 + 1000000) % 1000000) AS created_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.claimed_at - (r.claimed_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.claimed_at % 1000000 + 1000000) % 1000000) AS claimed_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.started_at - (r.started_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.started_at % 1000000 + 1000000) % 1000000) AS started_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.lease_until - (r.lease_until % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.lease_until % 1000000 + 1000000) % 1000000) AS lease_until,
    strftime('%Y-%m-%d %H:%M:%S', (r.deadline_at - (r.deadline_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.deadline_at % 1000000 + 1000000) % 1000000) AS deadline_at,
    strftime('%Y-%m-%d %H:%M:%S', (r.finished_at - (r.finished_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (r.finished_at % 1000000 + 1000000) % 1000000) AS finished_at,
    r.outcome AS outcome,
    r.error AS error,
    r.result AS result,
    r.reason AS reason,
    r."key" AS "key",
    r.fold_count AS fold_count,
    CASE instr(t.queue, '!') WHEN 0 THEN t.queue ELSE substr(t.queue, 1, instr(t.queue, '!') - 1) END AS queue,
    t."key" AS target,
    CASE instr(t.queue, '!') WHEN 0 THEN NULL ELSE substr(t.queue, instr(t.queue, '!') + 1) END AS exclusive
    FROM onebeat_runs AS r
    JOIN onebeat_targets AS t ON t.id = r.target_id;
