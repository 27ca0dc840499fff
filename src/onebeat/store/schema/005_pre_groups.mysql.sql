-- Groups of mutual exclusion. A lane that has one says so in its queue: queue!group.

CREATE TABLE IF NOT EXISTS onebeat_groups (
    name VARCHAR(50) NOT NULL PRIMARY KEY,
    run_id VARCHAR(255)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE onebeat_targets MODIFY queue VARCHAR(151) NOT NULL;

-- Live schedules: as they stand, and what came of the newest run of each.
CREATE OR REPLACE VIEW onebeat_view_schedules AS SELECT
    s.name AS name,
    d.title AS title,
    d.tags AS tags,
    c.paused AS paused,
    c.quarantined AS quarantined,
    TIMESTAMPADD(MICROSECOND, s.next_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS next_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.holder AS last_run_holder,
    TIMESTAMPADD(MICROSECOND, r.due_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS last_run_due_at,
    TIMESTAMPADD(MICROSECOND, r.started_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS last_run_started_at,
    TIMESTAMPADD(MICROSECOND, r.finished_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS last_run_finished_at,
    r.error AS last_run_error,
    d."trigger" AS "trigger",
    d.policy AS policy,
    d.target AS target,
    SUBSTRING_INDEX(t.queue, '!', 1) AS queue,
    c.owner AS owner,
    s.version AS version,
    TIMESTAMPADD(MICROSECOND, c.cut_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS cut_at,
    TIMESTAMPADD(MICROSECOND, c.created_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS created_at,
    CASE INSTR(t.queue, '!') WHEN 0 THEN NULL ELSE SUBSTRING_INDEX(t.queue, '!', -1) END AS exclusive
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
    TIMESTAMPADD(MICROSECOND, r.occurrence_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS occurrence_at,
    TIMESTAMPADD(MICROSECOND, r.due_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS due_at,
    TIMESTAMPADD(MICROSECOND, r.ready_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS ready_at,
    TIMESTAMPADD(MICROSECOND, r.created_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS created_at,
    TIMESTAMPADD(MICROSECOND, r.claimed_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS claimed_at,
    TIMESTAMPADD(MICROSECOND, r.started_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS started_at,
    TIMESTAMPADD(MICROSECOND, r.lease_until, TIMESTAMP'1970-01-01 00:00:00.000000') AS lease_until,
    TIMESTAMPADD(MICROSECOND, r.deadline_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS deadline_at,
    TIMESTAMPADD(MICROSECOND, r.finished_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS finished_at,
    r.outcome AS outcome,
    r.error AS error,
    r.result AS result,
    r.reason AS reason,
    r."key" AS "key",
    r.fold_count AS fold_count,
    SUBSTRING_INDEX(t.queue, '!', 1) AS queue,
    t."key" AS target,
    CASE INSTR(t.queue, '!') WHEN 0 THEN NULL ELSE SUBSTRING_INDEX(t.queue, '!', -1) END AS exclusive
    FROM onebeat_runs AS r
    JOIN onebeat_targets AS t ON t.id = r.target_id;
