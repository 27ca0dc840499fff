-- Groups of mutual exclusion. A lane that has one says so in its queue: queue!group.

CREATE TABLE onebeat_groups (
    name TEXT COLLATE "C" PRIMARY KEY,
    run_id TEXT COLLATE "C"
);

-- Live schedules: as they stand, and what came of the newest run of each.
CREATE OR REPLACE VIEW onebeat_view_schedules AS SELECT
    s.name AS name,
    d.title AS title,
    d.tags AS tags,
    c.paused AS paused,
    c.quarantined AS quarantined,
    timestamptz 'epoch' + (s.next_at / 1000000) * interval '1 second'
        + (s.next_at % 1000000) * interval '1 microsecond' AS next_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.holder AS last_run_holder,
    timestamptz 'epoch' + (r.due_at / 1000000) * interval '1 second'
        + (r.due_at % 1000000) * interval '1 microsecond' AS last_run_due_at,
    timestamptz 'epoch' + (r.started_at / 1000000) * interval '1 second'
        + (r.started_at % 1000000) * interval '1 microsecond' AS last_run_started_at,
    timestamptz 'epoch' + (r.finished_at / 1000000) * interval '1 second'
        + (r.finished_at % 1000000) * interval '1 microsecond' AS last_run_finished_at,
    r.error AS last_run_error,
    d."trigger" AS "trigger",
    d.policy AS policy,
    d.target AS target,
    split_part(t.queue, '!', 1) AS queue,
    c.owner AS owner,
    s.version AS version,
    timestamptz 'epoch' + (c.cut_at / 1000000) * interval '1 second'
        + (c.cut_at % 1000000) * interval '1 microsecond' AS cut_at,
    timestamptz 'epoch' + (c.created_at / 1000000) * interval '1 second'
        + (c.created_at % 1000000) * interval '1 microsecond' AS created_at,
    nullif(split_part(t.queue, '!', 2), '') AS exclusive
    FROM onebeat_schedules AS s
    JOIN onebeat_changes AS c ON c.id = s.change_id
    JOIN onebeat_definitions AS d ON d.id = s.definition_id
    JOIN onebeat_targets AS t ON t.id = s.target_id
    LEFT JOIN onebeat_runs AS r
        ON r.seq = (SELECT max(n.seq) FROM onebeat_runs AS n WHERE n.schedule_id = s.id)
    WHERE s.dormant < 4;

-- Runs: from fire to outcome.
CREATE OR REPLACE VIEW onebeat_view_runs AS SELECT
    r.seq AS seq,
    r.id AS id,
    r.schedule AS schedule,
    r.state AS state,
    r.attempt AS attempt,
    r.holder AS holder,
    timestamptz 'epoch' + (r.occurrence_at / 1000000) * interval '1 second'
        + (r.occurrence_at % 1000000) * interval '1 microsecond' AS occurrence_at,
    timestamptz 'epoch' + (r.due_at / 1000000) * interval '1 second'
        + (r.due_at % 1000000) * interval '1 microsecond' AS due_at,
    timestamptz 'epoch' + (r.ready_at / 1000000) * interval '1 second'
        + (r.ready_at % 1000000) * interval '1 microsecond' AS ready_at,
    timestamptz 'epoch' + (r.created_at / 1000000) * interval '1 second'
        + (r.created_at % 1000000) * interval '1 microsecond' AS created_at,
    timestamptz 'epoch' + (r.claimed_at / 1000000) * interval '1 second'
        + (r.claimed_at % 1000000) * interval '1 microsecond' AS claimed_at,
    timestamptz 'epoch' + (r.started_at / 1000000) * interval '1 second'
        + (r.started_at % 1000000) * interval '1 microsecond' AS started_at,
    timestamptz 'epoch' + (r.lease_until / 1000000) * interval '1 second'
        + (r.lease_until % 1000000) * interval '1 microsecond' AS lease_until,
    timestamptz 'epoch' + (r.deadline_at / 1000000) * interval '1 second'
        + (r.deadline_at % 1000000) * interval '1 microsecond' AS deadline_at,
    timestamptz 'epoch' + (r.finished_at / 1000000) * interval '1 second'
        + (r.finished_at % 1000000) * interval '1 microsecond' AS finished_at,
    r.outcome AS outcome,
    r.error AS error,
    r.result AS result,
    r.reason AS reason,
    r."key" AS "key",
    r.fold_count AS fold_count,
    split_part(t.queue, '!', 1) AS queue,
    t."key" AS target,
    nullif(split_part(t.queue, '!', 2), '') AS exclusive
    FROM onebeat_runs AS r
    JOIN onebeat_targets AS t ON t.id = r.target_id;
