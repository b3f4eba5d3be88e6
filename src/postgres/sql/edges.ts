/**
 * Version 4: edges, which are files of other machines whose packets are forwarded here.
 *
 * - `edge`: one row a file. `id` is what the file says of itself, `name` what people call
 *   it; `NULL`: another file has taken its name. `through` is the highest of the file's own
 *   ids that is stored here; `mark_ms` and `mark_crc` are when the file has stored that
 *   packet, and its checksum: a file in which it is another one is not the same any more.
 *   `epoch` grows each time that a forwarder begins, or begins again: what was asked under an
 *   earlier one, and is still on its way, does nothing.
 *
 * SQLSTATE of what is raised here: SQ008, the epoch is over or there is no such edge.
 */

import { AS_OWNER, lockQueue } from "./shared.ts";

/** What version 4 adds to the tables. */
export const EDGE_TABLE: string = `
CREATE TABLE sendq.edge (
  queue integer NOT NULL REFERENCES sendq.queue ON DELETE CASCADE,
  id uuid NOT NULL,
  name text,
  epoch bigint NOT NULL,
  through bigint NOT NULL DEFAULT 0,
  mark_ms bigint NOT NULL DEFAULT 0,
  mark_crc bigint NOT NULL DEFAULT 0,
  packets bigint NOT NULL DEFAULT 0,
  bytes bigint NOT NULL DEFAULT 0,
  made_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  address text,
  notice jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (queue, id),
  UNIQUE (queue, name)
) WITH (fillfactor = 25);
`;

/** The functions, in the order in which they use each other. */
export const EDGES: string = `
-- A forwarder begins. What it asked before, and is still on its way, does nothing from here on.
-- But only where the forwarder has looked at what is known of its file up to here: else it is only
-- told, and nothing is changed, so that a file that is refused leaves no trace.
CREATE FUNCTION sendq.edge_open(
  q text, edge uuid, edge_name text, takes_name boolean, looked_through bigint, durability text
) RETURNS jsonb LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  queue_id integer;
  e sendq.edge;
  opens boolean;
BEGIN
  PERFORM sendq.demand(durability);
  PERFORM sendq.allow('sendq_producer');
  -- Behind every commit of the forwarder before.
  SELECT id INTO queue_id FROM sendq.queue WHERE name = q FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  SELECT * INTO e FROM sendq.edge
    WHERE queue = queue_id AND name = edge_name AND id <> edge_open.edge;
  IF FOUND AND NOT takes_name THEN
    RETURN jsonb_build_object('namesake', e.id, 'through', e.through,
      'seenAgoMs', sendq.now_ms() - floor(extract(epoch FROM e.seen_at) * 1000)::bigint);
  END IF;
  SELECT * INTO e FROM sendq.edge WHERE queue = queue_id AND id = edge_open.edge;
  opens := coalesce(looked_through = coalesce(e.through, 0), false);
  IF opens THEN
    UPDATE sendq.edge SET name = NULL
      WHERE queue = queue_id AND name = edge_name AND id <> edge_open.edge;
    INSERT INTO sendq.edge AS known (queue, id, name, epoch, address)
      VALUES (queue_id, edge, edge_name, 1, host(inet_client_addr()))
      ON CONFLICT (queue, id) DO UPDATE SET name = excluded.name, epoch = known.epoch + 1,
        seen_at = excluded.seen_at, address = excluded.address
      RETURNING * INTO e;
  END IF;
  RETURN jsonb_build_object('isOpen', opens, 'epoch', e.epoch,
    'through', e.through, 'markMs', e.mark_ms, 'markCrc', e.mark_crc,
    'version', (SELECT max(version) FROM sendq.migration));
END $$;

-- Stores packets of an edge, all of them or none, where it has exactly those before them.
-- How long they are worth sending is left in milliseconds, 0 for ever: an edge's clock may be wrong.
CREATE FUNCTION sendq.edge_forward(
  q text, edge uuid, terms jsonb,
  run_packets integer[], run_bytes integer[], run_left bigint[], ends integer[], payload bytea
) RETURNS jsonb LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  e sendq.edge;
  call bigint;
  last bigint := (terms->>'through')::bigint;
  room_packets bigint;
  room_bytes bigint;
  stored integer := cardinality(ends);
BEGIN
  PERFORM sendq.demand(terms->>'durability');
  PERFORM sendq.allow('sendq_producer');
${lockQueue()}
  SELECT * INTO e FROM sendq.edge WHERE queue = c.id AND id = edge_forward.edge FOR UPDATE;
  IF NOT FOUND OR e.epoch <> (terms->>'epoch')::bigint THEN
    RAISE EXCEPTION 'another forwarder has begun with this edge' USING ERRCODE = 'SQ008';
  END IF;
  IF e.through <> (terms->>'after')::bigint THEN
    RAISE EXCEPTION 'it has ids up to % of this edge, and not %', e.through, terms->>'after'
      USING ERRCODE = 'SQ008';
  END IF;
  room_packets := (terms->>'maxPackets')::bigint - c.packets;
  room_bytes := (terms->>'maxBytes')::bigint - c.bytes;
  IF stored > room_packets OR length(payload) > room_bytes THEN
    RETURN jsonb_build_object('roomPackets', room_packets, 'roomBytes', room_bytes);
  END IF;
  SELECT p.call INTO call FROM sendq.producer p WHERE p.queue = c.id AND p.id = edge_forward.edge;
  PERFORM sendq.commit(
    q, edge, coalesce(call, 0) + 1, c.id, terms->>'durability', NULL, 0,
    -- How many dead letters are kept is for others to say.
    9007199254740991, 9007199254740991, 0, NULL, 0,
    (terms->>'maxPackets')::bigint, (terms->>'maxBytes')::bigint, 'reject',
    ARRAY[stored], ARRAY[length(payload)], run_packets, run_bytes,
    run_left, ends, payload
  );
  UPDATE sendq.edge AS known SET through = last, mark_ms = (terms->>'markMs')::bigint,
    mark_crc = (terms->>'markCrc')::bigint, packets = known.packets + stored,
    bytes = known.bytes + length(payload), seen_at = now(), notice = terms->'notice'
    WHERE queue = c.id AND id = edge_forward.edge;
  RETURN jsonb_build_object('through', last);
END $$;

-- What a forwarder says of itself, and that it lives. Nobody has to wait until that is on a disk.
CREATE FUNCTION sendq.edge_beat(q text, edge uuid, held_epoch bigint, words jsonb)
RETURNS boolean LANGUAGE plpgsql ${AS_OWNER} AS $$
BEGIN
  PERFORM sendq.allow('sendq_producer');
  PERFORM set_config('synchronous_commit', 'off', true);
  UPDATE sendq.edge SET seen_at = now(), notice = words
    WHERE queue = sendq.queue_id(q) AND id = edge_beat.edge AND epoch = held_epoch;
  RETURN FOUND;
END $$;

CREATE FUNCTION sendq.edges(q text) RETURNS TABLE (
  id uuid, name text, through bigint, packets bigint, bytes bigint, seen_ago_ms bigint,
  address text, notice jsonb
) LANGUAGE sql STABLE ${AS_OWNER} AS $$
  SELECT id, name, through, packets, bytes,
    greatest(0, floor(extract(epoch FROM clock_timestamp() - seen_at) * 1000)::bigint),
    address, notice
  FROM sendq.edge WHERE queue = sendq.queue_id(q) ORDER BY name NULLS LAST, id
$$;

GRANT EXECUTE ON FUNCTION sendq.edge_open, sendq.edge_forward, sendq.edge_beat, sendq.edges
  TO sendq_producer;
`;
