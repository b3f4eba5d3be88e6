/** Changes in the middle of a queue, or of its dead letters. */

import { answerOnce, AS_OWNER, KEEP_TIME, lockQueue } from "./shared.ts";

/** How large a run is that dead letters are put back into, as one that is stored. */
const RUN_BYTES = 16 * 1024;
const RUN_PACKETS = 4096;
/** How much one transaction puts back at most; at least one letter. */
const MOVE_BYTES = 512 * 1024;
const MOVE_PACKETS = 4096;

/** The function that an `EditRequest` becomes. */
export const EDIT: string = `
-- Makes dead letters of a row that is not as it was stored, if it is. What it says of itself
-- cannot be trusted, so that everything is counted anew.
CREATE FUNCTION sendq.set_aside(INOUT c sendq.queue, row_id bigint, wall bigint, OUT told jsonb)
LANGUAGE plpgsql AS $$
DECLARE
  r sendq.run;
  is_split boolean;
BEGIN
  SELECT * INTO r FROM sendq.run WHERE queue = c.id AND last_id = row_id;
  IF NOT FOUND OR r.last_id <= c.removed_through OR sendq.fault_of_run(r) IS NULL THEN RETURN; END IF;
  is_split := sendq.ascends(r.ends) AND r.ends[cardinality(r.ends)] = length(r.payload)
    AND cardinality(r.ends) = r.last_id + 1 - r.first_id;
  DELETE FROM sendq.run WHERE queue = c.id AND last_id = row_id;
  -- One by one, where it says where they end; else the last one has the bytes of all, and the
  -- others none.
  IF NOT is_split THEN
    SELECT greatest(r.first_id, r.last_id - 4095, 1 + coalesce(max(last_id), 0)) INTO r.first_id
      FROM sendq.run WHERE queue = c.id AND last_id < row_id;
    r.first_id := least(r.first_id, r.last_id);
    r.ends := array_fill(0, ARRAY[(r.last_id - r.first_id)::integer]) || length(r.payload);
  END IF;
  WITH stored AS (
    INSERT INTO sendq.dead_letter
      SELECT c.id, r.first_id + i - 1, r.enqueued_at_ms, wall, 'damaged',
        r.first_id + i - 1 <= c.sent_through, 0, NULL,
        substring(r.payload FROM coalesce(r.ends[i - 1], 0) + 1
          FOR r.ends[i] - coalesce(r.ends[i - 1], 0))
      FROM generate_subscripts(r.ends, 1) AS i WHERE r.first_id + i - 1 > c.removed_through
      RETURNING id, length(payload) AS size
  )
  SELECT jsonb_build_object('packets', count(*), 'bytes', sum(size), 'firstId', min(id),
    'lastId', max(id)) INTO told FROM stored;
  c.damaged_packets := c.damaged_packets + (told->>'packets')::bigint;
  c.dead_packets := c.dead_packets + (told->>'packets')::bigint;
  c.dead_bytes := c.dead_bytes + (told->>'bytes')::bigint;
  SELECT coalesce(sum(last_id + 1 - first_id), 0), coalesce(sum(length(payload)), 0)
    INTO c.packets, c.bytes FROM sendq.run WHERE queue = c.id AND last_id > c.removed_through;
  SELECT c.packets - p.packets, c.bytes - p.bytes INTO c.packets, c.bytes
    FROM sendq.part_through(c.id, c.removed_through) AS p;
END $$;

-- Takes a range out of the middle; into the dead letters, where there is a reason.
CREATE FUNCTION sendq.excise(
  c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint
) LANGUAGE plpgsql AS $$
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
      SELECT c.id, r.first_id + i - 1, r.enqueued_at_ms, c.written_at_ms,
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

-- Puts the first dead letters of a range behind all packets, under new ids.
CREATE FUNCTION sendq.put_back(
  c sendq.queue, from_id bigint, to_id bigint, request jsonb, OUT packets bigint, OUT bytes bigint
) LANGUAGE plpgsql AS $$
DECLARE
  r record;
  wall bigint := c.written_at_ms;
  expires bigint := sendq.expiry_of(c, (request->>'leftMs')::bigint);
  ends integer[] := '{}';
  payload bytea := '';
BEGIN
  packets := 0;
  bytes := 0;
  FOR r IN SELECT * FROM sendq.dead_letter d
    WHERE d.queue = c.id AND d.id BETWEEN from_id AND to_id AND d.reason <> 'damaged'
      AND sendq.fault_of_letter(d) IS NULL
    ORDER BY d.id LIMIT ${MOVE_PACKETS}
  LOOP
    EXIT WHEN packets > 0 AND bytes + length(r.payload) > ${MOVE_BYTES};
    IF cardinality(ends) > 0 AND (
      length(payload) + length(r.payload) > ${RUN_BYTES} OR cardinality(ends) = ${RUN_PACKETS}
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

CREATE FUNCTION sendq.edit(
  q text, producer uuid, call bigint, queue_id integer, request jsonb
)
RETURNS jsonb LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  before sendq.queue;
  had record;
  gone record;
  range record;
  row_id bigint;
  aside record;
  set_aside jsonb := '[]';
  kind text := request->>'kind';
  wall bigint;
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
${lockQueue(" AND id = queue_id")}${answerOnce("edit")}
  before := c;
  -- Whatever is taken out of the middle may be the oldest.
  c.oldest_ms := NULL;
  -- Who removes packets without a lease knows that nobody sends; who has had one knows it as
  -- long as it holds.
  holds := sendq.holds(c, request->'fence', kind = 'bury'
    OR (kind = 'remove-packets' AND jsonb_typeof(request->'fence') = 'object'));
  IF holds THEN
    c.sent_through := greatest(
      c.sent_through, least((request->>'sentThrough')::bigint, c.last_id)
    );
  END IF;
${KEEP_TIME}
  FOR range IN SELECT (value->>'firstId')::bigint AS first, (value->>'lastId')::bigint AS last
    FROM jsonb_array_elements(request->'ranges')
  LOOP
    IF kind IN ('bury', 'remove-packets', 'set-aside') THEN
      -- A damaged row must not be cut, and be sound from then on.
      FOR row_id IN SELECT r.last_id FROM sendq.run r WHERE r.queue = c.id
        AND r.last_id >= range.first AND r.first_id <= range.last
        AND sendq.fault_of_run(r) IS NOT NULL
      LOOP
        SELECT * INTO aside FROM sendq.set_aside(c, row_id, c.written_at_ms);
        c := aside.c;
        set_aside := set_aside || coalesce(aside.told, '[]');
      END LOOP;
    END IF;
    CASE kind
      WHEN 'set-aside' THEN
        SELECT 0 AS packets, 0 AS bytes INTO gone;
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
          WHERE queue = c.id AND id BETWEEN range.first AND range.last
          AND (reason = 'damaged' OR sendq.fault_of_letter(dead_letter) IS NOT NULL);
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

  IF packets = 0 AND set_aside = '[]' AND (c.clock_offset_ms, c.dropped_packets)
    = (before.clock_offset_ms, before.dropped_packets)
  THEN
    RETURN jsonb_build_object('packets', 0, 'bytes', 0, 'damagedPackets', damaged,
      'droppedPackets', 0, 'counted', false, 'state', sendq.state_of(before));
  END IF;
  RETURN sendq.finish(c, producer, call, jsonb_build_object(
    'packets', packets, 'bytes', bytes, 'damagedPackets', damaged, 'setAside', set_aside,
    'firstId', CASE WHEN kind = 'requeue' AND packets > 0 THEN before.last_id + 1 END,
    'droppedPackets', dropped_packets, 'droppedBytes', dropped_bytes, 'droppedThrough', 0
  ), 0);
END $$;

-- Before an error is told for a question that may still be on its way: from here on it does
-- nothing any more. The answer is there if it was done after all.
CREATE FUNCTION sendq.void(q text, producer uuid, call bigint)
RETURNS jsonb LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  had record;
BEGIN
  PERFORM sendq.allow('sendq_producer');
${lockQueue()}
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
`;
