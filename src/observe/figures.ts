/**
 * The figures that are published about a sender: one table, from which both the
 * OpenTelemetry instruments and `/metrics` are made, and which `docs/METRICS.md`
 * repeats for people.
 *
 * Names and units follow the OpenTelemetry semantic conventions: lower case,
 * dots between namespaces, no unit in a name, units in UCUM.
 */

import type { ReplicationStats, StandbyStats } from "../base/cluster_stats.ts";
import type { VerdictKind } from "../delivery/liveness.ts";
import type { SenderState, SenderStats } from "../delivery/status.ts";
import type { Condition } from "../sender/condition.ts";
import type { Sender } from "../sender/sender.ts";
import { verdictToTell } from "../sender/verdict_meaning.ts";

export interface QueueReading {
  readonly stats: Pick<SenderStats, "queue">;
  /** The wall clock, in milliseconds since 1970. */
  readonly wallMs: number;
  /** The size of the queue's file; undefined where it may not be looked at. */
  readonly fileBytes: number | undefined;
}

export interface Reading extends QueueReading {
  readonly stats: SenderStats;
  readonly state: SenderState;
  /** Undefined where there is none to tell. */
  readonly verdict: VerdictKind | undefined;
  readonly tone: Condition["tone"];
}

export interface Point {
  readonly value: number;
  /** What tells it apart from the figure's other points. */
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface Figure<R = Reading> {
  /** OpenTelemetry's name, for example `"sendq.queue.size"`. */
  readonly name: string;
  /** UCUM: `"By"`, `"s"`, `"1"`, or what is counted, in braces. */
  readonly unit: string;
  /** `"counter"` only grows; `"updowncounter"` can be added up over senders; `"gauge"` cannot. */
  readonly kind: "counter" | "updowncounter" | "gauge";
  /** One sentence. */
  readonly description: string;
  /** Its points at this moment; none where there is nothing to say. */
  readonly points: (reading: R) => readonly Point[];
}

/** Makes figures of a kind that have one point, or none where there is nothing to say. */
function ofKind(kind: Figure["kind"]) {
  return <R = Reading>(
    name: string,
    unit: string,
    description: string,
    read: (reading: R) => number | undefined,
  ): Figure<R> => ({
    ...{ name, unit, kind, description },
    points(reading) {
      const value = read(reading);
      return value === undefined ? [] : [{ value }];
    },
  });
}

export const counter = ofKind("counter");
const upDownCounter = ofKind("updowncounter");
export const gauge = ofKind("gauge");

/** For how many seconds something has lasted; `undefined`: it has not begun. */
export function secondsSince(sinceMs: number | undefined, wallMs: number): number | undefined {
  return sinceMs === undefined ? undefined : Math.max(0, wallMs - sinceMs) / 1000;
}

const STATES: Record<SenderState, true> = {
  "idle": true,
  "connecting": true,
  "connected": true,
  "ending": true,
  "backing-off": true,
  "closed": true,
};

const TONES: Record<Condition["tone"], true> = {
  good: true,
  idle: true,
  busy: true,
  warning: true,
  bad: true,
};

const LEVELS: Record<SenderStats["confirmedBy"], true> = {
  kernel: true,
  reader: true,
  answer: true,
};

const VERDICTS: Record<VerdictKind, true> = {
  "healthy": true,
  "slow": true,
  "peer-stalled": true,
  "no-response": true,
  "path-dead": true,
  "local-fault": true,
  "peer-closed": true,
  "closes-early": true,
  "wire-failed": true,
  "ended-here": true,
  "self-connected": true,
  "session-refused": true,
  "packet-refused": true,
  "wrong-answer": true,
  "lookup-hangs": true,
  "removal-stuck": true,
  "reset": true,
  "timed-out": true,
};

const REPLICATION: Record<ReplicationStats["state"], true> = {
  replicated: true,
  blocked: true,
  alone: true,
  unknown: true,
};

/** Those of a queue, whoever takes packets out of it. */
export const QUEUE_FIGURES: readonly Figure<QueueReading>[] = [
  upDownCounter(
    "sendq.queue.packets",
    "{packet}",
    "Packets on disk, those in flight and held among them.",
    ({ stats }) => stats.queue.packets,
  ),
  upDownCounter(
    "sendq.queue.size",
    "By",
    "Payload bytes of the packets on disk.",
    ({ stats }) => stats.queue.bytes,
  ),
  upDownCounter(
    "sendq.queue.file.size",
    "By",
    "Size of the queue's file, without its write-ahead log.",
    ({ fileBytes }) => fileBytes,
  ),
  gauge(
    "sendq.queue.oldest_packet.age",
    "s",
    "Time since the oldest packet on disk was stored; 0 when there is none.",
    ({ stats, wallMs }) => secondsSince(stats.queue.oldestEnqueuedAtMs, wallMs) ?? 0,
  ),
  upDownCounter(
    "sendq.queue.waiting.packets",
    "{packet}",
    "Packets of this process that wait to be stored.",
    ({ stats }) => stats.queue.waitingPackets,
  ),
  gauge(
    "sendq.queue.store_failure.age",
    "s",
    "For how long this process could store nothing that it tried to; 0: it can.",
    ({ stats, wallMs }) => secondsSince(stats.queue.storeFailure?.sinceMs, wallMs) ?? 0,
  ),
  counter(
    "sendq.queue.stored.packets",
    "{packet}",
    "Packets stored by any process, since the queue's file was made.",
    ({ stats }) => stats.queue.lastId,
  ),
  counter(
    "sendq.queue.dropped.packets",
    "{packet}",
    "Packets that a full queue removed before they were confirmed, since its file was made.",
    ({ stats }) => stats.queue.droppedPackets,
  ),
  counter(
    "sendq.queue.expired.packets",
    "{packet}",
    "Packets that expired unconfirmed, since the queue's file was made.",
    ({ stats }) => stats.queue.expiredPackets,
  ),
  counter(
    "sendq.queue.given_up.packets",
    "{packet}",
    "Packets given up after maxAttempts, since the queue's file was made.",
    ({ stats }) => stats.queue.gaveUpPackets,
  ),
  counter(
    "sendq.queue.damaged.packets",
    "{packet}",
    "Packets found damaged in the queue's file, since it was made.",
    ({ stats }) => stats.queue.damagedPackets,
  ),
  counter(
    "sendq.queue.refused.packets",
    "{packet}",
    "Packets that the server refused, since the queue's file was made.",
    ({ stats }) => stats.queue.refusedPackets,
  ),
  upDownCounter(
    "sendq.dead_letter.packets",
    "{packet}",
    "Dead letters in the queue's file: expired, given up, damaged or refused, and kept.",
    ({ stats }) => stats.queue.deadPackets,
  ),
  upDownCounter(
    "sendq.dead_letter.size",
    "By",
    "Payload bytes of the dead letters.",
    ({ stats }) => stats.queue.deadBytes,
  ),
];

/** Every figure of a sender, in the order in which they are published. */
export const FIGURES: readonly Figure[] = [
  ...QUEUE_FIGURES,
  upDownCounter(
    "sendq.delivery.in_flight.packets",
    "{packet}",
    "Packets given to the present connection and not acknowledged in full.",
    ({ stats }) => stats.inFlightPackets,
  ),
  upDownCounter(
    "sendq.delivery.in_flight.size",
    "By",
    "Bytes given to the present connection and not acknowledged.",
    ({ stats }) => stats.inFlightBytes,
  ),
  upDownCounter(
    "sendq.delivery.held.packets",
    "{packet}",
    "Packets acknowledged in full that are kept until holdMs has passed, or they are answered.",
    ({ stats }) => stats.heldPackets,
  ),
  counter(
    "sendq.delivery.drained.packets",
    "{packet}",
    "Packets acknowledged in full; one that was sent twice may count twice.",
    ({ stats }) => stats.drainedPackets,
  ),
  counter(
    "sendq.delivery.redelivered.packets",
    "{packet}",
    "Packets sent again after an unclean end or a restart.",
    ({ stats }) => stats.redeliveredPackets,
  ),
  {
    name: "sendq.delivery.io",
    unit: "By",
    kind: "counter",
    description:
      "Bytes acknowledged by the server's TCP (transmit), and received from it (receive).",
    points: ({ stats }) => [
      { value: stats.ackedBytes, attributes: { "network.io.direction": "transmit" } },
      { value: stats.receivedBytes, attributes: { "network.io.direction": "receive" } },
    ],
  },
  counter(
    "sendq.connection.established",
    "{connection}",
    "Connections made.",
    ({ stats }) => stats.connections,
  ),
  counter(
    "sendq.connection.failed_attempts",
    "{attempt}",
    "Connection attempts that failed.",
    ({ stats }) => stats.failedAttempts,
  ),
  gauge(
    "sendq.path.rtt",
    "s",
    "Smoothed round-trip time of the present connection, by the kernel.",
    ({ stats: { path } }) => path && path.rttMs / 1000,
  ),
  gauge(
    "sendq.path.silence",
    "s",
    "How long bytes have been outstanding without any sign of the server.",
    ({ stats: { path } }) => path && path.silenceMs / 1000,
  ),
  upDownCounter(
    "sendq.path.send_queue.size",
    "By",
    "The kernel's Send-Q: bytes written to the connection and not acknowledged.",
    ({ stats: { path } }) => path?.sendQueueBytes ?? 0,
  ),
  upDownCounter(
    "sendq.path.not_sent.size",
    "By",
    "The part of Send-Q that was never put on the wire.",
    ({ stats: { path } }) => path?.notSentBytes ?? 0,
  ),
  gauge(
    "sendq.path.retransmitted.segments",
    "{segment}",
    "Segments retransmitted in the present connection's life.",
    ({ stats: { path } }) => path?.retransmittedSegments,
  ),
  {
    name: "sendq.tls.session",
    unit: "1",
    kind: "updowncounter",
    description: "1 while a connection over TLS is up, with its version and cipher suite.",
    points: ({ stats: { path } }) =>
      path?.tls === undefined ? [] : [{
        value: 1,
        attributes: {
          "tls.protocol.version": path.tls.version.replace("TLSv", ""),
          "tls.cipher": path.tls.cipherSuite,
        },
      }],
  },
  {
    name: "sendq.tls.certificate.remaining",
    unit: "s",
    kind: "gauge",
    description: "Time until a certificate of the present connection expires.",
    points: ({ stats: { path }, wallMs }) => {
      const { serverCertificateExpiresAtMs: server, clientCertificateExpiresAtMs: client } =
        path?.tls ?? {};
      return Object.entries({ server, client }).flatMap(([side, expiresAtMs]) =>
        expiresAtMs === undefined ? [] : [{
          value: (expiresAtMs - wallMs) / 1000,
          attributes: { "sendq.tls.side": side },
        }]
      );
    },
  },
  {
    name: "sendq.state",
    unit: "1",
    kind: "updowncounter",
    description: "1 for what the sender is doing, 0 for what it is not.",
    points: ({ state }) => oneHot("sendq.state.name", STATES, state),
  },
  {
    name: "sendq.condition",
    unit: "1",
    kind: "updowncounter",
    description: "1 for how the sender stands, as a person would say it, 0 for the others.",
    points: ({ tone }) => oneHot("sendq.condition.name", TONES, tone),
  },
  {
    name: "sendq.confirmation",
    unit: "1",
    kind: "updowncounter",
    description: "1 for what confirms a packet, 0 for what does not.",
    points: ({ stats }) => oneHot("sendq.confirmation.name", LEVELS, stats.confirmedBy),
  },
  {
    name: "sendq.verdict",
    unit: "1",
    kind: "updowncounter",
    description: "1 for the verdict on the path, 0 for the others; none without a connection.",
    points: ({ verdict }) =>
      verdict === undefined ? [] : oneHot("sendq.verdict.name", VERDICTS, verdict),
  },
  {
    name: "sendq.lease.valid",
    unit: "1",
    kind: "updowncounter",
    description: "1 while the sender's lease on a queue in a database is valid, 0 while it is not.",
    points: ({ stats: { cluster } }) =>
      cluster?.lease == null ? [] : [{
        value: cluster.lease.validForMs > 0 ? 1 : 0,
        attributes: { "sendq.lease.holder": cluster.lease.holder },
      }],
  },
  gauge(
    "sendq.lease.epoch",
    "1",
    "How many tenures the queue has had, with this one.",
    ({ stats: { cluster } }) => cluster?.lease?.epoch,
  ),
  gauge(
    "sendq.lease.beat.age",
    "s",
    "Time since the last beat was asked for that the database has taken.",
    ({ stats: { cluster } }) => cluster?.lease == null ? undefined : cluster.lease.beatAgeMs / 1000,
  ),
  {
    name: "sendq.replication.state",
    unit: "1",
    kind: "updowncounter",
    description: "1 for how the database is copied to its standbys, 0 for how it is not.",
    points: ({ stats: { cluster } }) =>
      cluster === undefined
        ? []
        : oneHot("sendq.replication.state.name", REPLICATION, cluster.replication.state),
  },
  {
    name: "sendq.replication.lag.size",
    unit: "By",
    kind: "gauge",
    description: "What a standby does not have on its disk yet of the database's log.",
    points: (reading) => ofStandbys(reading, ({ lagBytes }) => lagBytes),
  },
  {
    name: "sendq.replication.lag.time",
    unit: "s",
    kind: "gauge",
    description: "How long the last commits took to get onto a standby's disk.",
    points: (reading) =>
      ofStandbys(reading, ({ lagMs }) => lagMs === null ? undefined : lagMs / 1000),
  },
  upDownCounter(
    "sendq.replication.weak",
    "1",
    "1 while a commit means less than durability asks for, else 0.",
    ({ stats: { cluster } }) =>
      cluster === undefined ? undefined : cluster.weakness === null ? 0 : 1,
  ),
];

/** Reads a sender. Costs microseconds; the queue's table is not touched. */
export function readSender(sender: Sender, wallMs: number): Reading {
  return {
    stats: sender.stats(),
    state: sender.state,
    verdict: verdictToTell(sender.state, sender.verdict)?.kind,
    tone: sender.condition.tone,
    wallMs,
    fileBytes: fileBytesOf(sender.queue.path),
  };
}

/** Looks, and never opens: closing a descriptor of the file would drop SQLite's locks. */
export function fileBytesOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).size;
  } catch {
    return undefined; // Not permitted, or gone: no reason to publish nothing else.
  }
}

function ofStandbys(
  { stats: { cluster } }: Reading,
  read: (standby: StandbyStats) => number | undefined,
): readonly Point[] {
  // Two of one name would be the same point twice: the one that is further behind is told.
  const behind = new Map<string, number>();
  for (const standby of cluster?.replication.standbys ?? []) {
    const value = read(standby);
    if (value === undefined) continue;
    behind.set(standby.name, Math.max(value, behind.get(standby.name) ?? 0));
  }
  return [...behind].map(([name, value]) => ({
    value,
    attributes: { "sendq.standby.name": name },
  }));
}

/** One point a name: 1 for the present one. */
export function oneHot(
  key: string,
  names: Record<string, true>,
  present: string,
): readonly Point[] {
  return Object.keys(names).map((name) => ({
    value: name === present ? 1 : 0,
    attributes: { [key]: name },
  }));
}
