/**
 * Functions that those which may be called have in common. Nobody but these calls them.
 *
 * SQLSTATE of what they raise: SQ001 no such queue, SQ002 the database has gone back,
 * SQ003 a commit means too little, SQ004 fenced, SQ005 no room (DETAIL: which units),
 * SQ006 what is stored contradicts itself, SQ007 fenced because the database has gone back.
 */

/** What `sendq.state_of` answers: the names of the columns, in this order. */
export const STATE = {
  id: "id",
  version: "version",
  packets: "packets",
  bytes: "bytes",
  lastId: "last_id",
  removedThrough: "removed_through",
  sentThrough: "sent_through",
  droppedPackets: "dropped_packets",
  droppedBytes: "dropped_bytes",
  deadPackets: "dead_packets",
  deadBytes: "dead_bytes",
  expiredPackets: "expired_packets",
  gaveUpPackets: "gave_up_packets",
  damagedPackets: "damaged_packets",
  refusedPackets: "refused_packets",
  storedBytes: "stored_bytes",
  writtenAtMs: "written_at_ms",
  clockOffsetMs: "clock_offset_ms",
  oldestEnqueuedAtMs: "oldest_ms",
} as const;

/** A clock is not set for less, and a queue may lie about for so long, as with a file. */
export const SAME_CLOCK_MS = 1000;
const LONGEST_REST_MS = 400 * 24 * 3600 * 1000;

/** Whether `wall` cannot follow the last change of the queue `c`. */
const CLOCK_WAS_SET = "c.written_at_ms > 0 AND wall NOT BETWEEN " +
  `c.written_at_ms - ${SAME_CLOCK_MS} AND c.written_at_ms + ${LONGEST_REST_MS}`;

/**
 * In a function that has locked the queue `c`: the time, by the database's clock alone. Where
 * that was set back, or cannot be right, the time by which packets expire goes on from the last
 * change. Not before the lock is had: that may take long.
 */
export const KEEP_TIME = `
  wall := sendq.now_ms();
  IF ${CLOCK_WAS_SET} THEN
    c.clock_offset_ms := c.clock_offset_ms + c.written_at_ms - wall;
  END IF;
  c.written_at_ms := wall;
`;

/** A function that does what its caller may not do by itself, and knows no names but ours. */
export const AS_OWNER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp";

/**
 * Locks the queue of the name `q` as `c`: ids in the order of commits, and no two changes at a time.
 *
 * @param and What it has to be besides: one that was made anew under the old name is another one.
 */
export const lockQueue = (and = ""): string => `
  SELECT * INTO c FROM sendq.queue WHERE name = q${and} FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
`;

/**
 * In a function with a number (`call`) of a `producer`, once the queue is locked: where it was done
 * already, its answer; where a number is missing, the database has gone back.
 */
export const answerOnce = (name: string): string => `
  SELECT p.call, p.answer INTO had FROM sendq.producer p
    WHERE p.queue = c.id AND p.id = ${name}.producer;
  IF coalesce(had.call, 0) <> ${name}.call - 1 THEN
    IF had.call = ${name}.call THEN
      RETURN had.answer || jsonb_build_object('counted', true, 'state', sendq.state_of(c));
    END IF;
    RAISE EXCEPTION 'it knows % commits of this producer, and not %', coalesce(had.call, 0),
      ${name}.call - 1 USING ERRCODE = 'SQ002';
  END IF;
`;

/** An array in text: JSON with names takes several times as long to make. */
const stateOf = (row: string): string =>
  `ARRAY[${Object.values(STATE).map((column) => `${row}.${column}`).join(", ")}]::text`;

