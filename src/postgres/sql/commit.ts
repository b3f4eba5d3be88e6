/**
 * Storing and removing, in one transaction.
 *
 * @module
 */

/** The function that a `CommitRequest` becomes. */
export const COMMIT: string = `
CREATE FUNCTION sendq.commit(
  q text, producer uuid, call bigint, request jsonb,
  unit_packets integer[], unit_bytes integer[],
  run_packets integer[], run_bytes integer[], run_expires bigint[], ends integer[], payload bytea
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
  reserve bigint := 0;
  admitted_packets bigint := cardinality(ends);
  admitted_bytes bigint := length(payload);
  dropped_packets bigint := 0;
  dropped_bytes bigint := 0;
  dropped_through bigint := 0;
  over_packets bigint;
  over_bytes bigint;
  first bigint;
  next_end integer := 1;
  next_byte integer := 1;
BEGIN
  PERFORM sendq.demand(request->>'durability');
  PERFORM sendq.allow('sendq_producer');
  -- Ids in the order of commits. It also makes a repeated question wait for a standby.
  SELECT * INTO c FROM sendq.queue WHERE name = q FOR UPDATE;
  -- One that was made anew under the old name is another one.
  IF NOT FOUND OR c.id <> (request->>'queueId')::integer THEN
    RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001';
  END IF;
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

  holds := sendq.holds(c, request->'fence', through > 0);
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
    RAISE EXCEPTION 'the runs are not these packets' USING ERRCODE = 'SQ006';
  END IF;

  over_packets := c.dead_packets - (request->>'maxDeadPackets')::bigint;
  over_bytes := c.dead_bytes - (request->>'maxDeadBytes')::bigint;
  IF over_packets > 0 OR over_bytes > 0 THEN
    SELECT * INTO gone FROM sendq.bound_dead(c.id, over_packets, over_bytes);
    c.dead_packets := c.dead_packets - gone.packets;
    c.dead_bytes := c.dead_bytes - gone.bytes;
    dropped_packets := dropped_packets + gone.packets;
    dropped_bytes := dropped_bytes + gone.bytes;
  END IF;
  c.dropped_packets := c.dropped_packets + dropped_packets;
  c.dropped_bytes := c.dropped_bytes + dropped_bytes;

  IF (c.last_id, c.removed_through, c.sent_through, c.clock_offset_ms, c.dropped_packets)
    = (before.last_id, before.removed_through, before.sent_through, before.clock_offset_ms,
      before.dropped_packets)
  THEN
    RETURN jsonb_build_object('first', first, 'droppedPackets', 0, 'counted', false,
      'state', sendq.state_of(before));
  END IF;
  IF holds THEN
    reserve := least((request->>'reserveThrough')::bigint, c.last_id);
  END IF;
  RETURN sendq.settle(c, producer, call, jsonb_build_object(
    'first', first, 'reservedThrough', reserve, 'droppedPackets', dropped_packets,
    'droppedBytes', dropped_bytes, 'droppedThrough', dropped_through
  ), reserve);
END $$;
`;
