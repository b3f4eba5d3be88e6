SET check_function_bodies = false;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE SCHEMA sendq;
ALTER SCHEMA sendq OWNER TO postgres;
CREATE FUNCTION sendq.allow(role text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
  IF NOT pg_has_role(session_user, role, 'MEMBER') THEN
    RAISE EXCEPTION 'the user % is no %', session_user, role USING ERRCODE = '42501';
  END IF;
END $$;
ALTER FUNCTION sendq.allow(role text) OWNER TO postgres;
CREATE FUNCTION sendq.bound_dead(q integer, over_packets bigint, over_bytes bigint, OUT packets bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
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
ALTER FUNCTION sendq.bound_dead(q integer, over_packets bigint, over_bytes bigint, OUT packets bigint, OUT bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.commit(q text, producer uuid, call bigint, request jsonb, unit_packets integer[], unit_bytes integer[], run_packets integer[], run_bytes integer[], run_expires bigint[], ends integer[], payload bytea) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
  before sendq.queue;
  had record;
  gone record;
  handed jsonb := request->'handedOut';
  wall bigint := (request->>'wallMs')::bigint;
  clock_offset bigint := (request->>'clockOffsetMs')::bigint;
  max_packets bigint := (request->>'maxPackets')::bigint;
  max_bytes bigint := (request->>'maxBytes')::bigint;
  overflow text := request->>'overflow';
  through bigint := (request->>'removeThrough')::bigint;
  holds boolean;
  admitted_packets bigint;
  admitted_bytes bigint;
  dropped_packets bigint := 0;
  dropped_bytes bigint := 0;
  dropped_through bigint := 0;
  first bigint;
  next_end integer := 1;
  next_byte integer := 1;
BEGIN
  PERFORM sendq.demand(request->>'durability');
  PERFORM sendq.allow('sendq_producer');
  -- Ids in the order of commits. It also makes a repeated question wait for a standby.
  SELECT * INTO c FROM sendq.queue WHERE name = q FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  SELECT p.call, p.answer INTO had FROM sendq.producer p
    WHERE p.queue = c.id AND p.id = commit.producer;
  IF had.call = commit.call THEN
    RETURN had.answer || jsonb_build_object('counted', true, 'state', sendq.state_of(c));
  END IF;
  IF coalesce(had.call, 0) <> commit.call - 1 THEN
    RAISE EXCEPTION 'it knows % commits of this producer, and not %', coalesce(had.call, 0),
      commit.call - 1 USING ERRCODE = 'SQ002';
  END IF;
  before := c;
  holds := coalesce((request->>'epoch')::bigint = c.epoch, false);
  IF holds THEN
    PERFORM sendq.allow('sendq_sender');
    c.sent_through := greatest(
      c.sent_through, least((request->>'sentThrough')::bigint, c.last_id)
    );
  END IF;
  c.written_at_ms := wall;
  IF clock_offset <> (request->>'knownOffsetMs')::bigint
    AND abs(c.clock_offset_ms - clock_offset) > 1000 THEN
    c.clock_offset_ms := clock_offset;
  END IF;
  IF through > 0 THEN
    IF NOT holds THEN
      RAISE EXCEPTION 'the epoch is %', c.epoch USING ERRCODE = 'SQ004';
    END IF;
    through := least(through, c.last_id);
    SELECT * INTO gone FROM sendq.remove_through(c.id, c.removed_through, through);
    -- What was given to the sender is what is removed, or nothing is.
    IF jsonb_typeof(handed) = 'object' AND (handed->>'afterId')::bigint = c.removed_through
      AND ((handed->>'packets')::bigint, (handed->>'bytes')::bigint)
        IS DISTINCT FROM (gone.packets, gone.bytes)
    THEN
      RAISE EXCEPTION '% packets of % bytes up to id % were given to the sender, and it finds '
        '% of % to remove', handed->>'packets', handed->>'bytes', through, gone.packets, gone.bytes
        USING ERRCODE = 'SQ006';
    END IF;
    c.removed_through := greatest(c.removed_through, through);
    c.packets := c.packets - gone.packets;
    c.bytes := c.bytes - gone.bytes;
  END IF;
  SELECT coalesce(sum(n), 0) INTO admitted_packets FROM unnest(unit_packets) AS n;
  SELECT coalesce(sum(n), 0) INTO admitted_bytes FROM unnest(unit_bytes) AS n;
  DECLARE
    -- Old packets give way, so that only the new ones themselves count.
    gives boolean := overflow = 'drop-oldest';
    used_packets bigint := CASE WHEN gives THEN 0 ELSE c.packets END;
    used_bytes bigint := CASE WHEN gives THEN 0 ELSE c.bytes END;
    met text;
    refused text[] := '{}';
  BEGIN
    IF used_packets + admitted_packets > max_packets OR used_bytes + admitted_bytes > max_bytes
    THEN
      FOR i IN 1 .. cardinality(unit_packets) LOOP
        -- First come, first served: nobody passes one who waits.
        IF met IS NULL OR overflow <> 'wait' THEN
          met := CASE
            WHEN used_packets + unit_packets[i] > max_packets THEN 'maxPackets'
            WHEN used_bytes + unit_bytes[i] > max_bytes THEN 'maxBytes'
          END;
        END IF;
        IF met IS NULL THEN
          used_packets := used_packets + unit_packets[i];
          used_bytes := used_bytes + unit_bytes[i];
        ELSE
          refused := refused || ('[' || i - 1 || ',"' || met || '"]');
        END IF;
      END LOOP;
      IF cardinality(refused) > 0 THEN
        -- Nothing has happened: it is asked again without those.
        RAISE EXCEPTION 'no room' USING ERRCODE = 'SQ005',
          DETAIL = '[' || array_to_string(refused, ',') || ']';
      END IF;
    END IF;
  END;
  IF overflow = 'drop-oldest' AND c.packets > 0 AND (
    c.packets + admitted_packets > max_packets OR c.bytes + admitted_bytes > max_bytes
  ) THEN
    PERFORM sendq.allow('sendq_sender');
    dropped_through := sendq.id_to_drop(
      c.id, c.removed_through, c.packets + admitted_packets - max_packets,
      c.bytes + admitted_bytes - max_bytes
    );
    SELECT * INTO gone FROM sendq.remove_through(c.id, c.removed_through, dropped_through);
    IF gone.packets = 0 THEN
      RAISE EXCEPTION 'it counts % packets, and none is found', c.packets USING ERRCODE = 'SQ006';
    END IF;
    c.removed_through := dropped_through;
    c.packets := c.packets - gone.packets;
    c.bytes := c.bytes - gone.bytes;
    dropped_packets := gone.packets;
    dropped_bytes := gone.bytes;
  END IF;
  first := c.last_id + 1;
  FOR i IN 1 .. cardinality(run_packets) LOOP
    INSERT INTO sendq.run VALUES (
      c.id, c.last_id + run_packets[i], c.last_id + 1, wall, nullif(run_expires[i], 0),
      ends[next_end : next_end + run_packets[i] - 1],
      substring(payload FROM next_byte FOR run_bytes[i])
    );
    next_end := next_end + run_packets[i];
    next_byte := next_byte + run_bytes[i];
    c.last_id := c.last_id + run_packets[i];
  END LOOP;
  c.packets := c.packets + admitted_packets;
  c.bytes := c.bytes + admitted_bytes;
  c.stored_bytes := c.stored_bytes + admitted_bytes;
  IF c.last_id + 1 - first <> admitted_packets OR next_byte - 1 <> admitted_bytes THEN
    RAISE EXCEPTION 'runs and units are not the same packets' USING ERRCODE = 'SQ006';
  END IF;
  SELECT * INTO gone FROM sendq.bound_dead(
    c.id, c.dead_packets - (request->>'maxDeadPackets')::bigint,
    c.dead_bytes - (request->>'maxDeadBytes')::bigint
  );
  c.dead_packets := c.dead_packets - gone.packets;
  c.dead_bytes := c.dead_bytes - gone.bytes;
  dropped_packets := dropped_packets + gone.packets;
  dropped_bytes := dropped_bytes + gone.bytes;
  c.dropped_packets := c.dropped_packets + dropped_packets;
  c.dropped_bytes := c.dropped_bytes + dropped_bytes;
  IF (c.last_id, c.removed_through, c.sent_through, c.clock_offset_ms, c.dropped_packets)
    = (before.last_id, before.removed_through, before.sent_through, before.clock_offset_ms,
      before.dropped_packets)
  THEN
    RETURN jsonb_build_object('first', first, 'droppedPackets', 0, 'counted', false,
      'state', sendq.state_of(before));
  END IF;
  RETURN sendq.settle(c, producer, call, jsonb_build_object(
    'first', first, 'droppedPackets', dropped_packets, 'droppedBytes', dropped_bytes,
    'droppedThrough', dropped_through
  ));
END $$;
ALTER FUNCTION sendq.commit(q text, producer uuid, call bigint, request jsonb, unit_packets integer[], unit_bytes integer[], run_packets integer[], run_bytes integer[], run_expires bigint[], ends integer[], payload bytea) OWNER TO postgres;
CREATE FUNCTION sendq.create_queue(q text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM sendq.allow('sendq_operator');
  INSERT INTO sendq.queue (name) VALUES (q) ON CONFLICT (name) DO NOTHING;
  INSERT INTO sendq.lease (queue) VALUES (sendq.queue_id(q)) ON CONFLICT (queue) DO NOTHING;
END $$;
ALTER FUNCTION sendq.create_queue(q text) OWNER TO postgres;
CREATE FUNCTION sendq.cut_before(q integer, id bigint, removed_through bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
ALTER FUNCTION sendq.cut_before(q integer, id bigint, removed_through bigint) OWNER TO postgres;
CREATE TABLE sendq.dead_letter (
    queue integer NOT NULL,
    id bigint NOT NULL,
    enqueued_at_ms bigint NOT NULL,
    died_at_ms bigint NOT NULL,
    reason text NOT NULL,
    sent boolean NOT NULL,
    attempts integer NOT NULL,
    words text,
    payload bytea NOT NULL
);
ALTER TABLE ONLY sendq.dead_letter ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE sendq.dead_letter OWNER TO postgres;
CREATE FUNCTION sendq.dead_letters(q text, after_id bigint, max_bytes bigint) RETURNS SETOF sendq.dead_letter
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  d sendq.dead_letter;
  room bigint := max_bytes;
  first boolean := true;
BEGIN
  PERFORM sendq.allow('sendq_operator');
  FOR d IN SELECT * FROM sendq.dead_letter l
    WHERE l.queue = sendq.queue_id(q) AND l.id > after_id ORDER BY l.id
  LOOP
    room := room - length(d.payload);
    EXIT WHEN room < 0 AND NOT first;
    first := false;
    RETURN NEXT d;
  END LOOP;
END $$;
ALTER FUNCTION sendq.dead_letters(q text, after_id bigint, max_bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.demand(durability text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
  wrong text;
BEGIN
  IF durability = 'process-crash' THEN RETURN; END IF;
  wrong := CASE
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
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '%', wrong USING ERRCODE = 'SQ003';
  END IF;
END $$;
ALTER FUNCTION sendq.demand(durability text) OWNER TO postgres;
CREATE FUNCTION sendq.due(q text, after_id bigint, now_ms bigint, by_time boolean, max_rows integer) RETURNS TABLE(first_id bigint, last_id bigint, bytes integer, next_at_ms bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
  after bigint;
BEGIN
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  after := greatest(after_id, c.removed_through);
  SELECT min(r.expires_at_ms) INTO next_at_ms FROM sendq.run r
    WHERE r.queue = c.id AND r.last_id > after AND r.expires_at_ms > now_ms;
  RETURN NEXT;
  RETURN QUERY SELECT greatest(after + 1, r.first_id), r.last_id, length(r.payload), NULL::bigint
    FROM sendq.run r
    WHERE r.queue = c.id AND r.last_id > after AND r.expires_at_ms <= now_ms
    ORDER BY CASE WHEN by_time THEN r.expires_at_ms ELSE r.last_id END, r.last_id LIMIT max_rows;
END $$;
ALTER FUNCTION sendq.due(q text, after_id bigint, now_ms bigint, by_time boolean, max_rows integer) OWNER TO postgres;
CREATE FUNCTION sendq.edit(q text, producer uuid, call bigint, request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
  before sendq.queue;
  had record;
  gone record;
  range record;
  kind text := request->>'kind';
  clock_offset bigint := (request->>'clockOffsetMs')::bigint;
  holds boolean;
  packets bigint := 0;
  bytes bigint := 0;
  damaged bigint := 0;
  dropped_packets bigint := 0;
  dropped_bytes bigint := 0;
BEGIN
  PERFORM sendq.demand(request->>'durability');
  PERFORM sendq.allow(
    CASE WHEN kind IN ('bury', 'set-aside', 'keep-time') THEN 'sendq_sender' ELSE 'sendq_operator' END
  );
  SELECT * INTO c FROM sendq.queue WHERE name = q FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  SELECT p.call, p.answer INTO had FROM sendq.producer p
    WHERE p.queue = c.id AND p.id = edit.producer;
  IF had.call = edit.call THEN
    RETURN had.answer || jsonb_build_object('counted', true, 'state', sendq.state_of(c));
  END IF;
  IF coalesce(had.call, 0) <> edit.call - 1 THEN
    RAISE EXCEPTION 'it knows % commits of this producer, and not %', coalesce(had.call, 0),
      edit.call - 1 USING ERRCODE = 'SQ002';
  END IF;
  before := c;
  holds := coalesce((request->>'epoch')::bigint = c.epoch, false);
  IF kind = 'bury' AND NOT holds THEN
    RAISE EXCEPTION 'the epoch is %', c.epoch USING ERRCODE = 'SQ004';
  END IF;
  IF holds THEN
    c.sent_through := greatest(
      c.sent_through, least((request->>'sentThrough')::bigint, c.last_id)
    );
  END IF;
  c.written_at_ms := (request->>'wallMs')::bigint;
  IF clock_offset <> (request->>'knownOffsetMs')::bigint
    AND abs(c.clock_offset_ms - clock_offset) > 1000 THEN
    c.clock_offset_ms := clock_offset;
  END IF;
  FOR range IN SELECT (value->>'firstId')::bigint AS first, (value->>'lastId')::bigint AS last
    FROM jsonb_array_elements(request->'ranges')
  LOOP
    CASE kind
      WHEN 'bury', 'remove-packets' THEN
        SELECT * INTO gone FROM sendq.excise(c, range.first, range.last, request);
        c.packets := c.packets - gone.packets;
        c.bytes := c.bytes - gone.bytes;
        IF kind = 'bury' THEN
          c.dead_packets := c.dead_packets + gone.packets;
          c.dead_bytes := c.dead_bytes + gone.bytes;
        END IF;
      WHEN 'requeue' THEN
        SELECT count(*) INTO damaged FROM sendq.dead_letter
          WHERE queue = c.id AND id BETWEEN range.first AND range.last AND reason = 'damaged';
        SELECT * INTO gone FROM sendq.put_back(c, range.first, range.last, request);
        c.last_id := c.last_id + gone.packets;
        c.packets := c.packets + gone.packets;
        c.bytes := c.bytes + gone.bytes;
        c.stored_bytes := c.stored_bytes + gone.bytes;
        c.dead_packets := c.dead_packets - gone.packets;
        c.dead_bytes := c.dead_bytes - gone.bytes;
      WHEN 'remove-dead' THEN
        WITH removed AS (
          DELETE FROM sendq.dead_letter
          WHERE queue = c.id AND id BETWEEN range.first AND range.last
          RETURNING length(payload) AS size
        )
        SELECT count(*) AS packets, coalesce(sum(size), 0) AS bytes INTO gone FROM removed;
        c.dead_packets := c.dead_packets - gone.packets;
        c.dead_bytes := c.dead_bytes - gone.bytes;
      ELSE
        RAISE EXCEPTION 'no edit is called %', kind;
    END CASE;
    packets := packets + gone.packets;
    bytes := bytes + gone.bytes;
  END LOOP;
  IF kind = 'bury' THEN
    CASE request->>'reason'
      WHEN 'expired' THEN c.expired_packets := c.expired_packets + packets;
      WHEN 'refused' THEN c.refused_packets := c.refused_packets + packets;
      ELSE c.gave_up_packets := c.gave_up_packets + packets;
    END CASE;
  END IF;
  SELECT * INTO gone FROM sendq.bound_dead(
    c.id, c.dead_packets - (request->>'maxDeadPackets')::bigint,
    c.dead_bytes - (request->>'maxDeadBytes')::bigint
  );
  dropped_packets := gone.packets;
  dropped_bytes := gone.bytes;
  c.dead_packets := c.dead_packets - dropped_packets;
  c.dead_bytes := c.dead_bytes - dropped_bytes;
  c.dropped_packets := c.dropped_packets + dropped_packets;
  c.dropped_bytes := c.dropped_bytes + dropped_bytes;
  IF packets = 0 AND (c.clock_offset_ms, c.dropped_packets)
    = (before.clock_offset_ms, before.dropped_packets)
  THEN
    RETURN jsonb_build_object('packets', 0, 'bytes', 0, 'damagedPackets', damaged,
      'droppedPackets', 0, 'counted', false, 'state', sendq.state_of(before));
  END IF;
  RETURN sendq.settle(c, producer, call, jsonb_build_object(
    'packets', packets, 'bytes', bytes, 'damagedPackets', damaged,
    'firstId', CASE WHEN kind = 'requeue' AND packets > 0 THEN before.last_id + 1 END,
    'droppedPackets', dropped_packets, 'droppedBytes', dropped_bytes, 'droppedThrough', 0
  ));
END $$;
ALTER FUNCTION sendq.edit(q text, producer uuid, call bigint, request jsonb) OWNER TO postgres;
CREATE TABLE sendq.queue (
    id integer NOT NULL,
    name text NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    packets bigint DEFAULT 0 NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    last_id bigint DEFAULT 0 NOT NULL,
    removed_through bigint DEFAULT 0 NOT NULL,
    sent_through bigint DEFAULT 0 NOT NULL,
    dropped_packets bigint DEFAULT 0 NOT NULL,
    dropped_bytes bigint DEFAULT 0 NOT NULL,
    dead_packets bigint DEFAULT 0 NOT NULL,
    dead_bytes bigint DEFAULT 0 NOT NULL,
    expired_packets bigint DEFAULT 0 NOT NULL,
    gave_up_packets bigint DEFAULT 0 NOT NULL,
    damaged_packets bigint DEFAULT 0 NOT NULL,
    refused_packets bigint DEFAULT 0 NOT NULL,
    stored_bytes bigint DEFAULT 0 NOT NULL,
    written_at_ms bigint DEFAULT 0 NOT NULL,
    clock_offset_ms bigint DEFAULT 0 NOT NULL,
    CONSTRAINT queue_check CHECK (((removed_through <= last_id) AND (sent_through <= last_id))),
    CONSTRAINT queue_check1 CHECK ((packets <= (last_id - removed_through))),
    CONSTRAINT queue_check2 CHECK (((bytes >= packets) AND ((packets = 0) = (bytes = 0)))),
    CONSTRAINT queue_dead_bytes_check CHECK ((dead_bytes >= 0)),
    CONSTRAINT queue_dead_packets_check CHECK ((dead_packets >= 0)),
    CONSTRAINT queue_packets_check CHECK ((packets >= 0))
)
WITH (fillfactor='25');
ALTER TABLE sendq.queue OWNER TO postgres;
CREATE FUNCTION sendq.excise(c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
  first bigint := greatest(from_id, c.removed_through + 1);
BEGIN
  packets := 0;
  bytes := 0;
  IF to_id < first THEN RETURN; END IF;
  PERFORM sendq.cut_before(c.id, first, c.removed_through);
  PERFORM sendq.cut_before(c.id, to_id + 1, c.removed_through);
  IF request->>'kind' = 'bury' THEN
    INSERT INTO sendq.dead_letter
      SELECT c.id, r.first_id + i - 1, r.enqueued_at_ms, (request->>'wallMs')::bigint,
        request->>'reason', r.first_id + i - 1 <= c.sent_through, (request->>'attempts')::integer,
        request->>'words',
        substring(r.payload FROM coalesce(r.ends[i - 1], 0) + 1
          FOR r.ends[i] - coalesce(r.ends[i - 1], 0))
      FROM sendq.run r, generate_subscripts(r.ends, 1) AS i
      WHERE r.queue = c.id AND r.last_id BETWEEN first AND to_id;
  END IF;
  WITH gone AS (
    DELETE FROM sendq.run WHERE queue = c.id AND last_id BETWEEN first AND to_id
    RETURNING last_id + 1 - first_id AS n, length(payload) AS size
  )
  SELECT coalesce(sum(n), 0), coalesce(sum(size), 0) INTO packets, bytes FROM gone;
END $$;
ALTER FUNCTION sendq.excise(c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.forget(q text, producer uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  DELETE FROM sendq.producer WHERE queue = sendq.queue_id(q)
    AND (id = forget.producer OR called_at < now() - interval '30 days')
$$;
ALTER FUNCTION sendq.forget(q text, producer uuid) OWNER TO postgres;
CREATE FUNCTION sendq.id_to_drop(q integer, removed_through bigint, over_packets bigint, over_bytes bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
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
ALTER FUNCTION sendq.id_to_drop(q integer, removed_through bigint, over_packets bigint, over_bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.lease_beat(q text, held_epoch bigint, words text, durability text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  now_at bigint;
BEGIN
  PERFORM sendq.demand(durability);
  PERFORM sendq.allow('sendq_sender');
  UPDATE sendq.lease SET beat = beat + 1, notice = words
    WHERE queue = sendq.queue_id(q) AND epoch = held_epoch AND holder IS NOT NULL
    RETURNING beat INTO now_at;
  RETURN now_at;
END $$;
ALTER FUNCTION sendq.lease_beat(q text, held_epoch bigint, words text, durability text) OWNER TO postgres;
CREATE FUNCTION sendq.lease_leave(q text, held_epoch bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  PERFORM sendq.allow('sendq_sender');
  UPDATE sendq.lease SET beat = beat + 1, holder = NULL, notice = ''
    WHERE queue = sendq.queue_id(q) AND epoch = held_epoch;
  RETURN FOUND;
END $$;
ALTER FUNCTION sendq.lease_leave(q text, held_epoch bigint) OWNER TO postgres;
CREATE FUNCTION sendq.lease_look(q text) RETURNS TABLE(epoch bigint, beat bigint, holder text, notice text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  SELECT epoch, beat, holder, notice FROM sendq.lease WHERE queue = sendq.queue_id(q)
$$;
ALTER FUNCTION sendq.lease_look(q text) OWNER TO postgres;
CREATE FUNCTION sendq.lease_take(q text, seen_epoch bigint, seen_beat bigint, who text, durability text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  taken bigint;
BEGIN
  PERFORM sendq.demand(durability);
  PERFORM sendq.allow('sendq_sender');
  UPDATE sendq.lease SET epoch = epoch + 1, beat = beat + 1, holder = who, notice = ''
    WHERE queue = sendq.queue_id(q) AND epoch = seen_epoch AND beat = seen_beat
    RETURNING epoch INTO taken;
  IF taken IS NULL THEN RETURN NULL; END IF;
  -- Behind every commit of the sender before: from here on its removals are refused.
  UPDATE sendq.queue SET epoch = taken WHERE id = sendq.queue_id(q);
  RETURN taken;
END $$;
ALTER FUNCTION sendq.lease_take(q text, seen_epoch bigint, seen_beat bigint, who text, durability text) OWNER TO postgres;
CREATE FUNCTION sendq.open_queue(q text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
BEGIN
  PERFORM sendq.allow('sendq_producer');
  SELECT * INTO c FROM sendq.queue WHERE name = q;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  RETURN jsonb_build_object('id', c.id, 'version',
    (SELECT max(version) FROM sendq.migration), 'checksums', current_setting('data_checksums'));
END $$;
ALTER FUNCTION sendq.open_queue(q text) OWNER TO postgres;
CREATE FUNCTION sendq.part_through(q integer, id bigint, OUT packets bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
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
ALTER FUNCTION sendq.part_through(q integer, id bigint, OUT packets bigint, OUT bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.put_back(c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
  r record;
  wall bigint := (request->>'wallMs')::bigint;
  expires bigint := (request->>'expiresAtMs')::bigint;
  ends integer[] := '{}';
  payload bytea := '';
BEGIN
  packets := 0;
  bytes := 0;
  FOR r IN SELECT * FROM sendq.dead_letter d
    WHERE d.queue = c.id AND d.id BETWEEN from_id AND to_id AND d.reason <> 'damaged'
    ORDER BY d.id LIMIT 4096
  LOOP
    EXIT WHEN packets > 0 AND bytes + length(r.payload) > 524288;
    IF cardinality(ends) > 0 AND (
      length(payload) + length(r.payload) > 16384 OR cardinality(ends) = 4096
    ) THEN
      INSERT INTO sendq.run VALUES (c.id, c.last_id + packets,
        c.last_id + packets + 1 - cardinality(ends), wall, expires, ends, payload);
      ends := '{}';
      payload := '';
    END IF;
    payload := payload || r.payload;
    ends := ends || length(payload);
    packets := packets + 1;
    bytes := bytes + length(r.payload);
    DELETE FROM sendq.dead_letter WHERE queue = c.id AND id = r.id;
  END LOOP;
  IF packets > 0 THEN
    INSERT INTO sendq.run VALUES (c.id, c.last_id + packets,
      c.last_id + packets + 1 - cardinality(ends), wall, expires, ends, payload);
  END IF;
END $$;
ALTER FUNCTION sendq.put_back(c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.queue_id(q text) RETURNS integer
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
  found_id integer;
BEGIN
  SELECT id INTO found_id FROM sendq.queue WHERE name = q;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  RETURN found_id;
END $$;
ALTER FUNCTION sendq.queue_id(q text) OWNER TO postgres;
CREATE FUNCTION sendq.read(q text, after_id bigint, max_bytes bigint) RETURNS TABLE(last_id bigint, ends text, payload bytea, expires_at_ms bigint, enqueued_at_ms bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
  room bigint;
BEGIN
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  FOR last_id, ends, payload, expires_at_ms, enqueued_at_ms IN
    SELECT r.last_id, array_to_string(r.ends, ','), r.payload, r.expires_at_ms, r.enqueued_at_ms
    FROM sendq.run r WHERE r.queue = c.id AND r.last_id > greatest(after_id, c.removed_through)
    ORDER BY r.last_id LIMIT 1024
  LOOP
    RETURN NEXT;
    -- The first may lie before that id for the most part.
    room := CASE WHEN room IS NULL THEN max_bytes ELSE room - length(payload) END;
    EXIT WHEN room <= 0;
  END LOOP;
END $$;
ALTER FUNCTION sendq.read(q text, after_id bigint, max_bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.remove_through(q integer, removed_through bigint, through bigint, OUT packets bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
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
ALTER FUNCTION sendq.remove_through(q integer, removed_through bigint, through bigint, OUT packets bigint, OUT bytes bigint) OWNER TO postgres;
CREATE FUNCTION sendq.ring(q text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  -- For this transaction alone: nobody has to wait until a ring is on a disk.
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM pg_notify('sendq_' || sendq.queue_id(q), '');
END $$;
ALTER FUNCTION sendq.ring(q text) OWNER TO postgres;
CREATE FUNCTION sendq.settle(c sendq.queue, producer uuid, call bigint, answer jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
  oldest bigint;
BEGIN
  SELECT first_id INTO oldest FROM sendq.run
    WHERE queue = c.id AND last_id > c.removed_through ORDER BY last_id LIMIT 1;
  c.removed_through := greatest(c.removed_through, coalesce(oldest - 1, c.last_id));
  c.version := c.version + 1;
  UPDATE sendq.queue SET version = c.version, packets = c.packets, bytes = c.bytes,
    last_id = c.last_id, removed_through = c.removed_through, sent_through = c.sent_through,
    dropped_packets = c.dropped_packets, dropped_bytes = c.dropped_bytes,
    dead_packets = c.dead_packets, dead_bytes = c.dead_bytes,
    expired_packets = c.expired_packets, gave_up_packets = c.gave_up_packets,
    refused_packets = c.refused_packets, stored_bytes = c.stored_bytes,
    written_at_ms = c.written_at_ms, clock_offset_ms = c.clock_offset_ms
    WHERE id = c.id;
  INSERT INTO sendq.producer AS p VALUES (c.id, producer, call, answer)
    ON CONFLICT (queue, id) DO UPDATE SET call = excluded.call, answer = excluded.answer,
      called_at = excluded.called_at;
  RETURN answer || jsonb_build_object('counted', true, 'state', sendq.state_of(c));
END $$;
ALTER FUNCTION sendq.settle(c sendq.queue, producer uuid, call bigint, answer jsonb) OWNER TO postgres;
CREATE FUNCTION sendq.state(q text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
BEGIN
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  RETURN sendq.state_of(c);
END $$;
ALTER FUNCTION sendq.state(q text) OWNER TO postgres;
CREATE FUNCTION sendq.state_of(c sendq.queue) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  SELECT jsonb_build_object(
    'version', c.version, 'packets', c.packets, 'bytes', c.bytes, 'lastId', c.last_id,
    'removedThrough', c.removed_through, 'sentThrough', c.sent_through,
    'droppedPackets', c.dropped_packets, 'droppedBytes', c.dropped_bytes,
    'deadPackets', c.dead_packets, 'deadBytes', c.dead_bytes,
    'expiredPackets', c.expired_packets, 'gaveUpPackets', c.gave_up_packets,
    'damagedPackets', c.damaged_packets, 'refusedPackets', c.refused_packets,
    'storedBytes', c.stored_bytes, 'writtenAtMs', c.written_at_ms,
    'clockOffsetMs', c.clock_offset_ms,
    'oldestEnqueuedAtMs', (
      SELECT enqueued_at_ms FROM sendq.run
      WHERE queue = c.id AND last_id > c.removed_through ORDER BY last_id LIMIT 1
    )
  )
$$;
ALTER FUNCTION sendq.state_of(c sendq.queue) OWNER TO postgres;
CREATE FUNCTION sendq.version(q text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  SELECT version FROM sendq.queue WHERE id = sendq.queue_id(q)
$$;
ALTER FUNCTION sendq.version(q text) OWNER TO postgres;
CREATE FUNCTION sendq.void(q text, producer uuid, call bigint) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  c sendq.queue;
  had record;
BEGIN
  PERFORM sendq.allow('sendq_producer');
  SELECT * INTO c FROM sendq.queue WHERE name = q FOR UPDATE;
  SELECT p.call, p.answer INTO had FROM sendq.producer p
    WHERE p.queue = c.id AND p.id = void.producer;
  IF had.call = void.call THEN
    RETURN had.answer || jsonb_build_object('counted', true, 'state', sendq.state_of(c));
  END IF;
  INSERT INTO sendq.producer AS p VALUES (c.id, producer, call, '{"void": true}')
    ON CONFLICT (queue, id) DO UPDATE SET call = excluded.call, answer = excluded.answer,
      called_at = excluded.called_at;
  RETURN '{"void": true}';
END $$;
ALTER FUNCTION sendq.void(q text, producer uuid, call bigint) OWNER TO postgres;
CREATE TABLE sendq.lease (
    queue integer NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    beat bigint DEFAULT 0 NOT NULL,
    holder text,
    notice text DEFAULT ''::text NOT NULL
)
WITH (fillfactor='25');
ALTER TABLE sendq.lease OWNER TO postgres;
CREATE TABLE sendq.migration (
    version integer NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE sendq.migration OWNER TO postgres;
CREATE TABLE sendq.producer (
    queue integer NOT NULL,
    id uuid NOT NULL,
    call bigint NOT NULL,
    answer jsonb NOT NULL,
    called_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='25');
ALTER TABLE sendq.producer OWNER TO postgres;
ALTER TABLE sendq.queue ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sendq.queue_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE sendq.run (
    queue integer NOT NULL,
    last_id bigint NOT NULL,
    first_id bigint NOT NULL,
    enqueued_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    ends integer[] NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT run_check CHECK (((first_id >= 1) AND (first_id <= last_id))),
    CONSTRAINT run_check1 CHECK ((cardinality(ends) = ((last_id + 1) - first_id))),
    CONSTRAINT run_payload_check CHECK ((length(payload) > 0))
);
ALTER TABLE ONLY sendq.run ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE sendq.run OWNER TO postgres;
INSERT INTO sendq.dead_letter VALUES (1, 3, 1795765726484, 1795765726639, 'gave-up', false, 2, 'no', '\x7468726565');
INSERT INTO sendq.lease VALUES (1, 1, 2, NULL, '');
INSERT INTO sendq.migration VALUES (1, '2026-11-27 07:48:46.238891+00');
INSERT INTO sendq.queue OVERRIDING SYSTEM VALUE VALUES (1, 'outbox', 1, 4, 2, 7, 4, 1, 0, 0, 0, 1, 5, 0, 1, 0, 0, 15, 1795765726639, 0);
INSERT INTO sendq.run VALUES (1, 4, 4, 1795765726512, 2795765726510, '{4}', '\x666f7572');
INSERT INTO sendq.run VALUES (1, 2, 2, 1795765726484, NULL, '{3}', '\x74776f');
SELECT pg_catalog.setval('sendq.queue_id_seq', 1, true);
ALTER TABLE ONLY sendq.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (queue, id);
ALTER TABLE ONLY sendq.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (queue);
ALTER TABLE ONLY sendq.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (version);
ALTER TABLE ONLY sendq.producer
    ADD CONSTRAINT producer_pkey PRIMARY KEY (queue, id);
ALTER TABLE ONLY sendq.queue
    ADD CONSTRAINT queue_name_key UNIQUE (name);
ALTER TABLE ONLY sendq.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (id);
ALTER TABLE ONLY sendq.run
    ADD CONSTRAINT run_pkey PRIMARY KEY (queue, last_id);
CREATE INDEX run_by_expiry ON sendq.run USING btree (queue, expires_at_ms) WHERE (expires_at_ms IS NOT NULL);
ALTER TABLE ONLY sendq.dead_letter
    ADD CONSTRAINT dead_letter_queue_fkey FOREIGN KEY (queue) REFERENCES sendq.queue(id) ON DELETE CASCADE;
ALTER TABLE ONLY sendq.lease
    ADD CONSTRAINT lease_queue_fkey FOREIGN KEY (queue) REFERENCES sendq.queue(id) ON DELETE CASCADE;
ALTER TABLE ONLY sendq.producer
    ADD CONSTRAINT producer_queue_fkey FOREIGN KEY (queue) REFERENCES sendq.queue(id) ON DELETE CASCADE;
ALTER TABLE ONLY sendq.run
    ADD CONSTRAINT run_queue_fkey FOREIGN KEY (queue) REFERENCES sendq.queue(id) ON DELETE CASCADE;
GRANT USAGE ON SCHEMA sendq TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.allow(role text) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.bound_dead(q integer, over_packets bigint, over_bytes bigint, OUT packets bigint, OUT bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.commit(q text, producer uuid, call bigint, request jsonb, unit_packets integer[], unit_bytes integer[], run_packets integer[], run_bytes integer[], run_expires bigint[], ends integer[], payload bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.commit(q text, producer uuid, call bigint, request jsonb, unit_packets integer[], unit_bytes integer[], run_packets integer[], run_bytes integer[], run_expires bigint[], ends integer[], payload bytea) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.create_queue(q text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.create_queue(q text) TO sendq_operator;
REVOKE ALL ON FUNCTION sendq.cut_before(q integer, id bigint, removed_through bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.dead_letters(q text, after_id bigint, max_bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.dead_letters(q text, after_id bigint, max_bytes bigint) TO sendq_operator;
REVOKE ALL ON FUNCTION sendq.demand(durability text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.demand(durability text) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.due(q text, after_id bigint, now_ms bigint, by_time boolean, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.due(q text, after_id bigint, now_ms bigint, by_time boolean, max_rows integer) TO sendq_sender;
REVOKE ALL ON FUNCTION sendq.edit(q text, producer uuid, call bigint, request jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.edit(q text, producer uuid, call bigint, request jsonb) TO sendq_sender;
REVOKE ALL ON FUNCTION sendq.excise(c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.forget(q text, producer uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.forget(q text, producer uuid) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.id_to_drop(q integer, removed_through bigint, over_packets bigint, over_bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.lease_beat(q text, held_epoch bigint, words text, durability text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.lease_beat(q text, held_epoch bigint, words text, durability text) TO sendq_sender;
REVOKE ALL ON FUNCTION sendq.lease_leave(q text, held_epoch bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.lease_leave(q text, held_epoch bigint) TO sendq_sender;
REVOKE ALL ON FUNCTION sendq.lease_look(q text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.lease_look(q text) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.lease_take(q text, seen_epoch bigint, seen_beat bigint, who text, durability text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.lease_take(q text, seen_epoch bigint, seen_beat bigint, who text, durability text) TO sendq_sender;
REVOKE ALL ON FUNCTION sendq.open_queue(q text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.open_queue(q text) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.part_through(q integer, id bigint, OUT packets bigint, OUT bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.put_back(c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.queue_id(q text) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.read(q text, after_id bigint, max_bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.read(q text, after_id bigint, max_bytes bigint) TO sendq_sender;
REVOKE ALL ON FUNCTION sendq.remove_through(q integer, removed_through bigint, through bigint, OUT packets bigint, OUT bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.ring(q text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.ring(q text) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.settle(c sendq.queue, producer uuid, call bigint, answer jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.state(q text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.state(q text) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.state_of(c sendq.queue) FROM PUBLIC;
REVOKE ALL ON FUNCTION sendq.version(q text) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.version(q text) TO sendq_producer;
REVOKE ALL ON FUNCTION sendq.void(q text, producer uuid, call bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION sendq.void(q text, producer uuid, call bigint) TO sendq_producer;
GRANT SELECT ON TABLE sendq.migration TO sendq_operator;
