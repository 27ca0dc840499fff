-- What others read with plain SQL. Every view and column is explained in docs/reference/schema.md.
-- Instants are timestamptz. A view that joins takes no writes; the join with one row is there for that alone.

-- Live schedules: as they stand, and what came of the newest run of each.
CREATE VIEW onebeat_view_schedules AS SELECT
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
    t.queue AS queue,
    c.owner AS owner,
    s.version AS version,
    timestamptz 'epoch' + (c.cut_at / 1000000) * interval '1 second'
        + (c.cut_at % 1000000) * interval '1 microsecond' AS cut_at,
    timestamptz 'epoch' + (c.created_at / 1000000) * interval '1 second'
        + (c.created_at % 1000000) * interval '1 microsecond' AS created_at
    FROM onebeat_schedules AS s
    JOIN onebeat_changes AS c ON c.id = s.change_id
    JOIN onebeat_definitions AS d ON d.id = s.definition_id
    JOIN onebeat_targets AS t ON t.id = s.target_id
    LEFT JOIN onebeat_runs AS r
        ON r.seq = (SELECT max(n.seq) FROM onebeat_runs AS n WHERE n.schedule_id = s.id)
    WHERE s.dormant < 4;

-- Runs: from fire to outcome.
CREATE VIEW onebeat_view_runs AS SELECT
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
    t.queue AS queue,
    t."key" AS target
    FROM onebeat_runs AS r
    JOIN onebeat_targets AS t ON t.id = r.target_id;

-- Events: what leaves no run, and what people changed.
CREATE VIEW onebeat_view_events AS SELECT
    e.id AS id,
    timestamptz 'epoch' + (e.at / 1000000) * interval '1 second'
        + (e.at % 1000000) * interval '1 microsecond' AS "at",
    e.kind AS kind,
    e.schedule AS schedule,
    e.run_id AS run_id,
    e.actor AS actor,
    e.reason AS reason,
    timestamptz 'epoch' + (e.first_at / 1000000) * interval '1 second'
        + (e.first_at % 1000000) * interval '1 microsecond' AS first_at,
    timestamptz 'epoch' + (e.last_at / 1000000) * interval '1 second'
        + (e.last_at % 1000000) * interval '1 microsecond' AS last_at,
    e."count" AS "count",
    e.data AS data
    FROM onebeat_events AS e CROSS JOIN (SELECT 1) AS fixed;

-- Nodes, as they announce themselves.
CREATE VIEW onebeat_view_nodes AS SELECT
    n.id AS id,
    n.host AS host,
    n.pid AS pid,
    n.roles AS roles,
    n.queues AS queues,
    n.version AS version,
    n.tz_version AS tz_version,
    timestamptz 'epoch' + (n.started_at / 1000000) * interval '1 second'
        + (n.started_at % 1000000) * interval '1 microsecond' AS started_at,
    timestamptz 'epoch' + (n.seen_at / 1000000) * interval '1 second'
        + (n.seen_at % 1000000) * interval '1 microsecond' AS seen_at,
    timestamptz 'epoch' + (n.alive_until / 1000000) * interval '1 second'
        + (n.alive_until % 1000000) * interval '1 microsecond' AS alive_until,
    n.stopping AS stopping
    FROM onebeat_nodes AS n CROSS JOIN (SELECT 1) AS fixed;