/** In the order in which they use each other. */
export const SHARED: string = `
-- A commit has to mean what was promised: a setting may change while connections live.
CREATE FUNCTION sendq.weakness(durability text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF durability = 'process-crash' THEN RETURN NULL; END IF;
  RETURN CASE
    WHEN current_setting('fsync') <> 'on' THEN 'fsync is off'
    WHEN current_setting('full_page_writes') <> 'on' THEN 'full_page_writes is off'
    WHEN durability = 'power-loss' AND current_setting('synchronous_commit') = 'off'
      THEN 'synchronous_commit is off'
    WHEN durability = 'machine-loss'
      AND current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
      THEN 'synchronous_commit is ' || current_setting('synchronous_commit')
    WHEN durability = 'machine-loss' AND btrim(current_setting('synchronous_standby_names')) = ''
      THEN 'synchronous_standby_names is empty'
  END;
END $$;

-- Refuses what means less, or warns of it, as the connection has been told to. True, so that
-- it can stand in an expression, which costs less than a statement of its own.
CREATE FUNCTION sendq.demand(durability text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
  wrong text := sendq.weakness(durability);
BEGIN
  IF wrong IS NULL THEN RETURN true; END IF;
  IF coalesce(current_setting('sendq.weaker', true), '') = 'warn' THEN
    RAISE WARNING '%', wrong USING ERRCODE = 'SQ003';
    RETURN true;
  END IF;
  RAISE EXCEPTION '%', wrong USING ERRCODE = 'SQ003';
END $$;

-- Whether who asks has a role.
CREATE FUNCTION sendq.may(role text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  -- Here the current user is the owner of the schema, who needs no leave.
  RETURN pg_has_role(session_user, role, 'MEMBER')
    OR pg_has_role(session_user, current_user, 'MEMBER');
END $$;

-- True, or it is refused.
CREATE FUNCTION sendq.allow(role text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF sendq.may(role) THEN RETURN true; END IF;
  RAISE EXCEPTION 'the user % is no %', session_user, role USING ERRCODE = '42501',
    HINT = format('GRANT %I TO %I', role, session_user);
END $$;

CREATE FUNCTION sendq.queue_id(q text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
  found_id integer;
BEGIN
  SELECT id INTO found_id FROM sendq.queue WHERE name = q;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  RETURN found_id;
END $$;

-- Not in SQL: such a function is planned anew in each transaction, and took half of a commit.
CREATE FUNCTION sendq.state_of(c sendq.queue) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN ${stateOf("c")};
END $$;

-- Whether who asks is the sender. A database that has gone back knows another tenure, or less
-- of what was handed out in it; then under the ids that the sender has there may be other packets.
CREATE FUNCTION sendq.holds(c sendq.queue, fence jsonb, is_needed boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  known bigint;
  words text;
BEGIN
  IF (fence->>'tenure')::uuid = c.tenure THEN
    SELECT coalesce(max(p.call), 0) INTO known FROM sendq.producer p
      WHERE p.queue = c.id AND p.id = (fence->>'reader')::uuid;
    IF known >= (fence->>'reads')::bigint THEN RETURN true; END IF;
    words := 'it knows ' || known || ' reads of this sender, and not ' || (fence->>'reads');
  ELSIF c.epoch <= (fence->>'epoch')::bigint THEN
    words := 'it knows the epoch ' || c.epoch || ', and not ' || (fence->>'epoch');
  END IF;
  IF is_needed AND words IS NOT NULL THEN RAISE EXCEPTION '%', words USING ERRCODE = 'SQ007'; END IF;
  IF is_needed THEN RAISE EXCEPTION 'the epoch is %', c.epoch USING ERRCODE = 'SQ004'; END IF;
  RETURN false;
END $$;

-- The database's clock: nothing else tells the time.
CREATE FUNCTION sendq.now_ms() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN floor(date_part('epoch', clock_timestamp()) * 1000)::bigint;
END $$;

-- The time by which packets expire, for who changes nothing; where the clock cannot be right,
-- that of the last change.
CREATE FUNCTION sendq.time_of(c sendq.queue) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  wall bigint := sendq.now_ms();
BEGIN
  IF ${CLOCK_WAS_SET} THEN RETURN c.written_at_ms + c.clock_offset_ms; END IF;
  RETURN wall + c.clock_offset_ms;
END $$;

-- When it expires what is worth sending for so many milliseconds more, as a number that everybody
-- can read; NULL: never.
CREATE FUNCTION sendq.expiry_of(c sendq.queue, left_ms bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN CASE WHEN left_ms > 0 THEN
    least(c.written_at_ms + c.clock_offset_ms + least(left_ms, 9007199254740991), 9007199254740991)
  END;
END $$;

-- Whether packets that end at these bytes lie one behind the other, and have bytes.
CREATE FUNCTION sendq.ascends(ends integer[]) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  before integer := 0;
  at integer;
BEGIN
  FOREACH at IN ARRAY ends LOOP
    IF at > before THEN before := at; ELSE RETURN false; END IF;
  END LOOP;
  RETURN true;
END $$;

-- What contradicts itself in a row; NULL: nothing.
CREATE FUNCTION sendq.fault_of_run(r sendq.run) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  at integer := r.ends[cardinality(r.ends)];
BEGIN
  IF NOT sendq.ascends(r.ends) THEN RETURN 'its packets do not end one behind the other'; END IF;
  IF at IS DISTINCT FROM length(r.payload) THEN
    RETURN format('its packets end at byte %s, its payload at %s', at, length(r.payload));
  END IF;
  IF cardinality(r.ends) <> r.last_id + 1 - r.first_id THEN
    RETURN format('it has %s packets', cardinality(r.ends));
  END IF;
  IF r.checksum IS DISTINCT FROM sendq.checksum_of(r.last_id, r.ends, r.payload) THEN
    RETURN 'their bytes do not match their checksum';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION sendq.fault_of_letter(d sendq.dead_letter) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF d.reason NOT IN ('expired', 'gave-up', 'damaged', 'refused')
    OR (length(d.payload) = 0 AND d.reason <> 'damaged')
    OR least(d.attempts, d.enqueued_at_ms, d.died_at_ms) < 0
  THEN
    RETURN 'damaged';
  END IF;
  IF d.checksum IS DISTINCT FROM sendq.checksum_of(d.id, NULL, d.payload) THEN
    RETURN 'damaged: its bytes do not match their checksum';
  END IF;
  RETURN NULL;
END $$;

-- Of the run that an id lies in, unless as its last packet: the packets up to the id.
CREATE FUNCTION sendq.part_through(q integer, id bigint, OUT packets bigint, OUT bytes bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  r record;
BEGIN
  packets := 0;
  bytes := 0;
  SELECT first_id, ends INTO r FROM sendq.run WHERE queue = q AND last_id > id
    ORDER BY last_id LIMIT 1;
  IF NOT FOUND OR r.first_id > id THEN RETURN; END IF;
  packets := id + 1 - r.first_id;
  bytes := r.ends[packets];
END $$;

-- Removes packets up to and including an id; their row only with its last packet.
CREATE FUNCTION sendq.remove_through(
  q integer, removed_through bigint, through bigint, OUT packets bigint, OUT bytes bigint
) LANGUAGE plpgsql AS $$
DECLARE
  before record;
  after record;
BEGIN
  packets := 0;
  bytes := 0;
  IF through <= removed_through THEN RETURN; END IF;
  SELECT * INTO before FROM sendq.part_through(q, removed_through);
  SELECT * INTO after FROM sendq.part_through(q, through);
  WITH gone AS (
    DELETE FROM sendq.run WHERE queue = q AND last_id > removed_through AND last_id <= through
    RETURNING last_id + 1 - first_id AS n, length(payload) AS size
  )
  SELECT coalesce(sum(n), 0), coalesce(sum(size), 0) INTO packets, bytes FROM gone;
  packets := packets + after.packets - before.packets;
  bytes := bytes + after.bytes - before.bytes;
END $$;

-- Makes an id the first of its run, where it is not; what lies before gets a row of its own.
CREATE FUNCTION sendq.cut_before(q integer, id bigint, removed_through bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  r sendq.run;
  kept integer;
  gone integer;
  at integer;
  start integer := 0;
BEGIN
  SELECT * INTO r FROM sendq.run WHERE queue = q AND last_id >= id ORDER BY last_id LIMIT 1;
  IF NOT FOUND OR r.first_id >= id THEN RETURN; END IF;
  kept := id - r.first_id;
  at := r.ends[kept];
  UPDATE sendq.run SET first_id = id, payload = substring(r.payload FROM at + 1),
    ends = ARRAY(SELECT e - at FROM unnest(r.ends[kept + 1:]) WITH ORDINALITY AS u(e, i) ORDER BY i)
    WHERE queue = q AND last_id = r.last_id;
  gone := greatest(0, removed_through + 1 - r.first_id);
  IF gone >= kept THEN RETURN; END IF;
  IF gone > 0 THEN start := r.ends[gone]; END IF;
  INSERT INTO sendq.run VALUES (
    q, id - 1, r.first_id + gone, r.enqueued_at_ms, r.expires_at_ms,
    ARRAY(SELECT e - start FROM unnest(r.ends[gone + 1:kept]) WITH ORDINALITY AS u(e, i)
      ORDER BY i),
    substring(r.payload FROM start + 1 FOR at - start)
  );
END $$;

-- The id through which to remove the oldest, to get rid of both excesses.
CREATE FUNCTION sendq.id_to_drop(
  q integer, removed_through bigint, over_packets bigint, over_bytes bigint
) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  r record;
  start integer;
  through bigint := removed_through;
BEGIN
  FOR r IN SELECT first_id, ends FROM sendq.run
    WHERE queue = q AND last_id > removed_through ORDER BY last_id
  LOOP
    start := 0;
    FOR i IN 1 .. cardinality(r.ends) LOOP
      IF r.first_id + i - 1 > removed_through THEN
        IF over_packets <= 0 AND over_bytes <= 0 THEN RETURN through; END IF;
        through := r.first_id + i - 1;
        over_packets := over_packets - 1;
        over_bytes := over_bytes - (r.ends[i] - start);
      END IF;
      start := r.ends[i];
    END LOOP;
  END LOOP;
  RETURN through;
END $$;

-- Removes the oldest dead letters, as many as are too many.
CREATE FUNCTION sendq.bound_dead(
  q integer, over_packets bigint, over_bytes bigint, OUT packets bigint, OUT bytes bigint
) LANGUAGE plpgsql AS $$
DECLARE
  r record;
  through bigint := -1;
BEGIN
  packets := 0;
  bytes := 0;
  IF over_packets <= 0 AND over_bytes <= 0 THEN RETURN; END IF;
  FOR r IN SELECT id, length(payload) AS size FROM sendq.dead_letter WHERE queue = q ORDER BY id
  LOOP
    EXIT WHEN packets >= over_packets AND bytes >= over_bytes;
    through := r.id;
    packets := packets + 1;
    bytes := bytes + r.size;
  END LOOP;
  DELETE FROM sendq.dead_letter WHERE queue = q AND id <= through;
END $$;

-- The end of every transaction: the counts are written, and the answer is kept until the next
-- question. Where the oldest packet has gone, ids that are missing before the next one count as
-- removed. It has another name where it answers otherwise: a function of an older version that has
-- waited for a lock during the upgrade calls whatever has its name by then, and has to fail.
CREATE FUNCTION sendq.finish(
  c sendq.queue, producer uuid, call bigint, answer jsonb, reserve bigint
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  oldest record;
  state text;
BEGIN
  IF c.oldest_ms IS NULL THEN
    SELECT first_id, enqueued_at_ms INTO oldest FROM sendq.run
      WHERE queue = c.id AND last_id > c.removed_through ORDER BY last_id LIMIT 1;
    c.removed_through := greatest(c.removed_through, coalesce(oldest.first_id - 1, c.last_id));
    c.oldest_ms := oldest.enqueued_at_ms;
  END IF;
  UPDATE sendq.queue AS now SET version = now.version + 1, packets = c.packets, bytes = c.bytes,
    last_id = c.last_id, removed_through = c.removed_through, sent_through = c.sent_through,
    dropped_packets = c.dropped_packets, dropped_bytes = c.dropped_bytes,
    dead_packets = c.dead_packets, dead_bytes = c.dead_bytes,
    expired_packets = c.expired_packets, gave_up_packets = c.gave_up_packets,
    damaged_packets = c.damaged_packets, refused_packets = c.refused_packets,
    stored_bytes = c.stored_bytes, oldest_ms = c.oldest_ms,
    written_at_ms = c.written_at_ms, clock_offset_ms = c.clock_offset_ms
    WHERE now.id = c.id RETURNING ${stateOf("now")} INTO state;
  UPDATE sendq.producer AS p SET call = finish.call, answer = finish.answer, called_at = now(),
    reserved_through = greatest(p.reserved_through, reserve)
    WHERE p.queue = c.id AND p.id = producer;
  IF NOT FOUND THEN
    INSERT INTO sendq.producer VALUES (c.id, producer, call, answer, now(), reserve);
  END IF;
  RETURN answer || jsonb_build_object('counted', true, 'state', state);
END $$;
`;
